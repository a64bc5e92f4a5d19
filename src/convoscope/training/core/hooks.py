"""Code of the user's own in a training: what it gets, what it must give, and what a run records of it.

| hook | is called with | gives |
| --- | --- | --- |
| loss | raw scores `(N, K)` float32, targets | a scalar that depends on the scores |
| metric | answers `(N, K)` as `Run.scores` gives them, true targets, both arrays | a number |
| augment | images `(N, C, H, W)` float32 in 0..255, one seed an image, int64 `(N,)` | such images |
| head | the number of features and of scores | a module from `(N, features)` to `(N, scores)` |

Targets are class numbers int64 `(N,)`, labels float32 `(N, K)` of 0 and 1, or numbers `(N, K)`, which a loss gets
scaled to mean 0 and standard deviation 1. A run stores the name of such code and a digest of its source, and never the
code itself.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ...errors import ConvoscopeError, ModelFileError, UsageError, printable
from ...free_memory import ran_out

if TYPE_CHECKING:
    from torch import Tensor

    from ...models import ModuleMaker

Kind = Literal["model", "head", "loss", "augment", "metric"]
_WORDS: dict[Kind, str] = {
    "model": "a module",
    "head": "a head",
    "loss": "a loss",
    "augment": "an augmentation",
    "metric": "a metric",
}

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
Metric = Callable[[NDArray[np.float32], NDArray[Any]], float]
Augmentation = Callable[["Tensor", "Tensor"], "Tensor"]

FILE_MARK = "__convoscope_file__"
"""A module with this name in it was read from a file that the user named on the command line."""


class OwnCode(BaseModel):
    """A piece of the user's own code that a run was made with.

    Attributes:
        kind: what it is for.
        name: `module:function`, or `/path/net.py:Net` for what was read from a file.
        digest: SHA-256 of its source, of a file all of it; empty where Python knows no source.
        label: of a metric its name, of a head the text of the model that it was put on.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Kind
    name: str = Field(max_length=4096)
    digest: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    label: str = Field("", max_length=1_000_000)

    @classmethod
    def of(cls, kind: Kind, code: Any, label: str = "") -> OwnCode:
        """Name a function, a class, or an object of a class."""
        named = code
        while isinstance(named, functools.partial):
            named = named.func
        if not hasattr(named, "__qualname__"):
            named = type(named)
        home = sys.modules.get(named.__module__)
        path = Path(str(home.__file__)) if home is not None and hasattr(home, FILE_MARK) else None
        try:
            source = path.read_bytes() if path is not None else inspect.getsource(named).encode()
        except (OSError, TypeError):
            source = b""
        digest = hashlib.sha256(source).hexdigest() if source else ""
        name = f"{path or named.__module__}:{named.__qualname__}"
        return cls(kind=kind, name=printable(name), digest=digest, label=label)

    @property
    def words(self) -> str:
        """`a loss of your own (losses:focal)`."""
        return f"{_WORDS[self.kind]} of your own ({printable(self.name)[:200]})"

    def changed(self, now: OwnCode) -> str:
        """That the code is not what it was, in a sentence; empty where it is, or where nobody knows."""
        if not self.digest or not now.digest or self.digest == now.digest:
            return ""
        return f"{self.words} is not as it was when the run began: its source has changed"


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """The user's own functions of a training; see this file's table."""

    loss: Loss | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    augment: Augmentation | None = None
    head: ModuleMaker | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Hooks:
        """Those among the options.

        Raises:
            UsageError: one cannot be called, or a metric has an impossible name (`hook-invalid`).
        """
        given = {name: options[name] for name in cls.__annotations__ if options.get(name) is not None}
        for name in given.keys() - {"metrics"}:
            _check_callable(name, given[name])
        metrics = given.get("metrics", {})
        if not isinstance(metrics, Mapping):
            raise _invalid("metrics", f"expected a dictionary of functions by name; received {type(metrics).__name__}")
        for name, metric in metrics.items():
            if not isinstance(name, str) or not re.fullmatch(r"[^\W\d]\w{0,59}", name) or name in ("loss", "accuracy"):
                raise _invalid("metrics", f"expected a name such as f1 or top_3; received {printable(repr(name))[:80]}")
            _check_callable(f"metrics[{name!r}]", metric)
        return cls(**given)

    def described(self, model: str = "") -> tuple[OwnCode, ...]:
        """What a run records of them. `model`: the text of the model that a head is put on."""
        single: tuple[tuple[Kind, Any, str], ...] = (
            ("head", self.head, model),
            ("loss", self.loss, ""),
            ("augment", self.augment, ""),
        )
        found = [OwnCode.of(kind, code, label) for kind, code, label in single if code is not None]
        return (*found, *(OwnCode.of("metric", code, name) for name, code in self.metrics.items()))

    def check_same(self, recorded: tuple[OwnCode, ...], folder: Path) -> list[str]:
        """Compare these with those that a run began with. Returns which have changed, in sentences.

        Raises:
            ModelFileError: one is missing (`run-needs-own-code`).
            UsageError: one decides weights, and the run began without it (`own-code-unexpected`).
        """
        now = {(own.kind, own.label if own.kind == "metric" else ""): own for own in self.described()}
        then = {(own.kind, own.label if own.kind == "metric" else ""): own for own in recorded if own.kind != "model"}
        missing = [own for key, own in then.items() if key not in now]
        if missing:
            raise ModelFileError(
                folder,
                "this run was trained with " + " and ".join(own.words for own in missing),
                hint="in Python: " + _resume_command(folder, list(then.values())),
                code="run-needs-own-code",
            )
        odd = [own for key, own in now.items() if key not in then and own.kind != "metric"]
        if odd:
            raise UsageError(
                str(odd[0].kind),
                "the run began without it, and what decides its weights stays as it was",
                hint="leave it out, or begin a new run",
                code="own-code-unexpected",
            )
        return list(filter(None, (own.changed(now[key]) for key, own in then.items())))


NO_HOOKS = Hooks()


def _check_callable(name: str, given: object) -> None:
    if not callable(given):
        raise _invalid(name, f"expected a function; received {printable(repr(given))[:80]}")


def _invalid(name: str, reason: str) -> UsageError:
    return UsageError(name, reason, hint="their arguments: docs/python.md, your own code", code="hook-invalid")


def _resume_command(folder: Path, wanted: list[OwnCode]) -> str:
    """The Python that goes on with a run whose own code is given again."""
    imports, options, metrics = [], [], []
    for own in wanted:
        module, _, function = own.name.rpartition(":")
        if module != "__main__" and function.isidentifier():
            imports.append(f"from {module} import {function}; ")
        if own.kind == "metric":
            metrics.append(f'"{own.label}": {function}')
        else:
            options.append(f"{own.kind}={function}")
    if metrics:
        options.append(f"metrics={{{', '.join(metrics)}}}")
    return printable(f'{"".join(imports)}convoscope.resume("{folder}", {", ".join(options)})')


def own_loss(function: Loss, scores: Tensor, targets: Tensor) -> Tensor:
    """The loss of a batch by the user's function, a scalar.

    Raises:
        UsageError: the function fails (`hook-failed`), gives something else (`loss-invalid`), or a loss that the
            weights cannot learn from (`loss-not-differentiable`).
    """
    import torch

    loss = _called("loss", function, scores, targets)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise UsageError(
            "loss",
            f"{_name(function)}: expected one number for the batch, a tensor; it gives {got}",
            hint="end it with .mean()",
            code="loss-invalid",
        )
    if torch.is_grad_enabled() and scores.requires_grad and not loss.requires_grad:
        raise UsageError(
            "loss",
            f"{_name(function)}: what it gives does not depend on the scores, so nothing can be learned from it",
            hint="compute it with torch from the scores themselves, without .detach(), .item(), argmax or NumPy",
            code="loss-not-differentiable",
        )
    return loss.reshape(())


def own_augmentation(function: Augmentation, images: Tensor, seeds: Tensor) -> Tensor:
    """The images of a batch as the user's function changes them.

    Raises:
        UsageError: the function fails (`hook-failed`), or gives no such images (`augment-invalid`).
    """
    import torch

    changed = _called("augment", function, images, seeds)
    if not isinstance(changed, torch.Tensor):
        fault = f"a {type(changed).__name__}"
    elif changed.shape != images.shape:
        fault = f"shape {tuple(changed.shape)}"
    elif changed.dtype != images.dtype:
        fault = str(changed.dtype)
    elif not bool(changed.isfinite().all()):
        fault = "numbers that are not finite"
    else:
        return changed
    raise UsageError(
        "augment",
        f"{_name(function)}: expected images as they came, float32 of shape {tuple(images.shape)}; it gives {fault}",
        hint="keep size, channels and type: return images.clamp(0, 255)",
        code="augment-invalid",
    )


def own_metrics(
    metrics: Mapping[str, Metric], answers: NDArray[np.float32], targets: NDArray[Any]
) -> dict[str, float | None]:
    """Each of the user's metrics of these answers; None where it is not finite.

    Raises:
        UsageError: a function fails (`hook-failed`), or gives no number (`metric-invalid`).
    """
    found: dict[str, float | None] = {}
    for name, metric in metrics.items():
        value = _called(f"metrics[{name!r}]", metric, answers, targets)
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(
                f"metrics[{name!r}]",
                f"{_name(metric)}: expected a number; it gives {type(value).__name__}",
                hint="return a float",
                code="metric-invalid",
            ) from None
        found[name] = number if math.isfinite(number) else None
    return found


def _called(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function gives; what goes wrong in it is told with its place."""
    try:
        return function(*arguments)
    except ConvoscopeError:
        raise
    except Exception as error:
        if ran_out(error):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        words = (str(error).strip().split("\n")[0] or "no message")[:300]
        raise UsageError(
            what,
            printable(
                f"{_name(function)} fails: {type(error).__name__}: {words} ({Path(last.filename).name}, "
                f"line {last.lineno})"
            ),
            hint=f"it is called with {_SIGNATURES[what.partition('[')[0]]}",
            code="hook-failed",
        ) from error


_SIGNATURES = {
    "loss": "the scores (N, K) and the targets of a batch",
    "augment": "images (N, C, H, W), float32 in 0..255, and a seed for each image (N,)",
    "metrics": "arrays: the answers (N, K) and the true targets",
}


def _name(function: Any) -> str:
    return OwnCode.of("loss", function).name.rpartition(":")[2] or "it"
