"""The runs in the studio's folder, and their filters. Students see no runs."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request

from ...data import pad_form
from ...errors import ConvoscopeError, UsageError
from ...evaluation import read_scores
from ...training import Run, best_epoch, read_summary
from ..errors import RequestRefused
from ..messages.common import Maps
from ..messages.runs import Filter, FilterLayer, FilterLayers, Runs, RunSummary
from ..run_folders import FIGURES, WEIGHTS, Stamps, find_run, read_runs, stamps
from ..state import Studio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

router = APIRouter(prefix="/api")


@router.get("/runs")
def runs(request: Request) -> Runs:
    """The runs in the studio's folder, sorted by name, and the names of the folders that cannot be read."""
    studio: Studio = request.app.state.studio
    if request.state.role != "owner":
        return Runs(runs=[], unreadable=[])
    found, unreadable = read_runs(studio.runs, lambda folder: _summary(folder, stamps(folder, (*WEIGHTS, *FIGURES))))
    return Runs(runs=found, unreadable=studio.skipped(unreadable))


@router.get("/runs/{name}/filters")
def filter_layers(request: Request, name: str) -> FilterLayers:
    """All convolutions of a run."""
    return FilterLayers(
        layers=[
            FilterLayer(name=layer, filters=shape[0], channels=shape[1], height=shape[2], width=shape[3])
            for layer, weights in _filters_of(request, name).items()
            for shape in [weights.shape]
        ]
    )


@router.get("/runs/{name}/filters/{layer}/{index}")
def one_filter(request: Request, name: str, layer: str, index: int) -> Filter:
    """One filter as a kernel of the step `convolve`: `(h, w, C)`."""
    layers = _filters_of(request, name)
    weights = layers.get(layer)
    if weights is None:
        raise RequestRefused(
            404, "layer-unknown", "this run has no such convolution", f"choose one of {', '.join(layers)}"
        )
    if not 0 <= index < len(weights):
        raise RequestRefused(
            404, "filter-unknown", f"{layer} has {len(weights)} filters, counted from 0; received {index}"
        )
    return Filter(maps=Maps.of(weights[index].transpose(1, 2, 0)))


@lru_cache(maxsize=1000)
def _summary(folder: Path, _: Stamps) -> RunSummary:
    """The summary of a run; read again only when its files have changed."""
    settings, history = read_summary(folder)
    form = settings.input
    scores = read_scores(folder)
    best = next((row for row in history if row["epoch"] == best_epoch(history)), None)
    return RunSummary(
        id=folder.name,
        classes=list(settings.classes),
        height=form.height,
        width=form.width,
        channels=form.channels,
        model=settings.model,
        parameters=settings.parameters,
        epochs=len(history),
        validation_accuracy=best["val_accuracy"] if best else None,
        test_accuracy=scores.accuracy if scores and scores.split == "test" else None,
        pad=pad_form(
            settings.source, settings.layout, settings.classes, form.height, form.width, form.channels, settings.task
        ),
    )


def _filters_of(request: Request, name: str) -> dict[str, NDArray[np.float32]]:
    """The filters of each convolution of a run, `(filters, channels, height, width)`.

    Raises:
        RequestRefused: 404; there is no such run, or no longer.
        ConvoscopeError: the run cannot be opened.
    """
    studio: Studio = request.app.state.studio
    folder = find_run(studio.runs, name) if request.state.role == "owner" else None
    if folder is None:
        raise RequestRefused(404, "run-unknown", "there is no such run")
    try:
        return _read_filters(folder, stamps(folder, WEIGHTS))
    except ConvoscopeError as error:
        if error.code in ("run-empty", "checkpoint-missing"):
            raise RequestRefused(404, error.code, error.reason) from None
        raise


@lru_cache(maxsize=4)
def _read_filters(folder: Path, _: Stamps) -> dict[str, NDArray[np.float32]]:
    from ...explain import filters  # imports torch

    network = Run.open(folder).network()
    found = {}
    for layer, _ in network.named_modules():
        try:
            found[layer] = filters(network, layer)
        except UsageError:
            continue  # not a convolution
    return found
