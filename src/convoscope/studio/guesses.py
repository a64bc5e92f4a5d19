"""A network's answer to a drawing. Networks stay loaded, and one thread answers the drawings one after the other.

That thread also imports torch, which takes seconds; a drawing that comes earlier waits for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from ..data import pad_image
from ..errors import ConvoscopeError, printable
from ..models import role_of
from ..training import Run
from .drawables import form_of
from .errors import RequestRefused
from .messages.common import Maps, Pixels, bytes_of
from .messages.draw import Answer, Guess, LayerMaps

if TYPE_CHECKING:
    from ..explain import Trace

PAD_SIDE: Final = 256
"""Height and width of the drawing pad in pixels."""

_MOST_LOADED = 4
"""Networks that stay loaded."""
_WEIGHTS = ("best.safetensors", "last.safetensors")

_Stamp = tuple[str, int, int, int]


class Guesser:
    """Answers drawings, one after the other."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="guess")
        self._runs: OrderedDict[Path, tuple[_Stamp, Run]] = OrderedDict()

    def warm_up(self, folders: Sequence[Path]) -> None:
        """Import torch and load the runs in these folders, so that the first drawings are answered quickly. Returns at
        once.
        """
        self._worker.submit(self._warm_up, folders)

    async def guess(self, folder: Path, pad: NDArray[np.uint8]) -> Guess:
        """The answer of the run in this folder to a drawing.

        Args:
            folder: the run's folder.
            pad: uint8 `(H, W)`, 0 for paper and 255 for ink.

        Raises:
            RequestRefused: 404 `no-such-model`: the run no longer exists; 409: it cannot be used.
            ConvoscopeError: its files are damaged.
        """
        return await asyncio.wrap_future(self._worker.submit(self._guess, folder, pad))

    def close(self) -> None:
        """Answer no more drawings, after the one that is being answered."""
        self._worker.shutdown(cancel_futures=True)

    # --- in the worker's thread ---

    def _warm_up(self, folders: Sequence[Path]) -> None:
        import torch

        torch.set_num_threads(1)  # several are slower for such small networks, above all beside a training
        pad = np.zeros((PAD_SIDE, PAD_SIDE), dtype=np.uint8)
        pad[100:150, 100:110] = 255
        for folder in folders:
            with suppress(RequestRefused, ConvoscopeError):
                self._guess(folder, pad)

    def _guess(self, folder: Path, pad: NDArray[np.uint8]) -> Guess:
        run = self._run(folder)
        form = form_of(run.settings)
        if form is None:
            raise RequestRefused(
                409, "model-not-for-drawings", "This run was trained on images other than drawings or digits."
            )
        image = pad_image(pad, form)
        height, width = image.shape
        pixels = Pixels(height=height, width=width, channels=1, values=bytes_of(image), notes=[])
        if not image.any():
            return Guess(blank=True, input=pixels, answers=[], layers=[])
        from ..explain import trace

        scores, distances = run.scores_and_distances(image[None, :, :, None])
        if not np.isfinite(scores).all():
            raise RequestRefused(
                409, "scores-not-finite", "This run's answers are not finite numbers: its weights are damaged."
            )
        named = [
            Answer(name=printable(name), probability=value)
            for name, value in zip(run.classes, scores[0].tolist(), strict=True)
        ]
        known = None if distances is None else run.prediction("", scores[0], float(distances[0])).known
        traced = trace(run.network(), run.input_tensor(image[None, :, :, None]))
        return Guess(
            blank=False,
            input=pixels,
            known=known,
            answers=sorted(named, key=lambda answer: -answer.probability),
            layers=_convolution_maps(traced),
        )

    def _run(self, folder: Path) -> Run:
        """The run, loaded again when its checkpoint has changed on the disk."""
        stamp = _stamp(folder)
        if stamp is None:
            self._runs.pop(folder, None)
            raise RequestRefused(
                404, "no-such-model", "This network no longer exists.", "Choose another one from the list."
            )
        loaded = self._runs.pop(folder, None)
        if loaded is None or loaded[0] != stamp:
            run = Run.open(folder)
            run.network()
            loaded = stamp, run
        self._runs[folder] = loaded
        while len(self._runs) > _MOST_LOADED:
            self._runs.popitem(last=False)
        return loaded[1]


def _stamp(folder: Path) -> _Stamp | None:
    """Identifies a checkpoint of a run; None if there is none."""
    for name in _WEIGHTS:
        with suppress(OSError):
            status = (folder / name).stat()
            return name, status.st_ino, status.st_size, status.st_mtime_ns
    return None


def _convolution_maps(traced: Trace) -> list[LayerMaps]:
    """The maps of each convolution, after the norm and the activation that follow it, if there are any."""
    users: dict[int, list[int]] = {}
    for step in traced.steps:
        for number in set(step.references()):
            users.setdefault(number, []).append(step.number)
    found = []
    for step in traced.steps:
        if role_of(step.kind) != "convolution" or len(step.shape) != 3:
            continue
        last = step
        while role_of(last.kind) != "activation" and len(users.get(last.number, [])) == 1:
            following = traced.steps[users[last.number][0]]
            if role_of(following.kind) not in ("norm", "activation"):
                break
            last = following
        maps = Maps.of(last.output[0].permute(1, 2, 0).double().numpy())
        found.append(LayerMaps(layer=step.name, maps=maps))
    return found
