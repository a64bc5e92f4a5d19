"""A backbone: a trained network without its head, and how images are prepared for it.

It comes from one of the user's runs, from a library's pretrained weights, or from a safetensors file. Its weights are
kept as they are; `network` puts them under a new head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ... import data, models
from ...data import Dataset, InputFormat
from ...errors import ModelFileError
from ..core import checkpoint
from ..core.normalisation import Normalisation
from ..runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network's backbone and its preparation of images.

    Attributes:
        name: as it was asked for.
        text: the model's text without its head.
        tensors: the backbone's weights and buffers by name, as in a `state_dict`.
        form: the images' size, channels and way of resizing.
        normalisation: their normalisation.
        width: D, the number of features.
        head: the path of a library's dense head; empty for a text, whose head is at its end.
        behind: whether that head is behind the library's whole network, without its own heads, see `OnFeatures`.
        normalised: in words, where the normalisation is from.
        run: the run that it comes from, if it does.
    """

    name: str
    text: str
    tensors: dict[str, Tensor] = field(repr=False)
    form: InputFormat
    normalisation: Normalisation
    width: int
    head: str = ""
    behind: bool = False
    normalised: str = "normalised as it was trained"
    run: Run | None = None

    @property
    def input(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.form.height, self.form.width, self.form.channels

    @property
    def digest(self) -> str:
        """A hash of the network before the head: its text and every weight, 64 hexadecimal digits."""
        return digest_of(self.text, self.tensors)

    def layers(self, hidden: Sequence[int], outputs: int) -> list[str]:
        """The paths of the head's dense layers in `model(hidden)`, the last one giving the scores."""
        if self.head:
            inside = bool(hidden) or self.behind
            return [f"{self.head}.dense{k}" for k in range(1, len(hidden) + 2)] if inside else [self.head]
        rows = models.table(self.model(hidden), self.input, outputs).layers
        return [row.name for row in rows if row.kind == "dense"][-len(hidden) - 1 :]

    def model(self, hidden: Sequence[int] = ()) -> str:
        """The text of this backbone with a new head; `hidden`: units of the head's hidden layers."""
        return f"{self.text} dense" if self.behind and not hidden else models.with_head(self.text, hidden)

    def network(self, hidden: Sequence[int], outputs: int) -> nn.Module:
        """The backbone under a new head with random weights, in eval mode."""
        network = models.build(self.model(hidden), self.input, outputs)
        layers = self.layers(hidden, outputs)
        own = {name: value for name, value in network.state_dict().items() if belongs(name, layers)}
        try:
            checkpoint.load_weights(network, self.tensors | own, Path(self.name))
        except ModelFileError as error:
            if self.run is None:
                error.hint = f"they are not those of {self.text}: name the network they belong to with --model"
            raise
        return network.eval()

    def feature_layers(self) -> tuple[models.FeatureLayer, ...]:
        """Where the backbone may end, from the input on; none where it can only be taken whole."""
        return models.feature_layers(self.text, self.input) if not self.head else ()

    def until(self, feature_layer: models.FeatureLayer) -> Backbone:
        """The backbone up to a place."""
        tensors = {name: value for name, value in self.tensors.items() if belongs(name, feature_layer.layers)}
        return replace(self, text=feature_layer.text, tensors=tensors, width=feature_layer.width)

    def without_head(self) -> nn.Module:
        """The network that gives features instead of scores: `(N, C, H, W)` to `(N, features)`, in eval mode."""
        network = self.network((), 2)
        models.replace_part(network, self.layers((), 2)[0], nn.Identity())
        return network


def digest_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """A hash of a network's text and every weight, 64 hexadecimal digits."""
    hasher = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        hasher.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        hasher.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return hasher.hexdigest()


def belongs(name: str, layers: Sequence[str]) -> bool:
    """Whether a tensor is one of these layers'."""
    return any(name.startswith(f"{layer}.") for layer in layers)


def adapted(dataset: Dataset, backbone: Backbone) -> list[str]:
    """How the images are changed to suit the backbone, one plain sentence each."""
    own, _ = data.suggest_format(dataset)
    form = backbone.form
    notes = [
        f"images as the backbone takes them: {form.height}x{form.width}x{form.channels}, {_RESIZED[form.resize]}, "
        f"{backbone.normalised}"
    ]
    if own.channels == 1 and form.channels == 3:
        notes.append("the images are grey, the backbone is for colour: the grey is repeated in all three channels")
    elif own.channels == 3 and form.channels == 1:
        notes.append("the images are in colour, the backbone is for grey: they become grey")
    if own.height * 3 <= form.height and own.width * 3 <= form.width:
        notes.append(
            f"the images are small ({own.height}x{own.width}) and are enlarged; "
            "a backbone trained on such sizes may do better"
        )
    return notes


_RESIZED = {
    "fit": "fitted whole into the frame",
    "crop": "cropped to fill the frame",
    "stretch": "stretched to the frame",
}
