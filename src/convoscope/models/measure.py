"""The table of any network, from watching one image of zeros go through it.

Every tensor operation is seen below the modules, so that functional calls, additions and concatenations count too. Work
counts for the innermost module that is running, and receptive fields are followed from tensor to tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._pytree import tree_leaves

from ..errors import UsageError
from .axes import AxisFollower
from .dispatch import OperationMode
from .layers import CLASSES
from .modes import eval_mode
from .multiply_adds import multiply_adds
from .network import Parallel, Residual
from .reach import Reach, after, of_image, united
from .rows import LayerRow, formula, side


def measure(module: nn.Module, input: tuple[int, int, int]) -> tuple[LayerRow, ...]:
    """One row for each layer in the order of execution; the module is left as it was found.

    A row is a module without others inside, or one that computes or holds parameters itself.

    Raises:
        UsageError: torch.jit has compiled it (`model-scripted`).
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise UsageError(
            f"model {type(module).__name__}",
            "its layers were compiled by torch.jit, and nothing can be heard from them one by one",
            code="model-scripted",
            hint="give the network that it was made from",
        )
    height, width, channels = input
    weight = next(module.parameters(), torch.zeros(()))
    with torch.inference_mode(False):
        return _measured(module, torch.zeros(1, channels, height, width, device=weight.device, dtype=weight.dtype))


def _measured(module: nn.Module, image: Tensor) -> tuple[LayerRow, ...]:
    watcher = _Watcher(module)
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)  # it hides the matrix products of attention
        watcher.attach()
        watcher.axes.begin(image)
        watcher.follow(image, of_image(*image.shape[2:]))
        with (
            eval_mode(module),
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            sdpa_kernel(SDPBackend.MATH),  # the others hide them too
            watcher,
        ):
            module(image)
    finally:
        watcher.release()
        torch.backends.mha.set_fastpath_enabled(fast)
    return tuple(watcher.rows)


class _Watcher(OperationMode):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {part: name for name, part in module.named_modules()}
        self.rows: list[LayerRow] = []
        self.work: list[int] = []
        self.counted: set[int] = set()
        # By identity; the tensors are kept so that no identity is used twice. None: cannot be followed.
        self.reaches: dict[int, tuple[Reach | None, Tensor]] = {}
        # Memory to the tensors in it, and to what was written into a part of it.
        self.homes: dict[int, list[Tensor]] = {}
        self.spilled: dict[int, list[tuple[Reach, tuple[int, ...]]]] = {}
        self.hooks: list[Any] = []
        self.axes = AxisFollower()
        self.parametrizing = 0
        """How many modules are running that make weights of weights."""

    def attach(self) -> None:
        for part in self.names:
            with contextlib.suppress(RuntimeError):  # scripted modules take no hooks: they count for the one around
                self.hooks.append(part.register_forward_pre_hook(self._enter))
                self.hooks.append(part.register_forward_hook(self._leave))

    def release(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def follow(self, tensor: Tensor, reach: Reach | None) -> None:
        if id(tensor) not in self.reaches:
            self.homes.setdefault(_storage(tensor), []).append(tensor)
        self.reaches[id(tensor)] = (reach, tensor)

    def reach_of(self, leaf: Any) -> Reach | None:
        return self.reaches.get(id(leaf), (None, None))[0]

    def _enter(self, part: nn.Module, _: object) -> None:
        self.work.append(0)
        self.parametrizing += isinstance(part, ParametrizationList)

    def _leave(self, part: nn.Module, _: object, output: object) -> None:
        work = self.work.pop()
        self.parametrizing -= isinstance(part, ParametrizationList)
        # Parameters of the modules inside that have run are counted there.
        own = [parameter for parameter in part.parameters() if id(parameter) not in self.counted]
        self.counted.update(map(id, own))
        # An empty nn.Sequential, such as the shortcut of a residual, is not a layer.
        layer = isinstance(part, Residual | Parallel) or not (isinstance(part, nn.Sequential) or list(part.children()))
        if not (layer or own or work):
            return
        tensor = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        reach = self.reach_of(tensor)
        field = None if reach is None or tensor is None else reach.of_the_middle(tensor.shape)
        self.rows.append(
            LayerRow(
                name=self.names[part] or type(part).__name__,
                kind=_kind(part),
                output=_shape(tensor, self.axes),
                parameters=sum(parameter.numel() for parameter in own),
                formula=formula(tuple(_product(part, parameter) for parameter in own)),
                multiply_adds=work,
                receptive_field=side(field) if field else None,
            )
        )

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        given = args
        if torch.Tag.inplace_view in func.tags and self.depends(args[0]):
            before = args[0].detach()  # in the form it has now
            self.follow(before, self.reach_of(args[0]))
            result = func(*args, **kwargs)
            args = (before, *args[1:])
        else:
            result = func(*args, **kwargs)
        name = func._overloadpacket.__name__
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        inputs = [leaf for leaf in inputs if self.depends(leaf)]
        # What makes a weight of weights, as spectral_norm does, is no work for the image.
        of_weights = not inputs and (self.parametrizing or name in ("mv", "dot"))
        if self.work and not of_weights:
            self.work[-1] += multiply_adds(name, args, result)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if inputs and made:
            found: list[Reach | None] = [None] * len(made)
            if all(self.reach_of(leaf) is not None for leaf in inputs):
                found = after(name, func, args, self.reach_of, made)
            for output, reach in zip(made, found, strict=True):
                self.follow(output, reach)
            if func._schema.is_mutable and torch.Tag.inplace_view not in func.tags:
                self._spill(made[0], found[0])
        self.axes.ran(func, tuple(given), kwargs, result)
        return result

    def depends(self, leaf: Tensor) -> bool:
        """Whether a tensor depends on the image, also where it shares memory that was written to."""
        storage = _storage(leaf)
        if id(leaf) not in self.reaches and storage in self.spilled:
            parts = [reach.written(shape, leaf.shape) for reach, shape in self.spilled[storage]]
            self.follow(leaf, united(parts, parts[0].jump))
        return id(leaf) in self.reaches

    def _spill(self, written: Tensor, reach: Reach | None) -> None:
        """Other tensors that share this memory may hold what was written."""
        storage = _storage(written)
        whole = written.untyped_storage().nbytes() == written.numel() * written.element_size()
        for leaf in self.homes[storage]:
            before = self.reach_of(leaf)
            if leaf is not written and before is not None:
                self.follow(leaf, reach and united([before, reach.written(written.shape, leaf.shape)], before.jump))
        if reach is not None and not whole:
            self.spilled.setdefault(storage, []).append((reach, tuple(written.shape)))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _kind(part: nn.Module) -> str:
    if type(part) is nn.AvgPool2d and part.divisor_override == 1:
        return "sumpool"
    name, home = type(part).__name__, type(part).__module__
    known = home.startswith("torch.nn.") or home == Residual.__module__  # not a class of the user's with such a name
    return CLASSES.get(name, name.lower()) if known else name.lower()


def _shape(tensor: Tensor | None, axes: AxisFollower) -> tuple[int, ...]:
    """Without the batch axis, channels of maps last."""
    if tensor is None:
        return ()
    if tensor.ndim == 4:
        known = axes.of(tensor)
        if known is not None and known.grid is not None and known.grid.batched:
            return known.grid.height, known.grid.width, known.grid.channels
        return tensor.shape[2], tensor.shape[3], tensor.shape[1]
    return tuple(tensor.shape[1:])


def _product(part: nn.Module, parameter: Tensor) -> tuple[int, ...]:
    if isinstance(part, nn.Conv2d) and parameter.ndim == 4:
        out_channels, in_channels, height, width = parameter.shape
        return height, width, in_channels, out_channels
    if isinstance(part, nn.Linear) and parameter.ndim == 2:
        return parameter.shape[1], parameter.shape[0]
    return tuple(parameter.shape)
