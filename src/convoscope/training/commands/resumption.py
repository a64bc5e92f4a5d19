"""`resume`: go on with a run, or let it begin anew if it was killed before its first checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

from torch import nn

from ...models import ModuleMaker
from ..core.hooks import Hooks
from ..core.reporters import Listening, one_reporter
from ..runs.folder import check_own, ended_early
from ..runs.request import Request
from ..runs.run import Run
from .keywords import HookKeywords
from .resume import go_on
from .train import train_anew
from .transfer import relearn_anew


def resume(
    folder: str | os.PathLike[str],
    *,
    epochs: int | None = None,
    accept_data_change: bool = False,
    source: str | os.PathLike[str] | None = None,
    model: nn.Module | ModuleMaker | None = None,
    reporter: Listening = None,
    **own: Unpack[HookKeywords],
) -> Run:
    """Go on with a training that was stopped, killed, or is to be made longer, from its last checkpoint.

    A run that was killed before its first one begins anew, by what its run.toml says. On the same machine with the same
    versions and number of threads the final weights are bit for bit those of an undisturbed training. If `epochs` is
    raised, the schedule stretches from here on.

    Args:
        folder: the run.
        epochs: a new total number of epochs, not smaller than those done.
        accept_data_change: go on although images have come, gone or changed since.
        source: where the run's images are now, if they were moved; they are found by their content.
        model: the module of your own that the run trains, if it does, or what makes it.
        reporter: listens to what happens.
        **own: `loss`, `metrics`, `augment` and `head`, as they were given to `train`.

    Raises:
        ModelFileError: there is no valid checkpoint, nothing was begun (`run-empty`), code of your own is not given
            (`run-needs-module`, `run-needs-own-code`), or the images differ (`data-changed`).
        DataError: none of the images is in `source` (`moved-not-found`).
        InUseError: another process trains there.
    """
    place, told = Path(folder), one_reporter(reporter)
    if not ended_early(place) or (request := Request.read(place)) is None:
        return go_on(
            place,
            epochs=epochs,
            accept_data_change=accept_data_change,
            source=source,
            model=model,
            hooks=Hooks.of(own),
            reporter=told,
        )
    check_own(place)
    told.say("it was ended before its training began: it begins anew")
    if epochs is not None:
        request = request.model_copy(update={"recipe": request.recipe | {"epochs": epochs}})
    if source is not None:
        request = request.model_copy(update={"source": str(Path(source).absolute())})
    if request.relearn is not None:
        return relearn_anew(place, request, told)
    return train_anew(place, request, model=model, hooks=own, accept_data_change=accept_data_change, reporter=told)
