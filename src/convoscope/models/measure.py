"""The table of any network, from watching one image of zeros go through it.

Every tensor operation is seen below the modules, so that functional calls, additions and concatenations count too. Work
counts for the innermost module that is running, and receptive fields are followed from tensor to tensor.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from ..errors import UsageError
from .dispatch import OperationMode
from .layers import CLASSES, OPERATIONS, Window, role_of
from .modes import eval_mode
from .multiply_adds import multiply_adds
from .network import Parallel, Residual
from .plan import ReceptiveField
from .rows import LayerRow, formula, side

# Operations whose units see what the units of their inputs in the same place see: those of the catalogue, and torch's
# own beside them.
_ELEMENTWISE = {
    name for name, kind in OPERATIONS.items() if role_of(kind) in ("norm", "activation", "dropout", "padding")
}
_ELEMENTWISE |= {"add", "sub", "mul", "div", "clamp", "clamp_min"}
_ELEMENTWISE |= {"clone", "detach", "alias", "lift_fresh", "_to_copy"}
_ELEMENTWISE |= {"hardtanh", "hardswish", "hardsigmoid", "elu", "mish", "native_dropout"}


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
        watcher.follow(image, ReceptiveField())
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
        self.fields: dict[int, tuple[ReceptiveField | None, Tensor]] = {}
        self.hooks: list[Any] = []

    def attach(self) -> None:
        for part in self.names:
            with contextlib.suppress(RuntimeError):  # scripted modules take no hooks: they count for the one around
                self.hooks.append(part.register_forward_pre_hook(self._enter))
                self.hooks.append(part.register_forward_hook(self._leave))

    def release(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def follow(self, tensor: Tensor, field: ReceptiveField | None) -> None:
        self.fields[id(tensor)] = (field, tensor)

    def _enter(self, part: nn.Module, _: object) -> None:
        self.work.append(0)

    def _leave(self, part: nn.Module, _: object, output: object) -> None:
        work = self.work.pop()
        # Parameters of the modules inside that have run are counted there.
        own = [parameter for parameter in part.parameters() if id(parameter) not in self.counted]
        self.counted.update(map(id, own))
        # An empty nn.Sequential, such as the shortcut of a residual, is not a layer.
        layer = isinstance(part, Residual | Parallel) or not (isinstance(part, nn.Sequential) or list(part.children()))
        if not (layer or own or work):
            return
        tensor = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
        field = self.fields.get(id(tensor), (None, None))[0]
        self.rows.append(
            LayerRow(
                name=self.names[part] or type(part).__name__,
                kind=_kind(part),
                output=_shape(tensor),
                parameters=sum(parameter.numel() for parameter in own),
                formula=formula(tuple(_product(part, parameter) for parameter in own)),
                multiply_adds=work,
                receptive_field=side(field.size) if field else None,
            )
        )

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if self.work:
            self.work[-1] += multiply_adds(func._overloadpacket.__name__, args, result)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and id(leaf) in self.fields]
        if inputs:
            fields = [self.fields[id(leaf)][0] for leaf in inputs]
            known = [field for field in fields if field is not None]
            outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            after = None
            if outputs and len(known) == len(fields):
                after = _after(func._overloadpacket.__name__, args, inputs[0], outputs[0], known)
            for output in outputs:
                self.follow(output, after)
        return result


def _after(
    name: str, args: Sequence[Any], taken: Tensor, made: Tensor, fields: Sequence[ReceptiveField]
) -> ReceptiveField | None:
    """The receptive field after one operation, or None where this is not known.

    `taken`: the first input that depends on the image; `made`: the first output.
    """
    field = fields[0]
    for other in fields[1:]:
        field = field.beside(other)
    maps = taken.ndim == 4
    if name.removesuffix("_") in _ELEMENTWISE:
        return field
    if name == "convolution" and maps and not args[6]:
        return field.through(Window(_two(args[1].shape[2:]), _two(args[3]), _two(args[5])))
    if name in ("max_pool2d_with_indices", "avg_pool2d", "max_pool2d") and maps:
        size = _two(args[1])
        stride = _two(args[2]) if len(args) > 2 and args[2] else size
        dilation = _two(args[4]) if name != "avg_pool2d" and len(args) > 4 else (1, 1)
        return field.through(Window(size, stride, dilation))
    if name in ("_adaptive_avg_pool2d", "adaptive_max_pool2d") and maps:
        return _adaptive(field, taken.shape[2:], made.shape[2:])
    if name in ("mean", "amax") and maps and len(args) > 1 and sorted(axis % 4 for axis in args[1]) == [2, 3]:
        return field.through(Window(_two(taken.shape[2:])))
    if name in ("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "expand"):
        if taken.shape == made.shape or (taken.ndim >= 4 and made.ndim >= 4 and taken.shape[-2:] == made.shape[-2:]):
            return field
        if maps and made.ndim == 2 and made.shape[1] == math.prod(taken.shape[1:]):
            height, width = taken.shape[2:]
            return field.flattened((height, width, taken.shape[1]))
        if taken.ndim == 2 and made.ndim == 4 and made.shape[2:] == (1, 1):
            return field.over_all() if field.extent == (0, 0) else None
        return None
    if name == "transpose" and taken.ndim == 5 and {args[1], args[2]} == {1, 2}:
        return field  # the channel shuffle
    if (
        name in ("split", "split_with_sizes", "slice", "select", "chunk")
        and len(args) > 2
        and args[2 if "split" in name else 1] == 1
    ):
        return field
    if name == "cat" and taken.ndim in (2, 4) and (len(args) > 1 and args[1] % taken.ndim == 1):
        return field
    if name in ("addmm", "mm") and taken.ndim == 2 and taken.shape[0] == 1:
        return field.over_all()
    return None


def _adaptive(field: ReceptiveField, before: Iterable[int], after: Iterable[int]) -> ReceptiveField | None:
    size, stride = [], []
    for cells, wanted in zip(before, after, strict=True):
        if cells % wanted:
            return None  # its windows are not all of one size
        size.append(cells // wanted)
        stride.append(cells // wanted if wanted > 1 else 1)
    return field.through(Window(_two(size), _two(stride)))


def _two(values: Iterable[int] | int) -> tuple[int, int]:
    listed = [values] if isinstance(values, int) else list(values)
    return listed[0], listed[-1]


def _kind(part: nn.Module) -> str:
    if type(part) is nn.AvgPool2d and part.divisor_override == 1:
        return "sumpool"
    name, home = type(part).__name__, type(part).__module__
    known = home.startswith("torch.nn.") or home == Residual.__module__  # not a class of the user's with such a name
    return CLASSES.get(name, name.lower()) if known else name.lower()


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    """Without the batch axis, channels of maps last."""
    if tensor is None:
        return ()
    if tensor.ndim == 4:
        return tensor.shape[2], tensor.shape[3], tensor.shape[1]
    return tuple(tensor.shape[1:])


def _product(part: nn.Module, parameter: Tensor) -> tuple[int, ...]:
    if isinstance(part, nn.Conv2d) and parameter.ndim == 4:
        out_channels, in_channels, height, width = parameter.shape
        return height, width, in_channels, out_channels
    if isinstance(part, nn.Linear) and parameter.ndim == 2:
        return parameter.shape[1], parameter.shape[0]
    return tuple(parameter.shape)
