"""What happens inside a network, and by hand: every number, and where it comes from."""

from .gradients import Backward, GradientWhy, TrainingStep, backward, training_step
from .kernels import border_cells, convolve, filters, output_size, output_size_text, pool
from .trace import Normalisation, Step, Trace, trace
from .why import Term, Unit, Why

__all__ = [
    "Backward",
    "GradientWhy",
    "Normalisation",
    "Step",
    "Term",
    "Trace",
    "TrainingStep",
    "Unit",
    "Why",
    "backward",
    "border_cells",
    "convolve",
    "filters",
    "output_size",
    "output_size_text",
    "pool",
    "trace",
    "training_step",
]
