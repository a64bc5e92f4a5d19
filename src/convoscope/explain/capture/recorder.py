"""What happened when one image went through a network: every operation's inputs and output, in the order of execution.

The operations are recorded from below, where torch hands them to the machine (`TorchDispatchMode`), so that nothing
depends on the names or the classes of layers: functional calls, additions, concatenations, modules used twice and
in-place operations are recorded as they run. The modules only give the names. The rules in `arithmetic` open single
numbers.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ...errors import UsageError, printable
from ...models import OPERATIONS, OperationMode, Parallel, Residual
from ...training import Normalisation
from .forward import SCORES, listed, own_tensors, preserve_state, results, run, uncompiled
from .memory import Memory, memory_of
from .records import IMAGE, PIXELS, Recording, Ref, Step, version_of
from .recurrence import Unrolled

_SAME = frozenset({"clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "_to_copy", "contiguous"})
"""Operations that give the same numbers in the same places: no steps of their own."""
_RESHAPING = frozenset({"view", "_unsafe_view", "reshape", "expand", "squeeze", "unsqueeze", "_reshape_alias"})
_FIRST_ONLY = frozenset({"native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"})
_FIRST_ONLY |= {"cudnn_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update", "native_layer_norm"}
_FIRST_ONLY |= {"native_group_norm", "max_pool2d_with_indices", "max_pool3d_with_indices", "adaptive_max_pool2d"}
_FIRST_ONLY |= {"native_dropout"}
"""Operations whose other results are by-products."""
_READING = frozenset({"_local_scalar_dense", "is_nonzero", "item", "equal", "nonzero", "masked_select"})
"""Operations by which a program reads a number and may branch on it."""

_FROM_SHAPE = frozenset(
    {"empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like"}
)
_FROM_SHAPE |= {"new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"}
"""Operations that take a tensor's shape and type, and none of its numbers."""
_OVERWRITING = frozenset({"copy_", "fill_", "zero_", "normal_", "uniform_", "bernoulli_", "random_", "exponential_"})
"""Operations that write to a tensor without using what it holds."""

_KINDS = OPERATIONS | {
    "bmm": "matmul",
    "native_layer_norm": "layernorm",
    "native_group_norm": "groupnorm",
    "mul": "multiply",
    "sub": "subtract",
    "rsub": "subtract",
    "div": "divide",
    "cat": "concat",
    "_softmax": "softmax",
    "_safe_softmax": "softmax",
    "transpose": "transpose",
    "permute": "transpose",
    "t": "transpose",
    "split": "slice",
    "split_with_sizes": "slice",
    "unsafe_split": "slice",
    "unsafe_split_with_sizes": "slice",
    "unbind": "slice",
    "select": "slice",
    "slice": "slice",
    "chunk": "slice",
}


def record(
    model: nn.Module,
    image: Tensor,
    *,
    pixels: Tensor | None = None,
    normalisation: Normalisation | None = None,
    classes: Sequence[str] = (),
) -> Recording:
    """One image's steps through a network in eval mode; see `views.trace`, which adds texts and pictures.

    Raises:
        UsageError: the network fails on this image (`model-module`), or the image has no such shape (`image-shape`).
    """
    model = uncompiled(model)
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[0] != 1 or not image.numel():
        raise UsageError(
            "image", f"expected one image (C, H, W); received shape {tuple(image.shape)}", code="image-shape"
        )
    with preserve_state(model), torch.no_grad():
        watcher = _Watcher(model)
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
        image = image.detach().to(weight.device, weight.dtype, copy=True)
        if pixels is not None and normalisation is not None:
            watcher.begin(PIXELS, pixels.detach().to(image.device, image.dtype, copy=True))
            watcher.normalised(image, normalisation)
        else:
            watcher.begin(IMAGE, image)
        with watcher.hooks():
            try:
                with watcher.unrolled, watcher:
                    output = run(model, image)
                watcher.finish(model, output, len(classes))
            finally:
                watcher.restore()
    return Recording(tuple(watcher.steps), tuple(watcher.notes), tuple(classes))


@dataclass(eq=False)
class _Call:
    """One run of one module."""

    path: str
    whole: bool
    """Whether its result has its name: it has no modules inside, or is a residual or parallel block."""
    first: int
    steps: list[Step] = field(default_factory=list)
    """Those that ran while it was the innermost module."""
    result: Step | None = None


class _Watcher(OperationMode):
    """Turns operations into steps. Tensors are known by identity, and kept, so that no identity is used twice."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.notes: list[str] = []
        self.unrolled = Unrolled()
        self._paths = {part: path for path, part in model.named_modules()}
        self._running = [_Call("", False, 0)]
        self._calls: list[_Call] = [self._running[0]]
        self._image = torch.empty(0)
        self._memory = Memory(own_tensors(model))
        self._looking = False
        """Whether torch runs for the record itself."""

    # --- modules ---

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        handles = []
        try:
            for part in self._paths:
                with contextlib.suppress(RuntimeError):  # some compiled modules take no hooks
                    handles.append(part.register_forward_pre_hook(self._enter))
                    handles.append(part.register_forward_hook(self._leave))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, part: nn.Module, inputs: object) -> None:
        if not self._paths[part]:
            return
        for leaf in tree_leaves(inputs):
            if isinstance(leaf, Tensor) and self._memory.knows(leaf):
                self._current(leaf)  # what was put together before belongs to the module around this one
        whole = isinstance(part, Residual | Parallel) or not list(part.children())
        call = _Call(self._paths[part], whole, len(self.steps))
        self._running.append(call)
        self._calls.append(call)

    def _leave(self, part: nn.Module, inputs: object, output: object) -> None:
        path = self._paths[part]
        if not path:
            return
        call = self._running.pop()
        tensors = [tensor for _, tensor in results(output)]
        given = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor) and self._memory.knows(leaf)]
        if len(tensors) != 1:
            return
        if not given and not self._memory.knows(tensors[0]):
            if call.whole and not call.steps:  # a layer of learned places, for instance
                call.result = self._add(type(part).__name__.lower(), tensors[0], "", (), {}, call)
                self._keep(tensors[0], call.result)
            return
        if not self._memory.knows(tensors[0]):
            call.result = self._opaque(
                tensors[0], given, type(part).__name__.lower(), call, "its result comes from outside torch's operations"
            )
            return
        step = self._current(tensors[0], call)
        if step.number < call.first and isinstance(part, nn.modules.dropout._DropoutNd):
            # In eval mode dropout passes its input on: a step that people look for, though nothing is computed.
            step = self._add("dropout", tensors[0], "identity", (Ref(step.number),), {}, call)
            self._keep(tensors[0], step, views=tensors)
        call.result = step

    # --- operations ---

    def begin(self, name: str, tensor: Tensor) -> None:
        step = Step(len(self.steps), name, "", tensor, "", (), {}, name=name)
        self.steps.append(step)
        self._image = tensor
        self._memory.hold(step)
        self._keep(tensor, step)

    def normalised(self, image: Tensor, how: Normalisation) -> None:
        """The network's input as a step behind the pixels."""
        numbers = {"mean": how.mean, "std": how.std}
        step = Step(len(self.steps), "normalise", "", image, "normalise", (Ref(0),), numbers, name=IMAGE)
        self.steps.append(step)
        self._image = image
        self._memory.hold(step)
        self._keep(image, step)

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if self._looking:
            return func(*args, **kwargs)
        name = func._overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = [] if name in _FROM_SHAPE else [leaf for leaf in given if self._memory.knows(leaf)]
        changed = _changed_by(func, args, kwargs)
        if not known:
            self._memory.before_change(changed)
            return func(*args, **kwargs)
        if name in _READING:
            self._note(
                f"{self._running[-1].path or 'the network'} reads a number and may branch on it: "
                "the trace shows the branch that this image took"
            )
        if _is_view(func) and not self._memory.is_current(known[0]):
            return func(*args, **kwargs)  # where its numbers come from is looked up when they are used
        if name in _OVERWRITING and self._overwrite(args[0], args[1] if len(args) > 1 else None):
            return func(*args, **kwargs)
        return self._compute(func, args, kwargs, known, changed)

    def _overwrite(self, target: Tensor, source: Any) -> bool:
        """Whether a tensor only gets numbers that are there already: no step of its own."""
        if isinstance(source, Tensor) and self._memory.knows(source):
            with self._unseen():
                origin = self._memory.origin(source)
                if origin is None or source.dtype != target.dtype:
                    return False
                self._memory.before_change([target])
                self._memory.wrote(target, origin)
            return True
        self._memory.before_change([target])
        self._memory.wrote(target, None)
        return True

    def _compute(
        self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], known: Sequence[Tensor], changed: Sequence[Tensor]
    ) -> Any:
        """An operation on numbers of the image, and a step for each of its results."""
        name = func._overloadpacket.__name__
        outs = [argument.name for argument in func._schema.arguments if argument.is_out]
        function = func._overloadpacket if outs else func
        if outs or name == "copy_":  # what the target held before does not go in
            known = [leaf for leaf in known if all(leaf is not tensor for tensor in changed)]
        refs = {id(leaf): Ref(self._current(leaf).number) for leaf in known}
        memories = {memory_of(tensor) for tensor in changed}
        given = tuple(args), {key: value for key, value in kwargs.items() if key not in outs}
        arguments, keywords = tree_map(lambda leaf: _by_value(leaf, refs, memories), given)
        self._memory.before_change(changed)
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)] or list(changed)
        if len(known) == 1 and len(outputs) == 1 and not changed and self._is_same(name, known[0], outputs[0]):
            self._keep(outputs[0], self._current(known[0]), views=known)
            return result
        plain = name[:-1] if name.endswith("_") and not name.endswith("__") else name
        closed = "" if plain == "dequantize" else _closed(tree_leaves((args, kwargs)))
        if closed:
            self._note(f"{closed}; the values are given")
        for piece, output in enumerate(outputs[:1] if plain in _FIRST_ONLY else outputs):
            kind = self.unrolled.kind or _kind(plain, arguments, keywords, known[0] if known else output, output)
            step = self._add(kind, output, plain, arguments, keywords, self._running[-1], function, piece)
            step.opaque = step.opaque or closed
            self._keep(output, step, views=known if not changed else ())
        for tensor in changed:
            if all(tensor is not output for output in outputs):
                self._opaque(tensor, known, plain, self._running[-1], "it was written to beside the result")
        return result

    def restore(self) -> None:
        """The network's own weights are as before, whatever it wrote to them."""
        self._memory.restore()

    def finish(self, model: nn.Module, output: object, count: int) -> None:
        """The last step is the network's scores, `count` of them where that is known; then everything gets its name.

        Raises:
            UsageError: the network gives no tensor (`model-module`).
        """
        found = results(output)
        if not found:
            raise UsageError(
                f"model {type(model).__name__}",
                f"it gives no tensor, but {printable(type(output).__name__)}",
                code="model-module",
                hint="return its scores",
            )
        name, scores = found[0] if len(found) == 1 else self._most_likely(found, count)
        if len(found) > 1:
            self._note(f"the network gives {len(found)} results, {listed(found)}: {name} is taken for its scores")
        call = self._calls[0]
        if not self._memory.knows(scores):
            reason = "its result does not come from the image by torch's operations"
            step = self._opaque(scores, [self._image], "output", call, reason)
        else:
            step = self._current(scores, call)
            if step.number != len(self.steps) - 1:
                step = self._add("output", scores, "identity", (Ref(step.number),), {}, call)
        call.result = step
        self._name_all()

    def _most_likely(self, found: Sequence[tuple[str, Tensor]], count: int) -> tuple[str, Tensor]:
        """Of several results the scores: by number or name; else the first that no other is computed from."""
        for wanted in SCORES:
            named = [pair for pair in found if pair[0] == wanted]
            if named:
                return named[0]
        steps = {name: self._current(tensor, self._calls[0]) for name, tensor in found if self._memory.knows(tensor)}
        before: set[int] = set()
        for step in steps.values():
            before |= self._ancestors(step)
        last = [(name, tensor) for name, tensor in found if name in steps and steps[name].number not in before]
        vectors = [pair for pair in last if pair[1].ndim == 2 and len(pair[1]) == 1]
        fitting = [pair for pair in vectors if pair[1].shape[1] == count]
        return (fitting or vectors or last or list(found))[0]

    def _ancestors(self, step: Step) -> set[int]:
        """The numbers of all steps that went into one."""
        found: set[int] = set()
        waiting = step.references()
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += self.steps[number].references()
        return found

    def _is_same(self, name: str, taken: Tensor, made: Tensor) -> bool:
        if name in _SAME:
            return taken.dtype == made.dtype
        return (name in _RESHAPING or name == "slice") and taken.shape == made.shape

    def _add(
        self,
        kind: str,
        output: Tensor,
        operation: str,
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        call: _Call,
        function: Any = None,
        piece: int = 0,
    ) -> Step:
        with self._unseen():
            shown, closed = _shown(output)
        step = Step(
            len(self.steps), kind, call.path, shown, operation, arguments, keywords, piece=piece, function=function
        )
        if closed:
            step.opaque = closed
            self._note(f"{closed}; the values are given")
        self.steps.append(step)
        call.steps.append(step)
        self._memory.hold(step)
        return step

    def _opaque(self, output: Tensor, given: Sequence[Tensor], kind: str, call: _Call, reason: str) -> Step:
        refs = tuple(Ref(self._current(tensor).number) for tensor in given)
        step = self._add(kind, output, "", refs, {}, call)
        step.opaque = reason
        self._note(f"{call.path or 'the network'}: {reason}; its inputs and outputs are given")
        self._keep(output, step)
        return step

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # --- who is who ---

    def _keep(self, tensor: Tensor, step: Step, *, views: Sequence[Tensor] = ()) -> None:
        """The tensor holds what the step gave; `views`: tensors of which it may only be another view."""
        memory = memory_of(tensor)
        if any(memory_of(leaf) == memory for leaf in views):
            self._memory.know(tensor, step)
        else:
            self._memory.wrote(tensor, step)

    def _current(self, tensor: Tensor, call: _Call | None = None) -> Step:
        """The step that made what the tensor holds now."""
        with self._unseen():
            origin = self._memory.origin(tensor)
            if isinstance(origin, Step):
                return origin
            call = call or self._running[-1]
            if origin is not None and origin.holds(tensor):
                refs = tuple(Ref(step.number) for step in origin.steps)
                step = self._add("assembled", tensor, "assemble", refs, {"places": origin.places}, call)
            else:
                step = self._add("assembled", tensor.detach().clone(), "", (Ref(0),), {}, call)
                step.opaque = "its memory was written to in a way that cannot be followed"
                self._note(
                    f"{call.path or 'the network'} writes to memory in a way that cannot be followed; "
                    "its values are given"
                )
            self._memory.know(tensor, step)
            return step

    @contextlib.contextmanager
    def _unseen(self) -> Iterator[None]:
        """What torch runs inside is for the record, and no part of it."""
        seen, self._looking = self._looking, True
        try:
            yield
        finally:
            self._looking = seen

    # --- names ---

    def _name_all(self) -> None:
        used: Counter[str] = Counter()
        self._calls[0].steps = [step for step in self._calls[0].steps if not step.name]
        for call in self._calls:
            own = call.steps
            for step in own:
                whole = call.path and call.whole and (len(own) == 1 or step is call.result)
                step.name = call.path if whole else ".".join(filter(None, (call.path, step.kind)))
        for step in self.steps:
            used[step.name] += 1
            if used[step.name] > 1:
                step.name += f"#{used[step.name]}"
        for step in self.steps:
            leaves = [step.output, *tree_leaves((step.arguments, step.keywords))]
            step.written = tuple((leaf, version_of(leaf)) for leaf in leaves if isinstance(leaf, Tensor))
            step.inputs = tuple(dict.fromkeys(self.steps[number].name for number in step.references()))


def _by_value(leaf: Any, refs: dict[int, Ref], changing: Set[int]) -> Any:
    """What is recorded of an argument: the step that it comes from, or the network's own numbers as they are now."""
    if not isinstance(leaf, Tensor):
        return leaf
    if id(leaf) in refs:
        return refs[id(leaf)]
    return leaf.detach().clone() if memory_of(leaf) in changing else leaf


def _changed_by(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """The arguments that an operation writes to, by its own schema."""
    if not func._schema.is_mutable or torch.Tag.inplace_view in func.tags:
        return []
    changed = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            changed += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return changed


_QUANTISED = "quantised numbers: their arithmetic is not opened"
_COMPLEX = "complex numbers: their arithmetic is not opened"


def _shown(output: Tensor) -> tuple[Tensor, str]:
    """A step's output as ordinary numbers, and why their arithmetic cannot be opened, or an empty text."""
    if output.is_quantized:
        return output.detach().dequantize(), _QUANTISED
    if output.is_nested:
        return torch.nested.to_padded_tensor(output.detach(), 0.0), "a nested tensor: its arithmetic is not opened"
    if output.layout != torch.strided:
        return output.detach().to_dense(), "a sparse tensor: its arithmetic is not opened"
    if output._is_zerotensor():
        return torch.zeros(output.shape, dtype=output.dtype), ""
    # Another tensor of the same memory, so that nothing can give the step's own another shape.
    return output.detach(), _COMPLEX if output.is_complex() else ""


def _closed(leaves: Sequence[Any]) -> str:
    """Why an operation on these cannot be opened, or an empty text."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(isinstance(leaf, torch.ScriptObject) for leaf in leaves) or any(each.is_quantized for each in tensors):
        return _QUANTISED
    return _COMPLEX if any(each.is_complex() for each in tensors) else ""


def _is_view(func: Any) -> bool:
    """Whether the result only shows the memory of the first argument."""
    first = func._schema.arguments[:1]
    return any(argument.alias_info is not None and not argument.alias_info.is_write for argument in first)


def _kind(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any], taken: Tensor, made: Tensor) -> str:
    if "batch_norm" in name:
        return "norm"
    if name == "avg_pool2d" and len(arguments) > 6 and arguments[6] == 1:
        return "sumpool"
    if name == "mean" and taken.ndim == 4 and math.prod(made.shape) == math.prod(taken.shape[:2]):
        return "globalavg"
    if name == "hardtanh":
        bounds = (*arguments[1:], *keywords.values())
        return "relu6" if tuple(map(float, bounds)) == (0.0, 6.0) else "hardtanh"
    if name in _RESHAPING:
        return "flatten" if made.ndim == 2 and taken.ndim > 2 else "reshape"
    return _KINDS.get(name, name.strip("_"))
