"""The option `--log` of commands that train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from ..training import Reporter

Log = Annotated[
    list[Literal["mlflow", "tensorboard", "wandb"]] | None,
    Parameter(
        name="--log",
        help="Also record the run with MLflow, Weights & Biases, or more of TensorBoard; may be repeated.",
        negative=(),
    ),
]


def tracked(reporter: Reporter, names: list[Literal["mlflow", "tensorboard", "wandb"]] | None) -> Reporter:
    """The reporter, with the trackers that were asked for beside it.

    Raises:
        MachineError: a tracker's library is not installed (`tracker-missing`).
    """
    if not names:
        return reporter
    from ..trackers import TRACKERS
    from ..training import Reporters

    return Reporters(reporter, [TRACKERS[name]() for name in dict.fromkeys(names)])
