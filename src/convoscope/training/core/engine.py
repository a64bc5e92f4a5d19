"""Where and in which arithmetic a network runs: the device, float32 or bfloat16, channels last or not, and on how many
threads. `engine_choice.py` chooses; the choice, its reason and its figures go into the run and are kept when it is
resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import MachineError, UsageError
from .recipe import MOST_THREADS, EngineSettings


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

    @property
    def assignments(self) -> str:
        """What makes another run compute in the same way, as it is typed: `--set precision=float32 ...`."""
        return " ".join(f"--set {key}={getattr(self, key)}" for key in ("precision", "memory_format", "threads"))

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


def has_bfloat16(device: str) -> bool:
    """Whether the machine multiplies in bfloat16. Where it must be imitated it is 3 to 28 times as slow as float32,
    measured on an AMD EPYC.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
