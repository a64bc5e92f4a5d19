"""A backbone: a network that has learned already, without its head, and how images are prepared for it.

It comes from one of the user's runs, from a library's pretrained weights, or from a safetensors file. Its weights are
kept as they are; `network` puts them under a new head.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import data, models
from ..data import Dataset, InputFormat
from ..errors import ModelFileError, UsageError, printable
from . import checkpoint, weights
from .loop import Scaling
from .run import Run, blank_network

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network's backbone and its preparation of images.

    Attributes:
        name: as it was asked for.
        text: the model's text without its head.
        tensors: the backbone's weights and buffers by name, as in a `state_dict`.
        form: the images' size, channels and way of resizing.
        scaling: their normalisation.
        width: D, the number of features.
        head: the path of a library's dense head; empty for a text, whose head stands at its end.
        run: the run that it comes from, if it does.
    """

    name: str
    text: str
    tensors: dict[str, Tensor] = field(repr=False)
    form: InputFormat
    scaling: Scaling
    width: int
    head: str = ""
    run: Run | None = None

    @property
    def input(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.form.height, self.form.width, self.form.channels

    @property
    def digest(self) -> str:
        """A hash of the network before the head: its text and every weight, 64 hexadecimal digits."""
        hasher = hashlib.sha256(self.text.encode())
        for name in sorted(self.tensors):
            value = self.tensors[name].contiguous()
            hasher.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
            hasher.update(value.view(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
        return hasher.hexdigest()

    def layers(self, hidden: Sequence[int], outputs: int) -> list[str]:
        """The paths of the head's dense layers in `model(hidden)`, the last one giving the scores."""
        if self.head:
            return [f"{self.head}.dense{k}" for k in range(1, len(hidden) + 2)] if hidden else [self.head]
        rows = models.table(self.model(hidden), self.input, outputs).layers
        return [row.name for row in rows if row.kind == "dense"][-len(hidden) - 1 :]

    def model(self, hidden: Sequence[int] = ()) -> str:
        """The text of this backbone with a new head; `hidden`: units of the head's hidden layers."""
        return models.with_head(self.text, hidden)

    def network(self, hidden: Sequence[int], outputs: int) -> nn.Module:
        """The backbone under a new head with random weights, in eval mode."""
        network = models.build(self.model(hidden), self.input, outputs)
        layers = self.layers(hidden, outputs)
        own = {name: value for name, value in network.state_dict().items() if belongs(name, layers)}
        try:
            checkpoint.load_weights(network, self.tensors | own, Path(self.name))
        except ModelFileError as error:
            if self.run is None:
                error.hint = f"they are not those of {self.text}: --model says whose they are"
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


def belongs(name: str, layers: Sequence[str]) -> bool:
    """Whether a tensor is one of these layers'."""
    return any(name.startswith(f"{layer}.") for layer in layers)


def open_backbone(backbone: str | os.PathLike[str] | Run, *, model: str | None = None, say: Say) -> Backbone:
    """The backbone that a name, a run or a file stands for.

    Args:
        backbone: `imagenet`, `timm:NAME`, `torchvision:NAME`, a run, its folder, or a safetensors file: a checkpoint of
            convoscope's, or any other one together with `model`.
        model: the library's network, `timm:NAME` or `torchvision:NAME`, that a foreign safetensors file belongs to.
        say: told what is being done.

    Raises:
        UsageError: no such backbone (`backbone-unknown`), or it has no head to replace (`backbone-without-head`).
        ModelFileError: the file is missing, damaged or hostile, or does not fit the model; see `checkpoint.load`.
        MachineError: weights cannot be fetched (`download-failed`), see `library_weights`.
    """
    text = str(backbone.folder) if isinstance(backbone, Run) else os.fspath(backbone)
    if model is not None:
        if Path(text).is_dir() or not (os.path.lexists(text) or text.endswith(".safetensors")):
            raise UsageError(
                "model",
                f"goes with a .safetensors file from elsewhere; {printable(text)[:80]!r} says itself what it is",
                hint="leave --model out",
                code="backbone-model",
            )
        return _of_file(Path(text), model)
    if isinstance(backbone, Run):
        return _of_run(backbone)
    if text == weights.IMAGENET:
        tensors = weights.imagenet_weights(say)
        return _of_library(weights.IMAGENET, weights.IMAGENET_MODEL, tensors, weights.IMAGENET_HEAD)
    if re.match(r"[\w-]+:", text) and not os.path.lexists(text):
        try:
            named = models.library_name(text)
        except UsageError:
            raise _unknown(text) from None
        if named is None or named.layers:
            raise _unknown(text)
        return _of_library(text, text, weights.library_weights(text, say))
    if not os.path.lexists(text):
        if re.fullmatch(r"[\w.-]+", text) and not text.endswith(".safetensors"):
            raise _unknown(text)
        raise ModelFileError(
            text, "there is no such file or run", hint="list the runs with: ls runs", code="checkpoint-missing"
        )
    try:
        run = Run.open(text)
        made = _of_run(run)
        # A checkpoint that lies elsewhere than in its run's folder goes by its own name.
        alone = Path(text).is_file() and not (run.folder / "run.toml").exists()
        return replace(made, name=str(Path(text).absolute())) if alone else made
    except ModelFileError as error:
        if error.code == "checkpoint-foreign":
            error.hint = "if it is a library's network, say which: --model timm:NAME or torchvision:NAME"
        raise


def _unknown(text: str) -> UsageError:
    return UsageError(
        "backbone",
        f"expected imagenet, timm:NAME, torchvision:NAME, a run's folder or a .safetensors file; received {printable(text)[:80]!r}",
        hint="with no weights of your own: convoscope relearn imagenet SOURCE",
        code="backbone-unknown",
    )


def _of_library(name: str, model: str, tensors: dict[str, Tensor], head: str = "") -> Backbone:
    """The backbone of a library's network. With a known `head` the network itself is not needed, which saves importing
    the library.
    """
    if head:
        shape, half = (weights.IMAGENET_SIDE, weights.IMAGENET_SIDE, 3), (0.5, 0.5, 0.5)
        scaling, features = Scaling(mean=half, std=half), int(tensors[f"{head}.weight"].shape[1])
    else:
        offer = models.pretrained(model)
        shape, scaling = offer.input, Scaling(mean=offer.mean, std=offer.std)
        network = models.build(model, shape, offer.outputs)
        head = models.head_path(network, shape)
        features = int(network.get_parameter(f"{head}.weight").shape[1])
    form = InputFormat(height=shape[0], width=shape[1], channels=shape[2], resize="crop")
    return Backbone(
        name=name,
        text=model,
        tensors={key: value for key, value in tensors.items() if not belongs(key, [head])},
        form=form,
        scaling=scaling,
        width=features,
        head=head,
    )


def _of_file(path: Path, model: str) -> Backbone:
    named = models.library_name(model)
    if named is None or named.layers:
        raise UsageError(
            "model",
            f"expected the library's network that the file belongs to, timm:NAME or torchvision:NAME; received {printable(model)[:80]!r}",
            hint="a checkpoint of convoscope's says itself what it is: leave --model out",
            code="backbone-model",
        )
    tensors, _ = weights.read_foreign(path)
    # Half precision is what many files are kept in; networks here compute in float32.
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    backbone = _of_library(str(path), model, tensors)
    backbone.network((), 2)  # whether every tensor fits is told before anything long begins
    return backbone


def _of_run(run: Run) -> Backbone:
    settings = run.settings
    if settings.model.startswith("custom:"):
        raise UsageError(
            "backbone",
            f"{printable(run.folder)} trained a module of your own ({printable(settings.model)}), whose head is not known",
            hint="choose a run of a model with a text or a name",
            code="backbone-custom",
        )
    relearned = settings.relearned
    tensors = run.weights()
    # Whether model and weights go together is told before anything is made of them.
    checkpoint.load_weights(blank_network(settings, tensors, run.folder), tensors, run.folder)
    shape = (settings.input.height, settings.input.width, settings.input.channels)
    text = models.backbone_text(settings.model, head=len(relearned.layers) if relearned else 1)
    head = ""
    if relearned:
        taken: Sequence[str] = relearned.layers
        if models.library_name(settings.model) is not None:
            head = taken[0] if len(taken) == 1 else taken[0].rpartition(".")[0]
    elif models.library_name(settings.model) is not None:
        head = models.head_path(models.build(settings.model, shape, len(run.classes)), shape)
        taken = [head]
    else:
        rows = models.table(settings.model, shape, len(run.classes)).layers
        taken = [rows[-1].name] if rows[-1].kind == "dense" else []
    width = int(tensors[f"{taken[0]}.weight"].shape[1]) if taken else settings.outputs
    return Backbone(
        name=str(Path(run.folder).absolute()),
        text=text,
        tensors={name: value for name, value in tensors.items() if not belongs(name, taken)},
        form=settings.input,
        scaling=Scaling(mean=settings.mean, std=settings.std),
        width=width,
        head=head,
        run=run,
    )


def adapted(dataset: Dataset, backbone: Backbone) -> list[str]:
    """How the images are changed to suit the backbone, one plain sentence each."""
    own, _ = data.suggest_format(dataset)
    form = backbone.form
    notes = [
        f"images as the backbone takes them: {form.height}x{form.width}x{form.channels}, {_WAYS[form.resize]}, normalised as it was trained"
    ]
    if own.channels == 1 and form.channels == 3:
        notes.append("the images are grey, the backbone is for colour: the grey stands in all three channels")
    elif own.channels == 3 and form.channels == 1:
        notes.append("the images are in colour, the backbone is for grey: they become grey")
    if own.height * 3 <= form.height and own.width * 3 <= form.width:
        notes.append(
            f"the images are small ({own.height}x{own.width}) and are enlarged; a backbone trained on such sizes may do better"
        )
    return notes


_WAYS = {"fit": "fitted whole into the frame", "crop": "cut to fill the frame", "stretch": "stretched to the frame"}
