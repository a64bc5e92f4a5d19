"""Dataset + model + recipe -> run."""

from typing import TYPE_CHECKING

from .recipe import Recipe
from .report import EpochMetrics, Reporter, best_epoch
from .run import Prediction, Run, Settings, read_summary

if TYPE_CHECKING:
    from .relearning import relearn
    from .start import resume, train

__all__ = [
    "EpochMetrics",
    "Prediction",
    "Recipe",
    "Reporter",
    "Run",
    "Settings",
    "best_epoch",
    "read_summary",
    "relearn",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    # torch takes seconds to import; `Recipe` and `Run` do not need it.
    if name in ("train", "resume"):
        from . import start

        return getattr(start, name)
    if name == "relearn":
        from .relearning import relearn

        return relearn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
