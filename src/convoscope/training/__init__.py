"""Dataset + model + recipe -> run."""

from importlib import import_module
from typing import TYPE_CHECKING

from .core.hooks import FILE_MARK, own_metrics
from .core.malloc import freed_memory_kept
from .core.recipe import Recipe
from .core.reporter import EpochMetrics, Reporter, best_epoch
from .core.reporters import Listening, Reporters, one_reporter
from .core.signals import StopSignals
from .runs.prediction import Prediction
from .runs.run import Run
from .runs.run_output import curves_html, history_line
from .runs.saved import read_described, read_history, read_summary
from .runs.settings import Settings

if TYPE_CHECKING:
    from .backbone.features import recall_features
    from .commands.rate_finder import find_learning_rate
    from .commands.repetition import repeat
    from .commands.resumption import resume
    from .commands.train import train
    from .commands.transfer import relearn
    from .core.normalisation import Normalisation
    from .fit.rate_range import LearningRates
    from .fit.samples import augmented_images

__all__ = [
    "FILE_MARK",
    "EpochMetrics",
    "LearningRates",
    "Listening",
    "Normalisation",
    "Prediction",
    "Recipe",
    "Reporter",
    "Reporters",
    "Run",
    "Settings",
    "StopSignals",
    "augmented_images",
    "best_epoch",
    "curves_html",
    "find_learning_rate",
    "freed_memory_kept",
    "history_line",
    "one_reporter",
    "own_metrics",
    "read_described",
    "read_history",
    "read_summary",
    "recall_features",
    "relearn",
    "repeat",
    "resume",
    "train",
]

_LATER = {
    "Normalisation": ".core.normalisation",
    "LearningRates": ".fit.rate_range",
    "augmented_images": ".fit.samples",
    "find_learning_rate": ".commands.rate_finder",
    "recall_features": ".backbone.features",
    "relearn": ".commands.transfer",
    "repeat": ".commands.repetition",
    "resume": ".commands.resumption",
    "train": ".commands.train",
}


def __getattr__(name: str) -> object:
    # torch takes seconds to import; `Recipe` and `Run` do not need it.
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
