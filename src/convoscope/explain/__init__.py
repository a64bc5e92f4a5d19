"""What happens inside a network, and by hand: every number, and where it comes from."""

from .attribution import (
    METHODS,
    Attribution,
    attribute,
    grad_cam,
    integrated_gradients,
    occlusion,
    pixel_flips,
    saliency,
    shuffled,
    similarity,
)
from .features import Features, Projection, feature_vectors, pca, umap
from .figures import (
    attribution_sheet,
    filter_sheet,
    image_sheet,
    map_sheet,
    overview,
    patches_sheet,
    scatter,
    scores_bars,
    why_figure,
)
from .gradients import Backward, GradientWhy, TrainingStep, backward, training_step
from .kernels import border_cells, convolve, filters, output_size, output_size_text, pool
from .looking import Inside, Look, chapters, filter_sheets, look
from .moving import MovedScores, moved_scores
from .seeking import Example, Grown, exciting, grown
from .statistics import MapStatistics, map_statistics
from .trace import Normalisation, Step, Trace, trace
from .why import Term, Unit, Why, read_unit

__all__ = [
    "METHODS",
    "Attribution",
    "Backward",
    "Example",
    "Features",
    "GradientWhy",
    "Grown",
    "Inside",
    "Look",
    "MapStatistics",
    "MovedScores",
    "Normalisation",
    "Projection",
    "Step",
    "Term",
    "Trace",
    "TrainingStep",
    "Unit",
    "Why",
    "attribute",
    "attribution_sheet",
    "backward",
    "border_cells",
    "chapters",
    "convolve",
    "exciting",
    "feature_vectors",
    "filter_sheet",
    "filter_sheets",
    "filters",
    "grad_cam",
    "grown",
    "image_sheet",
    "integrated_gradients",
    "look",
    "map_sheet",
    "map_statistics",
    "moved_scores",
    "occlusion",
    "output_size",
    "output_size_text",
    "overview",
    "patches_sheet",
    "pca",
    "pixel_flips",
    "pool",
    "read_unit",
    "saliency",
    "scatter",
    "scores_bars",
    "shuffled",
    "similarity",
    "trace",
    "training_step",
    "umap",
    "why_figure",
]
