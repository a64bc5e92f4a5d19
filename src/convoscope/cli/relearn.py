"""`convoscope relearn`: transfer learning, new classes for a network that is already trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .finish import finish
from .log_option import tracked
from .options import SOURCE, Afterwards, MovedTo, Output, Parts, RecipeOptions, Seed, Strict
from .output import console


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How the new head is made, and what else learns."""

    head: Annotated[
        Literal["linear", "mean", "mlp"] | None,
        Parameter(
            help="linear: logistic regression; mean: the nearest class mean; mlp: one hidden layer. By default linear."
        ),
    ] = None
    augmented_views: Annotated[
        int | None,
        Parameter(
            help="Show each training image to the backbone this many times, augmented differently each time; "
            "by default 8 for few small images, otherwise 1."
        ),
    ] = None
    feature_layer: Annotated[
        str | None,
        Parameter(
            help="With a run as BACKBONE: the layer whose output becomes the features; by default the one that does "
            "best in cross-validation."
        ),
    ] = None
    unfreeze: Annotated[
        str | None,
        Parameter(help="Fine-tune the backbone once the head is fitted: all, or how many of its last blocks."),
    ] = None
    epochs: Annotated[
        int | None, Parameter(help="With --unfreeze: how often every training image is shown to the backbone.")
    ] = None
    coverage: Annotated[
        float | None,
        Parameter(help="Share of new images of the classes that are to be known; by default 0.99, or less with few."),
    ] = None
    add: Annotated[
        bool, Parameter(show_default=False, help="Add SOURCE's classes and images to those of the run BACKBONE.")
    ] = False
    moved_to: MovedTo = None

    def blocks(self) -> Any:
        """`--unfreeze` as a number where it is one; `relearn` refuses what it cannot be."""
        blocks = self.unfreeze or 0
        return int(blocks) if isinstance(blocks, str) and blocks.isascii() and blocks.isdigit() else blocks


def relearn(
    backbone: Annotated[
        str, Parameter(help="imagenet, timm:NAME, torchvision:NAME, a run's folder, or a .safetensors file.")
    ],
    source: Annotated[str, SOURCE],
    /,
    *,
    output: Output = None,
    transfer: Transfer = Transfer(),
    model: Annotated[
        str | None,
        Parameter(help="For a .safetensors file from elsewhere: its network, timm:NAME or torchvision:NAME."),
    ] = None,
    seed: Seed = None,
    parts: Parts = Parts(),
    recipe: RecipeOptions = RecipeOptions(),
    strict: Strict = False,
    afterwards: Afterwards = Afterwards(),
) -> None:
    """Transfer learning: keep the backbone of a trained network and fit a new head to SOURCE's classes, in seconds.

    For instance: convoscope relearn imagenet photos/

    The features of each image are cached, so another head or another class takes seconds. Ctrl-C loses nothing.
    """
    from ..terminal import TerminalReporter
    from ..training import relearn as start

    reporter = tracked(TerminalReporter(console(error=True)), afterwards.log)
    run = start(
        backbone,
        source,
        output=output,
        head=transfer.head,
        augmented_views=transfer.augmented_views,
        feature_layer=transfer.feature_layer,
        unfreeze=transfer.blocks(),
        coverage=transfer.coverage,
        add=transfer.add,
        source=transfer.moved_to,
        model=model,
        seed=seed or 0,
        strict=strict,
        reporter=reporter,
        **parts.given(),
        **recipe.read(transfer.epochs),
    )
    finish(run, reporter, afterwards, quick=True)
