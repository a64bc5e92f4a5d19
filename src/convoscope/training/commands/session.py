"""What every command that trains runs in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..core.malloc import freed_memory_kept
from ..core.optimizer import compiler_not_loaded
from ..core.rng import generators_kept
from ..core.signals import StopSignals
from ..runs.settings import starting_now


@contextlib.contextmanager
def session() -> Iterator[StopSignals]:
    """Signals are caught, freed memory stays with the process, torch is left as it was found, and
    this is when a new run was started.
    """
    with StopSignals() as signals, freed_memory_kept(), compiler_not_loaded(), generators_kept(), starting_now():
        yield signals
