"""Where and in which arithmetic a network runs: the device, float32 or bfloat16, channels last or not.

`auto` is a short timed probe of the real network on a real batch. bfloat16 is taken only if it is clearly faster and
its gradients agree with float32's; the choice, its reason and its figures go into the run and are kept when it is
resumed.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MachineError, UsageError
from .recipe import MOST_THREADS, EngineSettings, Recipe

_WORTH = 1.15
"""How many times faster an arithmetic must be before it is preferred to plain float32."""
_SMALL = 0.05
"""Seconds of a step below which one thread is tried against all."""
_ROUNDS = 5
"""How often each candidate makes a step; the least time counts."""
_AGREE = 0.98
"""The least cosine between the gradients of the two arithmetics."""


class Engine(EngineSettings):
    """How a network is run. Frozen, and part of the run."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which forward passes run."""
        if self.precision == "bfloat16":
            return torch.autocast(torch.device(self.device).type, torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def words(self) -> str:
        """For people: `bfloat16, channels-last, 2 threads`."""
        order = ", channels-last" if self.memory_format == "channels_last" else ""
        return f"{self.precision}{order}, {self.threads} thread{'s' if self.threads > 1 else ''}"

    @contextlib.contextmanager
    def thread_count(self) -> Iterator[None]:
        """While this is open, torch computes on this engine's number of threads: results depend on it in the last
        digits.
        """
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def place(self, network: nn.Module) -> nn.Module:
        """The network on the device, its weights in the memory order that this engine wants."""
        return network.to(self.device).to(memory_format=self._order)

    def arrange(self, batch: Tensor) -> Tensor:
        """A batch `(N, C, H, W)` in the memory order that this engine wants."""
        return batch.contiguous(memory_format=self._order)

    @property
    def _order(self) -> torch.memory_format:
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format


def all_threads() -> int:
    """How many threads torch uses by default."""
    return min(torch.get_num_threads(), MOST_THREADS)


def pick_device(wanted: str) -> str:
    """`auto` is the graphics card if there is one, else the processor.

    Raises:
        UsageError: no such kind of device (`device-unknown`).
        MachineError: this machine has no such device (`device-absent`).
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(
            "device",
            f"expected auto, cpu, cuda, cuda:N or mps; received {wanted!r}",
            hint="use --device auto",
            code="device-unknown",
        )
    absent = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if absent:
        raise MachineError(wanted, "this machine has no such device", hint="use --device auto", code="device-absent")
    return wanted


def choose_engine(network: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], recipe: Recipe) -> Engine:
    """Pick precision, memory format and threads by timed steps of copies of the network, in turn, so that noise affects
    all alike.

    If the recipe names a precision, that is used and nothing is timed: so the resolved recipe of a run, given again,
    computes the very same numbers.

    Args:
        network: on the device.
        batch: a real batch `(N, C, H, W)`, normalised.
        loss: from the network's scores to a scalar.
        recipe: its `device`, `precision`, `memory_format` and `threads`.
    """
    device = pick_device(recipe.device)
    threads = recipe.threads or all_threads()
    plain = Engine(device=device, threads=threads)
    if recipe.precision != "auto" or device == "mps":
        precision = "float32" if recipe.precision == "auto" else recipe.precision
        order = recipe.memory_format
        if order == "auto":
            order = "channels_last" if device.startswith("cuda") or precision == "bfloat16" else "contiguous"
        engine = plain.model_copy(update={"precision": precision, "memory_format": order})
        why = f" on {device}" if recipe.precision == "auto" else ", as asked for"
        return engine.model_copy(update={"reason": engine.words + why})
    orders = ("contiguous", "channels_last") if recipe.memory_format == "auto" else (recipe.memory_format,)
    plain = plain.model_copy(update={"memory_format": orders[0]})
    first = _Trial(network, batch, loss, plain)
    first.step()
    trials = [first]

    def also_try(**changes: Any) -> None:
        engine = plain.model_copy(update=changes)
        if engine != plain:
            trials.append(_Trial(network, batch, loss, engine))

    if device == "cpu" and not recipe.threads and first.seconds < _SMALL:
        # In small steps threads mostly wait for each other, and much more so when other programs want the processor.
        also_try(threads=1)
    also_try(memory_format=orders[-1])
    also_try(memory_format=orders[-1], precision="bfloat16")
    for _ in range(_ROUNDS if first.seconds < 0.5 else 2):
        for trial in trials:
            trial.step()
    best = first
    tried = []
    for trial in trials:
        engine = trial.engine
        cosine = float(torch.nn.functional.cosine_similarity(trial.gradient, first.gradient, dim=0))
        tried.append(f"{engine.words} {_milliseconds(trial.seconds)}")
        # Fewer threads are worth a little time; another arithmetic must be clearly faster.
        gain = 1 / _WORTH if engine.threads < threads else _WORTH
        if engine.precision == "bfloat16":
            tried[-1] += f" (gradients agree to {cosine:.4f})"
        if trial is not first and cosine >= _AGREE and trial.seconds * gain < first.seconds:
            best = trial if best is first or trial.seconds < best.seconds else best
    return best.engine.model_copy(update={"reason": f"{best.engine.words}; one step: {', '.join(tried)}"})


class _Trial:
    """A copy of the network that makes steps with one engine.

    Attributes:
        seconds: the least a step took; the first one, which prepares kernels, does not count.
        gradient: of the first step, as one vector on the processor.
    """

    def __init__(self, network: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], engine: Engine) -> None:
        self.engine = engine
        self._network = engine.place(copy.deepcopy(network)).train()
        self._images = engine.arrange(batch)
        self._loss = loss
        self.gradient = torch.empty(0)
        self.seconds = 0.0
        with engine.thread_count():
            self._run()
        parts = [
            p.grad.detach().float().contiguous().flatten() for p in self._network.parameters() if p.grad is not None
        ]
        self.gradient = torch.cat(parts).cpu()

    def step(self) -> None:
        """Time one more step."""
        with self.engine.thread_count():
            begin = time.perf_counter()
            self._run()
            taken = time.perf_counter() - begin
        self.seconds = min(self.seconds or taken, taken)

    def _run(self) -> None:
        self._network.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        with self.engine.autocast():
            scores = self._network(self._images)
        self._loss(scores).backward()
        _finish(self.engine.device)


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
