"""Which step made the numbers that a tensor holds now.

Many tensors can view one memory (a storage of torch's), and through each of them it can be written to. For each memory
the writes are kept in their order, with the cells that they went to, so that the numbers of any tensor can be traced
cell by cell to the steps they come from. What steps show or use is copied just before it is overwritten, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .records import Step

_UNTOUCHED, _CONSTANT = -1, -2


@dataclass(frozen=True)
class Assembly:
    """Numbers of several steps in one tensor.

    Attributes:
        steps: where they come from.
        places: int64 in the tensor's shape: the place of each number, counted through the outputs of all `steps`; below
            0: a number of the network's own.
    """

    steps: tuple[Step, ...]
    places: Tensor

    def holds(self, numbers: Tensor) -> bool:
        """Whether the tensor does have these numbers in it: code outside torch may have written to it too."""
        if not self.steps:
            return True
        every = torch.cat([step.output.reshape(-1) for step in self.steps])
        picked = every[self.places.clamp(min=0).to(every.device)]
        same = (picked == numbers) | ((picked != picked) & (numbers != numbers))
        return bool((same | (self.places < 0).to(same.device)).all())


@dataclass(frozen=True)
class _Write:
    """Which numbers were written (None: some of the network's own), and the cells of a memory that they went to."""

    origin: Step | Assembly | None
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    bytes_each: int


class Memory:
    """All tensors that hold something of the image. They are kept, so that no identity is used twice."""

    def __init__(self, own: Iterable[Tensor] = ()) -> None:
        """`own`: the network's tensors, which get their numbers back by `restore`."""
        self._known: dict[int, tuple[Step, Tensor, int]] = {}
        """A tensor's identity to its step, and how many writes its memory had seen when it became known."""
        self._writes: dict[int, list[_Write]] = {}
        self._holders: dict[int, list[Step]] = {}
        """Memory to the steps that show or use numbers in it."""
        self._own: dict[int, Tensor] = {memory_of(tensor): tensor for tensor in own}
        self._before: dict[int, torch.UntypedStorage] = {}
        """Of the network's own memory that was written to, what it held before."""

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor may hold something of the image."""
        return id(tensor) in self._known or memory_of(tensor) in self._writes

    def know(self, tensor: Tensor, step: Step) -> None:
        """From now on the tensor holds what the step gave; a view of numbers that are there already."""
        self._known[id(tensor)] = (step, tensor, len(self._writes.get(memory_of(tensor), ())))

    def wrote(self, tensor: Tensor, origin: Step | Assembly | None) -> None:
        """Numbers went into the tensor's memory, repeated where it has more cells; None: some of the network's own."""
        write = _Write(
            origin, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.element_size()
        )
        self._writes.setdefault(memory_of(tensor), []).append(write)
        if isinstance(origin, Step) and origin.output.shape == tensor.shape:
            self.know(tensor, origin)

    def hold(self, step: Step) -> None:
        """Copy what the step shows or uses before it is overwritten."""
        leaves = [step.output, *tree_leaves((step.arguments, step.keywords))]
        for memory in {memory_of(leaf) for leaf in leaves if isinstance(leaf, Tensor)}:
            self._holders.setdefault(memory, []).append(step)

    def before_change(self, changed: Sequence[Tensor]) -> None:
        """These tensors are about to be written to."""
        for memory, tensor in {memory_of(tensor): tensor for tensor in changed}.items():
            holders = self._holders.pop(memory, [])
            keep = memory in self._own and memory not in self._before
            if not holders and not keep:
                continue
            replace = _copier(memory, tensor)
            for step in holders:
                step.output = replace(step.output)
                step.arguments, step.keywords = tree_map(replace, (step.arguments, step.keywords))
            if keep:
                self._before[memory] = tensor.untyped_storage().clone()

    def restore(self) -> None:
        """Give the network's own tensors their numbers back; what steps show or use stays as it was recorded."""
        self.before_change([self._own[memory] for memory in self._before])
        for memory, numbers in self._before.items():
            self._own[memory].untyped_storage().copy_(numbers)

    def is_current(self, tensor: Tensor) -> bool:
        """Whether nothing was written to the tensor's memory since its step became known."""
        step, _, since = self._known.get(id(tensor), (None, None, 0))
        return step is not None and len(self._writes.get(memory_of(tensor), ())) == since

    def origin(self, tensor: Tensor) -> Step | Assembly | None:
        """Where the numbers come from that the tensor holds now; None where that cannot be followed."""
        own, _, since = self._known.get(id(tensor), (None, None, 0))
        writes = self._writes.get(memory_of(tensor), [])
        if own is not None and len(writes) == since:
            return own
        try:
            return self._assembled(tensor, own, writes[since:])
        except RuntimeError:  # cells of another size, or several in one place
            return None

    def _assembled(self, tensor: Tensor, own: Step | None, writes: Sequence[_Write]) -> Step | Assembly:
        if any(write.bytes_each != tensor.element_size() for write in writes):
            raise RuntimeError("cells of another size")
        cells = torch.full((tensor.untyped_storage().nbytes() // tensor.element_size(),), _UNTOUCHED)
        sources: list[Step] = []
        for write in writes:
            numbers = _numbers(write.origin)
            places = numbers.places.expand(write.shape)
            moved = torch.where(places >= 0, places + sum(step.output.numel() for step in sources), _CONSTANT)
            cells.as_strided(write.shape, write.stride, write.offset).copy_(moved)
            sources += numbers.steps
        places = cells.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).clone()
        if own is not None:
            places = torch.where(places == _UNTOUCHED, _count(tensor) + sum(s.output.numel() for s in sources), places)
            sources.append(own)
        steps, renumbered, start, count = [], torch.full_like(places, _CONSTANT), 0, 0
        for step in sources:
            here = (places >= start) & (places < start + step.output.numel())
            if here.any():
                renumbered = torch.where(here, places - start + count, renumbered)
                steps.append(step)
                count += step.output.numel()
            start += step.output.numel()
        if len(steps) == 1 and steps[0].output.shape == tensor.shape and torch.equal(renumbered, _count(tensor)):
            self.know(tensor, steps[0])
            return steps[0]
        return Assembly(tuple(steps), renumbered)


def _numbers(origin: Step | Assembly | None) -> Assembly:
    """All of a step's output in its order; of none a number of the network's own."""
    if isinstance(origin, Step):
        return Assembly((origin,), _count(origin.output))
    return origin or Assembly((), torch.tensor(_CONSTANT))


def _count(tensor: Tensor) -> Tensor:
    """The flat place of each number, in the tensor's shape."""
    return torch.arange(tensor.numel()).reshape(tensor.shape)


def memory_of(tensor: Tensor) -> int:
    """Which memory a tensor is in; tensors without one, such as sparse ones, count as a memory each."""
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        return -id(tensor)


def _copier(memory: int, tensor: Tensor) -> Callable[[Any], Any]:
    """Puts in place of each tensor in that memory the same in one copy of it, lying there in the same way."""
    copy: torch.UntypedStorage | None = None

    def replace(leaf: Any) -> Any:
        nonlocal copy
        if not isinstance(leaf, Tensor) or memory_of(leaf) != memory:
            return leaf
        if memory < 0 or leaf.is_conj() or leaf.is_neg() or leaf.is_quantized:
            return leaf.detach().clone()
        if copy is None:
            copy = tensor.untyped_storage().clone()
        fresh = torch.empty(0, dtype=leaf.dtype, device=leaf.device)
        return fresh.set_(copy, leaf.storage_offset(), leaf.shape, leaf.stride())

    return replace
