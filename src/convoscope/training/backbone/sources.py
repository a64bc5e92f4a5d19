"""Where a backbone comes from: a name, a run or a file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from ... import models
from ...data import InputFormat
from ...errors import ModelFileError, UsageError, printable
from ...suggestions import did_you_mean
from ..core import checkpoint, weights
from ..core.normalisation import Normalisation
from ..core.weights import Packaged, Say
from ..runs.run import Run
from ..runs.saved import blank_network
from .backbone import Backbone, belongs


def open_backbone(backbone: str | os.PathLike[str] | Run, *, model: str | None = None, say: Say) -> Backbone:
    """The backbone that a name, a run or a file stands for.

    Args:
        backbone: `imagenet`, `imagenet-large`, `timm:NAME`, `torchvision:NAME`, a run, its folder, or a safetensors
            file: a checkpoint of convoscope's, or any other one together with `model`.
        model: the library's network, `timm:NAME` or `torchvision:NAME`, that a foreign safetensors file belongs to.
        say: hears what is being done.

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
                f"is only for a .safetensors file from elsewhere; received {printable(text)[:80]!r}",
                hint="leave --model out",
                code="backbone-model",
            )
        return _of_file(Path(text), model)
    if isinstance(backbone, Run):
        return _of_run(backbone)
    if text in weights.PACKAGED:
        return _of_package(weights.PACKAGED[text], say)
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
        # A checkpoint outside its run's folder goes by its own name.
        alone = Path(text).is_file() and not (run.folder / "run.toml").exists()
        return replace(made, name=str(Path(text).absolute())) if alone else made
    except ModelFileError as error:
        if error.code == "checkpoint-foreign":
            error.hint = "if it is a library's network, say which: --model timm:NAME or torchvision:NAME"
        raise


def _unknown(text: str) -> UsageError:
    meant = did_you_mean(text, weights.PACKAGED)
    return UsageError(
        "backbone",
        "expected imagenet, imagenet-large, timm:NAME, torchvision:NAME, a run's folder or a .safetensors file; "
        f"received {printable(text)[:80]!r}" + (f"; {meant}" if meant else ""),
        hint="with no weights of your own: convoscope relearn imagenet SOURCE",
        code="backbone-unknown",
    )


def _of_package(packaged: Packaged, say: Say) -> Backbone:
    """The backbone of weights in a package. Its head is known, so the network itself is not needed, which saves
    importing the library.
    """
    tensors = weights.packaged_weights(packaged, say)
    half = (0.5, 0.5, 0.5)
    return Backbone(
        name=packaged.name,
        text=packaged.model,
        tensors=_without(tensors, [packaged.head]),
        form=InputFormat(height=packaged.side, width=packaged.side, channels=3, resize="crop"),
        normalisation=Normalisation(mean=half, std=half),
        width=int(tensors[f"{packaged.head}.weight"].shape[1]),
        head=packaged.head,
    )


def _of_library(name: str, model: str, tensors: dict[str, Tensor], *, offered: bool = True) -> Backbone:
    """The backbone of a library's network. `offered`: the weights are the library's."""
    offer = models.pretrained(model, offered=offered)
    shape, normalisation = offer.input, Normalisation(mean=offer.mean, std=offer.std)
    taken = _take_head(models.build(model, shape, offer.outputs), model, shape, tensors)
    form = InputFormat(height=shape[0], width=shape[1], channels=shape[2], resize="crop")
    return Backbone(
        name=name,
        text=model,
        tensors=taken.tensors,
        form=form,
        normalisation=normalisation,
        width=taken.width,
        head=taken.path,
        behind=taken.behind,
    )


@dataclass(frozen=True)
class _TakenHead:
    """Where a library's network has its new head, and its weights without those of its own.

    Attributes:
        path, behind: as in `Backbone`.
        width: D, the number of features.
        tensors: the weights, named as in the network with the new head.
    """

    path: str
    behind: bool
    width: int
    tensors: dict[str, Tensor]


def _take_head(network: nn.Module, model: str, shape: tuple[int, int, int], tensors: dict[str, Tensor]) -> _TakenHead:
    """Take the head off a library's network, called `model`, of which these are the weights.

    Raises:
        UsageError: that cannot be done (`backbone-without-head`).
    """
    path = models.sole_head(network, shape)
    if path is not None:
        width = int(network.get_parameter(f"{path}.weight").shape[1])
        return _TakenHead(path, False, width, _without(tensors, [path]))
    network = models.build(f"{model} dense", shape, 2)
    assert isinstance(network, models.OnFeatures)
    kept = {f"backbone.{name}": value for name, value in _without(tensors, network.own_heads).items()}
    return _TakenHead("head", True, int(network.get_parameter("head.dense1.weight").shape[1]), kept)


def _of_file(path: Path, model: str) -> Backbone:
    named = models.library_name(model)
    if named is None or named.layers:
        raise UsageError(
            "model",
            "expected the library's network that the file belongs to, timm:NAME or torchvision:NAME; "
            f"received {printable(model)[:80]!r}",
            hint="for a checkpoint of convoscope's leave --model out",
            code="backbone-model",
        )
    tensors, _ = weights.read_foreign(path)
    # Half precision is what many files are kept in; networks here compute in float32.
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    backbone = _of_library(str(path), model, tensors, offered=False)
    mean, std = (", ".join(f"{value:.4g}" for value in each) for each in vars(backbone.normalisation).values())
    words = f"normalised by mean {mean} and std {std}, {named.library}'s for this network: the file does not name any"
    backbone = replace(backbone, normalised=words)
    backbone.network((), 2)  # so that a tensor that does not fit is found before anything long begins
    return backbone


def _of_run(run: Run) -> Backbone:
    settings = run.settings
    if settings.model.startswith("custom:"):
        raise UsageError(
            "backbone",
            f"{printable(run.folder)} trained a module of your own ({printable(settings.model)}), "
            "whose head is not known",
            hint="choose a run of a model with a text or a name",
            code="backbone-custom",
        )
    relearned = settings.relearned
    tensors = run.weights()
    # A model and weights that do not fit are found before anything is made of them.
    network = blank_network(settings, tensors, run.folder)
    checkpoint.load_weights(network, tensors, run.folder)
    shape = (settings.input.height, settings.input.width, settings.input.channels)
    text = models.backbone_text(settings.model, head=len(relearned.layers) if relearned else 1)
    named = models.library_name(settings.model)
    if named is None:
        taken: Sequence[str] = relearned.layers if relearned else ()
        if not relearned:
            rows = models.table(settings.model, shape, len(run.classes)).layers
            taken = [rows[-1].name] if rows[-1].kind == "dense" else []
        width = int(tensors[f"{taken[0]}.weight"].shape[1]) if taken else settings.outputs
        head = _TakenHead("", False, width, _without(tensors, taken))
    elif named.layers:
        head = _written_head(network, shape, tensors)
    else:
        head = _take_head(network, settings.model, shape, tensors)
    return Backbone(
        name=str(Path(run.folder).absolute()),
        text=text,
        tensors=head.tensors,
        form=settings.input,
        normalisation=Normalisation(mean=settings.mean, std=settings.std),
        width=head.width,
        head=head.path,
        behind=head.behind,
        run=run,
    )


def _written_head(network: nn.Module, shape: tuple[int, int, int], tensors: dict[str, Tensor]) -> _TakenHead:
    """The same of a network whose head is layers that were written behind the library's name."""
    behind = isinstance(network, models.OnFeatures)
    path = "head" if behind else (models.sole_head(network, shape) or "").rpartition(".")[0]
    first = next(part for part in network.get_submodule(path).modules() if isinstance(part, nn.Linear))
    return _TakenHead(path, behind, first.in_features, _without(tensors, [path]))


def _without(tensors: dict[str, Tensor], layers: Sequence[str]) -> dict[str, Tensor]:
    """The tensors that are not of these layers."""
    return {name: value for name, value in tensors.items() if not belongs(name, layers)}
