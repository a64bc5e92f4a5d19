"""Which arithmetic suits a network on this machine: a short timed probe of the real network on a real batch, made once
and then remembered (`engine_store.py`), so that the same command and seed computes the same numbers again.

Other programs must not decide it: what counts is a step's time on a machine that does nothing else, see `StepTimes`.
And what usually is best stays unless something else is clearly better, so that a little noise changes nothing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .engine import Engine, all_threads, has_bfloat16, pick_device
from .engine_store import find_choice, keep_choice, kind_of_step, only_once
from .recipe import Recipe
from .step_time import StepTimes

_WORTH = 1.15
"""How many times faster an arithmetic must be before it is preferred to a plainer one."""
_ROUNDS = 5
_MOST_ROUNDS = 30
"""How often each candidate makes a step at least and at most."""
_LONGEST = 4.0
"""Seconds after which `_FEWEST` rounds are enough."""
_FEWEST = 3
"""Fewer would let one disturbed step decide."""
_HOPELESS = 1.5
"""A candidate that took this many times the least of all in both of two rounds is left out of the others."""
_AGREE = 0.98
"""The least cosine between the gradients of the two arithmetics."""


def choose_engine(network: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], recipe: Recipe) -> Engine:
    """Pick precision, memory format and threads: those remembered for this machine and kind of step, or else by timed
    steps of copies of the network.

    If the recipe names a precision, that is used and nothing is timed: so the resolved recipe of a run, given again,
    computes the very same numbers. Where it names precision or threads, the number of threads stays during the training
    as well.

    Args:
        network: on the device.
        batch: a real batch `(N, C, H, W)`, normalised.
        loss: from the network's scores to a scalar.
        recipe: its `device`, `precision`, `memory_format` and `threads`.
    """
    device = pick_device(recipe.device)
    threads = recipe.threads or all_threads()
    if recipe.precision != "auto" or device == "mps":
        return _engine_asked_for(device, threads, recipe)
    kind = kind_of_step(network, batch, recipe, device)
    with only_once(kind):
        engine = find_choice(kind, threads)
        if engine is None:
            plain = Engine(device=device, threads=threads, threads_fixed=recipe.threads > 0)
            engine = _fastest(network, batch, loss, recipe, plain)
            keep_choice(kind, threads, engine)
    return engine


def _engine_asked_for(device: str, threads: int, recipe: Recipe) -> Engine:
    precision = "float32" if recipe.precision == "auto" else recipe.precision
    order = recipe.memory_format
    if order == "auto":
        order = "channels_last" if device.startswith("cuda") or precision == "bfloat16" else "contiguous"
    engine = Engine(device=device, precision=precision, memory_format=order, threads=threads)
    why = f" on {device}" if recipe.precision == "auto" else ", as asked for"
    return engine.model_copy(update={"reason": engine.words + why, "threads_fixed": True})


def _fastest(
    network: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], recipe: Recipe, plain: Engine
) -> Engine:
    """The engine whose steps are clearly the fastest. `plain`: the device, and all threads."""
    orders = (recipe.memory_format,) if recipe.memory_format != "auto" else _orders(network)
    plain = plain.model_copy(update={"memory_format": orders[0]})
    first = _Trial(network, batch, loss, plain)
    # In small steps threads mostly wait for each other, and much more so when other programs want the processor.
    alone = plain.device == "cpu" and not recipe.threads and plain.threads > 1
    counts = (plain.threads, 1) if alone else (plain.threads,)
    changes: list[dict[str, Any]] = [{"memory_format": order, "threads": count} for order in orders for count in counts]
    if has_bfloat16(plain.device):
        changes += [{"precision": "bfloat16", "threads": count} for count in counts]
    trials = [first, *(_Trial(network, batch, loss, plain.model_copy(update=change)) for change in changes[1:])]
    _time(trials)
    best = first
    tried = []
    for trial in trials:
        engine = trial.engine
        cosine = float(torch.nn.functional.cosine_similarity(trial.gradient, first.gradient, dim=0))
        tried.append(f"{engine.words} {_milliseconds(trial.seconds)}")
        if engine.precision == "bfloat16":
            tried[-1] += f" (gradients agree to {cosine:.4f})"
        # Fewer threads are worth a little time; another arithmetic must be clearly faster.
        gain = 1 / _WORTH if engine.threads < best.engine.threads else _WORTH
        if cosine >= _AGREE and trial.seconds * gain < best.seconds:
            best = trial
    return best.engine.model_copy(update={"reason": f"{best.engine.words}; one step: {', '.join(tried)}"})


def _orders(network: nn.Module) -> tuple[str, ...]:
    """The orders of numbers in memory that are worth a try, the one that usually is best first."""
    convolves = any(parameter.ndim == 4 for parameter in network.parameters())
    return ("channels_last", "contiguous") if convolves else ("contiguous",)


def _time(trials: Sequence[_Trial]) -> None:
    """Let the candidates make steps in turn, so that noise affects all alike, until the time of each one that may win
    is known.
    """
    begin = time.perf_counter()
    for done in range(1, _MOST_ROUNDS + 1):
        for trial in trials:
            trial.step()
        if done == 2:
            least = min(trial.seconds for trial in trials)
            trials = [trial for trial in trials if trial.seconds <= _HOPELESS * least]
        late = time.perf_counter() - begin >= _LONGEST
        if done >= (_FEWEST if late else _ROUNDS) and (late or all(trial.settled for trial in trials)):
            return


class _Trial:
    """A copy of the network that makes steps with one engine.

    Attributes:
        gradient: of the first step, as one vector on the processor.
    """

    def __init__(self, network: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], engine: Engine) -> None:
        self.engine = engine
        self._network = engine.place(copy.deepcopy(network)).train()
        self._images = engine.arrange(batch)
        self._loss = loss
        self._times = StepTimes(engine.device)
        with engine.thread_count():
            self._run()  # the first step prepares kernels, so it is not timed
        parts = [
            p.grad.detach().float().contiguous().flatten() for p in self._network.parameters() if p.grad is not None
        ]
        self.gradient = torch.cat(parts).cpu()

    @property
    def seconds(self) -> float:
        """The least a step takes on a machine that does nothing else."""
        return self._times.seconds

    @property
    def settled(self) -> bool:
        """Whether further steps would hardly change `seconds`."""
        return self._times.settled

    def step(self) -> None:
        """Time one more step."""
        with self.engine.thread_count():
            self._times.measure(self._run)

    def _run(self) -> None:
        self._network.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        with self.engine.autocast():
            scores = self._network(self._images)
        self._loss(scores).backward()
        if self.engine.device.startswith("cuda"):
            torch.cuda.synchronize()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
