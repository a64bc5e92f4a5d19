"""Which arithmetic was chosen on this machine for which kind of step, in the cache folder: so the same command and seed
computes the same numbers again, however busy the machine is by then.

A file of JSON for each kind: the choice for each number of threads that was available when it was made. Files are
replaced atomically; one that cannot be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ... import data
from ...errors import MachineError
from ...files import write_json
from ...parsing import parse_json, read_bytes
from .engine import Engine
from .machine import processor_name
from .recipe import Recipe

_MOST_FILES = 5_000
"""Beyond this, those written first are removed."""
_MOST_BYTES = 100_000
_CHOICES = TypeAdapter(dict[int, Engine])


def kind_of_step(network: nn.Module, batch: Tensor, recipe: Recipe, device: str) -> str:
    """A hash over what decides how fast a step is in which arithmetic: the processor or graphics card, the machine's
    cores, torch's version, the batch's shape, the type of each module with the shapes of its own weights and whether
    they learn, and what the recipe demands.
    """
    layers = [
        [type(module).__name__, *([list(value.shape), value.requires_grad] for value in module.parameters(False))]
        for module in network.modules()
    ]
    machine = [processor_name(), os.cpu_count(), torch.__version__]
    if device.startswith("cuda"):
        machine.append(torch.cuda.get_device_name(device))
    kind = [machine, list(batch.shape), layers, recipe.memory_format, recipe.threads, device]
    return hashlib.sha256(json.dumps(kind).encode()).hexdigest()


@contextlib.contextmanager
def only_once(kind: str) -> Iterator[None]:
    """While this is open, other processes that ask for the same kind wait: they will find the choice made."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(MachineError):
            held.enter_context(data.cache.alone(kind))
        yield


def find_choice(kind: str, threads: int) -> Engine | None:
    """The engine chosen here before where this many threads were available, or more if it needs no more than these."""
    choices = _choices(kind)
    for available in sorted(choices):
        engine = choices[available]
        if engine.threads <= threads <= available:
            return engine.model_copy(update={"reason": f"{engine.reason}; remembered from an earlier run"})
    return None


def keep_choice(kind: str, threads: int, engine: Engine) -> None:
    """Keep a choice, made where this many threads were available. Where that fails, the next run chooses anew."""
    choices = _choices(kind) | {threads: engine}
    with contextlib.suppress(MachineError, OSError):
        path = _path(kind)
        path.parent.mkdir(exist_ok=True)
        write_json(path, {str(count): choice.model_dump() for count, choice in choices.items()})
        files = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_MOST_FILES]:
            file.unlink(missing_ok=True)


def _choices(kind: str) -> dict[int, Engine]:
    try:
        return _CHOICES.validate_python(parse_json(read_bytes(_path(kind), _MOST_BYTES)))
    except (OSError, ValueError, ValidationError, MachineError):
        return {}


def _path(kind: str) -> Path:
    return data.cache.cache_folder() / "engines" / f"{kind[:32]}.json"
