"""What happens inside a network, and by hand: every number, and where it comes from."""

from typing import TYPE_CHECKING

from .methods.kernels import Numbers, border_cells, convolve, filters, output_size, output_size_text, pool

if TYPE_CHECKING:
    from .arithmetic.terms import Term, Unit, read_unit
    from .capture.records import Step
    from .drawings.arithmetic_figure import why_figure
    from .drawings.attributions import attribution_sheet
    from .drawings.filters import filter_sheet
    from .drawings.image import image_sheet
    from .drawings.maps import map_sheet
    from .drawings.overview import overview
    from .drawings.patches import patches_sheet
    from .drawings.scatter import scatter
    from .drawings.scores import scores_bars
    from .inspection import Look, RunInspection, filter_sheets, look
    from .methods.activation import Ascent, Example, Grown, maximise_activation, top_activating_examples
    from .methods.attribution.by_gradient import grad_cam, integrated_gradients, saliency
    from .methods.attribution.by_occlusion import occlusion, pixel_flips
    from .methods.attribution.catalogue import METHODS, attribute
    from .methods.attribution.control import shuffled, similarity
    from .methods.attribution.question import Attribution
    from .methods.embeddings import Features, Projection, embeddings, pca, umap
    from .methods.map_statistics import MapStatistics, map_statistics
    from .methods.transforms import MovedScores, transform_sensitivity
    from .report_chapter import chapters
    from .views import Backward, GradientWhy, Trace, TrainingStep, Why, backward, trace, training_step

__all__ = [
    "METHODS",
    "Ascent",
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
_HOMES = {
    "arithmetic.terms": ("Term", "Unit", "read_unit"),
    "capture.records": ("Step",),
    "drawings.arithmetic_figure": ("why_figure",),
    "drawings.attributions": ("attribution_sheet",),
    "drawings.filters": ("filter_sheet",),
    "drawings.image": ("image_sheet",),
    "drawings.maps": ("map_sheet",),
    "drawings.overview": ("overview",),
    "drawings.patches": ("patches_sheet",),
    "drawings.scatter": ("scatter",),
    "drawings.scores": ("scores_bars",),
    "inspection": ("Look", "RunInspection", "filter_sheets", "look"),
    "methods.activation": ("Ascent", "Example", "Grown", "maximise_activation", "top_activating_examples"),
    "methods.attribution.by_gradient": ("grad_cam", "integrated_gradients", "saliency"),
    "methods.attribution.by_occlusion": ("occlusion", "pixel_flips"),
    "methods.attribution.catalogue": ("METHODS", "attribute"),
    "methods.attribution.control": ("shuffled", "similarity"),
    "methods.attribution.question": ("Attribution",),
    "methods.embeddings": ("Features", "Projection", "embeddings", "pca", "umap"),
    "methods.map_statistics": ("MapStatistics", "map_statistics"),
    "methods.transforms": ("MovedScores", "transform_sensitivity"),
    "report_chapter": ("chapters",),
    "views": ("Backward", "GradientWhy", "Trace", "TrainingStep", "Why", "backward", "trace", "training_step"),
}
_LATER = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
