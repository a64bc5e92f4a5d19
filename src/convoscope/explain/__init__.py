"""What happens inside a network, and by hand: every number, and where it comes from."""

from typing import TYPE_CHECKING

from .kernels import border_cells, convolve, filters, output_size, output_size_text, pool

if TYPE_CHECKING:
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
    from .features import (
        Features,
        Projection,
        embeddings,
        pca,
        umap,
    )
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
    from .gradients import (
        Backward,
        GradientWhy,
        TrainingStep,
        backward,
        training_step,
    )
    from .looking import (
        Look,
        RunInspection,
        chapters,
        filter_sheets,
        look,
    )
    from .moving import (
        MovedScores,
        transform_sensitivity,
    )
    from .seeking import (
        Example,
        Grown,
        maximise_activation,
        top_activating_examples,
    )
    from .statistics import (
        MapStatistics,
        map_statistics,
    )
    from .tracing import (
        Normalisation,
        Step,
        Trace,
        trace,
    )
    from .why import (
        Term,
        Unit,
        Why,
        read_unit,
    )

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
    "Normalisation",
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
    "METHODS": "attribution",
    "Attribution": "attribution",
    "attribute": "attribution",
    "grad_cam": "attribution",
    "integrated_gradients": "attribution",
    "occlusion": "attribution",
    "pixel_flips": "attribution",
    "saliency": "attribution",
    "shuffled": "attribution",
    "similarity": "attribution",
    "Features": "features",
    "Projection": "features",
    "embeddings": "features",
    "pca": "features",
    "umap": "features",
    "attribution_sheet": "figures",
    "filter_sheet": "figures",
    "image_sheet": "figures",
    "map_sheet": "figures",
    "overview": "figures",
    "patches_sheet": "figures",
    "scatter": "figures",
    "scores_bars": "figures",
    "why_figure": "figures",
    "Backward": "gradients",
    "GradientWhy": "gradients",
    "TrainingStep": "gradients",
    "backward": "gradients",
    "training_step": "gradients",
    "RunInspection": "looking",
    "Look": "looking",
    "chapters": "looking",
    "filter_sheets": "looking",
    "look": "looking",
    "MovedScores": "moving",
    "transform_sensitivity": "moving",
    "Example": "seeking",
    "Grown": "seeking",
    "top_activating_examples": "seeking",
    "maximise_activation": "seeking",
    "MapStatistics": "statistics",
    "map_statistics": "statistics",
    "Normalisation": "tracing",
    "Step": "tracing",
    "Trace": "tracing",
    "trace": "tracing",
    "Term": "why",
    "Unit": "why",
    "Why": "why",
    "read_unit": "why",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
