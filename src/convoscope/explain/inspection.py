"""A run and an image: everything there is to see, as pictures, tables and numbers, for `convoscope look`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import data
from ..errors import printable
from ..posix import portable_stem
from ..render import calls, heading, notebook, percent, shorten, small_sheet
from ..training import Normalisation, Prediction, Run
from .capture.records import PASSING, Step
from .drawings.attributions import attribution_sheet
from .drawings.blocks import column
from .drawings.filters import filter_sheet
from .drawings.image import image_sheet
from .drawings.maps import map_sheet, shape_of
from .drawings.overview import overview
from .drawings.patches import patches_sheet
from .drawings.scatter import scatter
from .drawings.scores import scores_bars
from .methods.activation import Example, maximise_activation, top_activating_examples
from .methods.attribution.by_gradient import gives_maps
from .methods.attribution.catalogue import METHODS, attribute
from .methods.attribution.control import shuffled
from .methods.attribution.question import Attribution
from .methods.embeddings import embeddings, pca
from .methods.transforms import MovedScores, transform_sensitivity
from .methods.used_weights import used_weight
from .views import Trace, Why, trace

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]

_MOST_BYTES = 1 << 27
"""Bytes that the images of a run take at most when it is inspected by itself; some are kept as floats too."""


@dataclass(frozen=True, eq=False, repr=False)
class Look:
    """One image inside one run's network.

    Attributes:
        run: the run.
        name: the image's path, or `image` where it has none.
        pixels: uint8 `(H, W, C)`, as the network gets it.
        trace: every layer's output, down to the pixels.
        prediction: the run's answer.
        notes: what was done to the image, and what could not be followed; one plain sentence each.
    """

    run: Run
    name: str
    pixels: Pixels
    trace: Trace
    prediction: Prediction
    notes: tuple[str, ...]

    def why(self, layer: str, *index: int) -> Why:
        """The arithmetic of one unit, see `Trace.why`."""
        return self.trace.why(layer, *index)

    @cached_property
    def _input(self) -> Tensor:
        return self.run.input_tensor(self.pixels[None])

    @cached_property
    def _shuffled(self) -> nn.Module:
        return shuffled(self.run.network())

    @cached_property
    def _gives_maps(self) -> bool:
        return gives_maps(self.run.network(), self._input)

    def methods(self) -> tuple[str, ...]:
        """The attributions that suit this image and task; none for numbers."""
        if self.run.task == "regression":
            return ()
        side = max(self.pixels.shape[:2])
        return tuple(name for name, method in METHODS.items() if method.suits(side, maps=self._gives_maps))

    def attribution(self, method: str, target: int | None = None) -> Attribution:
        """Which part decides: one of `METHODS`, and beside it the same from the network with shuffled weights."""
        return attribute(method, self.run.network(), self._input, target, control=self._shuffled)

    def moved(self) -> MovedScores:
        """The scores while the image is shifted, turned and scaled."""
        return transform_sensitivity(self.run.scores, self.pixels)

    # --- as pictures ---

    def image_sheet(self) -> Image.Image:
        """The image as the network gets it, its channels and grey."""
        return image_sheet(self.pixels, title=f"{Path(self.name).name}, as the network gets it")

    def overview(self) -> Image.Image:
        """Every layer on one sheet."""
        return overview(self.trace, title=f"{Path(self.name).name}: {self.prediction.label or '(no label)'}")

    def map_sheet(self, layer: str) -> Image.Image:
        """All feature maps of one layer."""
        step = self.trace[layer]
        names = self.run.classes if step is self.trace.steps[-1] and len(self.run.classes) == step.shape[-1] else ()
        few = step.maps is not None and len(step.maps) <= 16
        return map_sheet(step, statistics=few, names=names)

    def scores_bars(self) -> Image.Image:
        """The class scores and their probabilities."""
        shares = None if self.run.task == "regression" else list(self.prediction.scores.values())
        if shares is not None and self.trace.output.numel() != len(shares):
            shares = None
        return scores_bars(
            self.trace.output,
            self.run.classes,
            probabilities=shares,
            title=self.prediction.label or "(no label)",
            kind={"classification": "class", "multi-label": "label", "regression": "number"}[self.run.task],
        )

    def attribution_sheet(self, methods: Sequence[str] | None = None) -> Image.Image:
        """The attributions side by side, each above its control."""
        found = [self.attribution(method) for method in (self.methods() if methods is None else methods)]
        controls = [
            None if each.control is None or each.similarity is None else (each.control.map, each.similarity)
            for each in found
        ]
        names = [each.method.replace("_", "-") + (f" ({each.layer})" if each.layer else "") for each in found]
        target = self._target_name(found[0].target) if found else ""
        return attribution_sheet(
            self.pixels,
            list(zip(names, (each.map for each in found), strict=True)),
            controls,
            title=f"Which part speaks for {target}",
        )

    def _target_name(self, target: int) -> str:
        return self.run.classes[target] if target < len(self.run.classes) else str(target)

    def layers(self) -> list[Step]:
        """The steps that change numbers, in the order of execution."""
        return [step for step in self.trace.steps if step.kind not in PASSING and step.shape]

    def sheets(
        self, *, layer: str | None = None, cam: bool = False, filters: bool = False
    ) -> Iterator[tuple[str, Image.Image]]:
        """File names and images: what `convoscope look` writes.

        Args:
            layer: only this layer's maps.
            cam: the attributions too.
            filters: the filters of every convolution too.
        """
        if layer is None:
            yield "image.png", self.image_sheet()
            yield "overview.png", self.overview()
            yield "scores.png", self.scores_bars()
            for number, step in enumerate(self.layers()):
                if step.kind not in ("pixels", "image"):
                    yield f"layers/{number:02}-{file_name(step.name)}.png", self.map_sheet(step.name)
        else:
            yield f"{file_name(layer)}.png", self.map_sheet(layer)
        if cam and self.methods():
            yield "attributions.png", self.attribution_sheet()
        if filters:
            yield from filter_sheets(self.run.network())

    # --- as words ---

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the table of layers."""
        header = ["layer", "kind", "shape", "mean", "std", "range", "at or below 0"]
        lines = []
        for step in self.layers():
            found = _summary(step)
            lines.append(
                [
                    printable(step.name),
                    step.kind,
                    _shape_text(step),
                    f"{found['mean']:.4g}",
                    f"{found['std']:.4g}",
                    f"{found['minimum']:.4g} to {found['maximum']:.4g}",
                    percent(found["zero_share"], 0),
                ]
            )
        return header, lines

    def to_json(self) -> dict[str, Any]:
        """Prediction, notes, and each layer with its statistics."""
        return self.prediction.to_json() | {
            "notes": list(self.notes),
            "input": list(self.pixels.shape),
            "layers": [
                {
                    "layer": step.name,
                    "kind": step.kind,
                    "shape": list(step.shape),
                    "axes": list(step.axes.names[-len(step.shape) :]) if step.axes else None,
                    "maps": list(step.maps.shape) if step.maps is not None else None,
                    "from": list(step.inputs),
                    **_summary(step),
                }
                for step in self.layers()
            ],
        }

    def _repr_html_(self) -> str:
        title = f"{shorten(self.name, 80)}: {shorten(self.prediction.label, 80) or '(no label)'}"
        drawn = small_sheet(self.overview(), f"the layers of {printable(self.name)}")
        return notebook(heading(title, *self.notes), drawn, calls(f"look.why({self.layers()[-1].name!r}, 0)"))

    def __repr__(self) -> str:
        return f"<Look at {shorten(self.name, 200)}: {self.prediction.label!r}, {len(self.trace.steps)} steps>"


def look(run: Run | str | os.PathLike[str], image: Any) -> Look:
    """Open a run's network on one image; any size and mode goes through the same preparation as in training.

    Args:
        run: a run, or its folder.
        image: a path, encoded bytes, a Pillow image, or an array `(H, W)` or `(H, W, C)`.

    Raises:
        ModelFileError: the run cannot be read.
        DataError: the image cannot be read.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    form = opened.settings.input
    pixels = data.open_image(image, form)
    is_path = isinstance(image, str | os.PathLike)
    name = os.fspath(image) if is_path else "image"
    notes = []
    size = data.picture_size(image)
    if size is not None and size != (form.height, form.width):
        how = {"fit": "fitted in whole", "crop": "cut to fill the frame", "stretch": "stretched"}[form.resize]
        notes.append(
            f"the image has {size[0]}x{size[1]} pixels; "
            f"the network gets {form.height}x{form.width}, {how}, as in training"
        )
    scores, distances = opened.scores_and_distances(pixels[None])
    prediction = opened.prediction(os.fsdecode(name), scores[0], None if distances is None else float(distances[0]))
    numbers = opened.input_tensor(pixels[None])
    settings = opened.settings
    if opened.task == "regression":
        formulas = (
            f"{name} = {std:.6g} * output {'-' if mean < 0 else '+'} {abs(mean):.6g}"
            for name, mean, std in zip(opened.classes, settings.target_mean, settings.target_std, strict=True)
        )
        notes.append(
            "the network's outputs are scaled by the training part's mean and standard deviation: "
            + "; ".join(formulas)
        )
    import torch

    plain = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()
    normalisation = Normalisation(mean=settings.mean, std=settings.std)
    found = trace(opened.network(), numbers, pixels=plain, normalisation=normalisation, classes=opened.classes)
    return Look(opened, os.fsdecode(name), pixels, found, prediction, (*notes, *found.notes))


def file_name(name: str) -> str:
    """A layer's name that may be a file's."""
    return portable_stem(re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "layer")


def _shape_text(step: Step) -> str:
    shape = shape_of(step)
    is_maps = step.maps is not None or (len(shape) == 3 and shape[1:] == (1, 1))
    return f"{shape[0]} of {shape[1]}x{shape[2]}" if is_maps else "x".join(map(str, shape))


def _summary(step: Step) -> dict[str, float]:
    values = step.output.detach()
    values = (values.abs() if values.is_complex() else values).double()
    finite = values[values.isfinite()]
    if not finite.numel():
        finite = values.new_zeros(1)
    return {
        "mean": float(finite.mean()),
        "std": float(finite.std(correction=0)),
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
        "zero_share": float((finite <= 0).double().mean()),
    }


# --- a run by itself --------------------------------------------------------------------------------------------------


def filter_sheets(network: nn.Module) -> Iterator[tuple[str, Image.Image]]:
    """The filters of every convolution: file names and images."""
    number = 0
    for name, part in network.named_modules():
        weight = used_weight(part) if isinstance(part, nn.Conv2d) else None
        if weight is not None:
            number += 1
            yield f"filters/{number:02}-{file_name(name or 'conv')}.png", filter_sheet(weight, name or "conv")


@dataclass(frozen=True, eq=False)
class RunInspection:
    """A run's network by itself, and what the images of its own set do in it.

    Attributes:
        run: the run.
        pixels: uint8 `(N, H, W, C)`: images of its test part, or of validation, evenly spaced.
        targets: their labels.
    """

    run: Run
    pixels: Pixels
    targets: NDArray[Any]

    @classmethod
    def of(cls, run: Run, *, at_most: int = 500) -> RunInspection | None:
        """With at most this many of the run's own images, fewer of very large ones; None where it has none."""
        prepared = run.prepared()
        at_most = max(1, min(at_most, _MOST_BYTES // max(prepared.pixels[:1].nbytes, 1)))
        for split in reversed(data.SPLITS):
            rows = prepared.dataset.indices(split)
            if len(rows):
                chosen = rows[np.linspace(0, len(rows) - 1, min(at_most, len(rows))).astype(np.int64)]
                return cls(run, np.take(prepared.pixels, chosen, axis=0), prepared.dataset.targets[chosen])
        return None

    def batches(self) -> Iterator[Tensor]:
        """The images, normalised, some at a time."""
        together = min(64, self.run.at_once())
        for begin in range(0, len(self.pixels), together):
            yield self.run.input_tensor(self.pixels[begin : begin + together])

    def to_pixels(self, image: Tensor) -> Pixels:
        """A normalised image `(C, h, w)` as uint8 `(h, w, C)`; values beyond black and white are clipped."""
        mean, std = np.array(self.run.settings.mean), np.array(self.run.settings.std)
        levels = image.detach().cpu().double().numpy().transpose(1, 2, 0) * std + mean
        whole: Pixels = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)
        return whole

    def depths(self, count: int = 3) -> list[str]:
        """Convolutions from the first to the last, evenly spaced, to show levels of abstraction."""
        order = [
            step for step in self._trace.steps if step.kind == "conv" and step.shape[0] > 1 and "#" not in step.name
        ]
        names = dict.fromkeys(order[round(k)].name for k in np.linspace(0, len(order) - 1, count)) if order else {}
        return list(names)

    @cached_property
    def _trace(self) -> Trace:
        return trace(self.run.network(), self.run.input_tensor(self.pixels[:1]))

    def top_activating_examples(self, layer: str, channels: int = 4, top: int = 7) -> dict[int, tuple[Example, ...]]:
        """The channels that answer most, and the images, with the patches in them, that excite each most."""
        found = top_activating_examples(self.run.network(), self.batches(), layer, top=top)
        strongest = sorted(found, key=lambda channel: -found[channel][0].value)[:channels]
        return {channel: found[channel] for channel in sorted(strongest)}

    def levels_sheet(self, *, depths: int = 3, channels: int = 3, grow: bool = True) -> Image.Image | None:
        """From edges to parts: patches that excite channels at some depths, and inputs grown to excite them."""
        rows, inputs = [], []
        network = self.run.network()
        shape = (self.pixels.shape[3], *self.pixels.shape[1:3])
        for layer in self.depths(depths):
            for channel, examples in self.top_activating_examples(layer, channels).items():
                patches = [(self.to_pixels(each.patch), each.value) for each in examples]
                rows.append((f"{layer} · {channel}", patches))
                if grow:
                    made = maximise_activation(network, layer, channel, shape, steps=64)
                    inputs.append((f"{layer} · {channel}", made))
        if not rows:
            return None
        parts = [patches_sheet(rows, title="What excites these channels most, from the first layer to the last")]
        if inputs:
            by_layer: dict[str, list[tuple[Pixels, float]]] = {}
            for name, made in inputs:
                by_layer.setdefault(name.split(" · ")[0], []).append((self.to_pixels(made.image), made.after))
            parts.append(
                patches_sheet(
                    list(by_layer.items()),
                    title="Inputs grown from noise to excite the same channels",
                    about="under each the mean of the channel's map",
                )
            )
        return column(parts, gap=0)

    def features_sheet(self) -> Image.Image | None:
        """The inputs of the last layer in two dimensions, by class; None where an image has no single class."""
        if self.run.task != "classification" or len(self.pixels) < 3:
            return None
        found = embeddings(self.run.network(), self.batches())
        flat = pca(found.vectors)
        return scatter(
            flat.coordinates,
            self.targets,
            self.run.classes,
            flat.shares.tolist(),
            title=f"What goes into {found.layer or 'the last layer'}",
        )

    def sheets(self) -> Iterator[tuple[str, Image.Image]]:
        """File names and images: what `convoscope look RUN` writes without an image."""
        yield from filter_sheets(self.run.network())
        levels = self.levels_sheet(depths=4)
        if levels is not None:
            yield "levels.png", levels
        features = self.features_sheet()
        if features is not None:
            yield "features.png", features
