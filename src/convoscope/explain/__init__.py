"""What happens inside a network, and by hand: every number, and where it comes from."""

from typing import TYPE_CHECKING

from .methods.kernels import Numbers, border_cells, convolve, filters, output_size, output_size_text, pool

if TYPE_CHECKING:
    from .arithmetic.gradients import Backward, GradientWhy, TrainingStep, backward, training_step
    from .arithmetic.solve import Term, Unit, Why, read_unit
    from .capture.recorder import Step, Trace, trace
    from .drawings.maps import (
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
    from .inspection import Look, RunInspection, chapters, filter_sheets, look
    from .methods.activation import Example, Grown, maximise_activation, top_activating_examples
    from .methods.attribution import (
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
    from .methods.embeddings import Features, Projection, embeddings, pca, umap
    from .methods.map_statistics import MapStatistics, map_statistics
    from .methods.transforms import MovedScores, transform_sensitivity

__all__ = [
    "METHODS",
    "Attribution",
    "Backward",
    "Example",
    "Features",
    "GradientWhy",
    "Grown",
    "Look",
    "MapStatistics",
    "MovedScores",
    "Numbers",
    "Projection",
    "RunInspection",
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
    "embeddings",
    "filter_sheet",
    "filter_sheets",
    "filters",
    "grad_cam",
    "image_sheet",
    "integrated_gradients",
    "look",
    "map_sheet",
    "map_statistics",
    "maximise_activation",
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
    "top_activating_examples",
    "trace",
    "training_step",
    "transform_sensitivity",
    "umap",
    "why_figure",
]

# torch takes seconds to import; convolution and pooling by hand do not need it.
_LATER = {
    "METHODS": "methods.attribution",
    "Attribution": "methods.attribution",
    "attribute": "methods.attribution",
    "grad_cam": "methods.attribution",
    "integrated_gradients": "methods.attribution",
    "occlusion": "methods.attribution",
    "pixel_flips": "methods.attribution",
    "saliency": "methods.attribution",
    "shuffled": "methods.attribution",
    "similarity": "methods.attribution",
    "Features": "methods.embeddings",
    "Projection": "methods.embeddings",
    "embeddings": "methods.embeddings",
    "pca": "methods.embeddings",
    "umap": "methods.embeddings",
    "attribution_sheet": "drawings.maps",
    "filter_sheet": "drawings.maps",
    "image_sheet": "drawings.maps",
    "map_sheet": "drawings.maps",
    "overview": "drawings.maps",
    "patches_sheet": "drawings.maps",
    "scatter": "drawings.maps",
    "scores_bars": "drawings.maps",
    "why_figure": "drawings.maps",
    "Backward": "arithmetic.gradients",
    "GradientWhy": "arithmetic.gradients",
    "TrainingStep": "arithmetic.gradients",
    "backward": "arithmetic.gradients",
    "training_step": "arithmetic.gradients",
    "RunInspection": "inspection",
    "Look": "inspection",
    "chapters": "inspection",
    "filter_sheets": "inspection",
    "look": "inspection",
    "MovedScores": "methods.transforms",
    "transform_sensitivity": "methods.transforms",
    "Example": "methods.activation",
    "Grown": "methods.activation",
    "top_activating_examples": "methods.activation",
    "maximise_activation": "methods.activation",
    "MapStatistics": "methods.map_statistics",
    "map_statistics": "methods.map_statistics",
    "Step": "capture.recorder",
    "Trace": "capture.recorder",
    "trace": "capture.recorder",
    "Term": "arithmetic.solve",
    "Unit": "arithmetic.solve",
    "Why": "arithmetic.solve",
    "read_unit": "arithmetic.solve",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
