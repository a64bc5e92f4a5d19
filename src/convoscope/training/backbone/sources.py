"""Where a backbone comes from: a name, a run or a file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ... import models
from ...data import InputFormat
from ...errors import ModelFileError, UsageError, printable
from ..core import checkpoint, weights
from ..core.normalisation import Normalisation
from ..core.weights import Say
from ..runs.run import Run
from ..runs.saved import blank_network
from .backbone import Backbone, belongs


def open_backbone(backbone: str | os.PathLike[str] | Run, *, model: str | None = None, say: Say) -> Backbone:
    """The backbone that a name, a run or a file stands for.

    Args:
        backbone: `imagenet`, `timm:NAME`, `torchvision:NAME`, a run, its folder, or a safetensors file: a checkpoint of
            convoscope's, or any other one together with `model`.
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
        # A checkpoint outside its run's folder goes by its own name.
        alone = Path(text).is_file() and not (run.folder / "run.toml").exists()
        return replace(made, name=str(Path(text).absolute())) if alone else made
    except ModelFileError as error:
        if error.code == "checkpoint-foreign":
            error.hint = "if it is a library's network, say which: --model timm:NAME or torchvision:NAME"
        raise


def _unknown(text: str) -> UsageError:
    return UsageError(
        "backbone",
        "expected imagenet, timm:NAME, torchvision:NAME, a run's folder or a .safetensors file; "
        f"received {printable(text)[:80]!r}",
        hint="with no weights of your own: convoscope relearn imagenet SOURCE",
        code="backbone-unknown",
    )


def _of_library(name: str, model: str, tensors: dict[str, Tensor], head: str = "") -> Backbone:
    """The backbone of a library's network. With a known `head` the network itself is not needed, which saves importing
    the library.
    """
    if head:
        shape, half = (weights.IMAGENET_SIDE, weights.IMAGENET_SIDE, 3), (0.5, 0.5, 0.5)
        normalisation, features = Normalisation(mean=half, std=half), int(tensors[f"{head}.weight"].shape[1])
    else:
        offer = models.pretrained(model)
        shape, normalisation = offer.input, Normalisation(mean=offer.mean, std=offer.std)
        network = models.build(model, shape, offer.outputs)
        head = models.head_path(network, shape)
        features = int(network.get_parameter(f"{head}.weight").shape[1])
    form = InputFormat(height=shape[0], width=shape[1], channels=shape[2], resize="crop")
    return Backbone(
        name=name,
        text=model,
        tensors={key: value for key, value in tensors.items() if not belongs(key, [head])},
        form=form,
        normalisation=normalisation,
        width=features,
        head=head,
    )


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
    backbone = _of_library(str(path), model, tensors)
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
        normalisation=Normalisation(mean=settings.mean, std=settings.std),
        width=width,
        head=head,
        run=run,
    )
