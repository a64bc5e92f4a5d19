"""What convoscope says about a network of torchvision or timm, beside counts of our own: for tests and for
`benchmarks/trace_coverage.py`.

The counts are taken one level above convoscope's, where a program calls torch's functions, by formulas of shapes; the
outputs of layers come from plain forward hooks.
"""

from __future__ import annotations

import math
import random
import string
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from convoscope import explain, models
from convoscope.models import OperationMode

OUTPUTS = 10
SIDES = (64, 96, 128, 160, 192, 224, 240, 256, 288, 320, 384, 448, 512)


@dataclass
class Coverage:
    """What was compared for one architecture. Steps are counted where a module without others inside gave one tensor.

    Attributes:
        name: such as `timm:resnet18`.
        side: of the square input, in pixels.
        parameters, multiply_adds: ours, as the table gives them.
        own_parameters, own_multiply_adds: the independent counts.
        leaves, leaves_equal: runs of modules without others inside; those whose recorded output is the hook's.
        units, units_opened, units_agree: random units asked for; opened into their arithmetic; and right: opened, the
            sum within its bound, the number the recorded one.
        faults: what was wrong, in words.
    """

    name: str
    side: int = 0
    parameters: int = 0
    own_parameters: int = 0
    multiply_adds: int = 0
    own_multiply_adds: int = 0
    leaves: int = 0
    leaves_equal: int = 0
    units: int = 0
    units_opened: int = 0
    units_agree: int = 0
    faults: list[str] = field(default_factory=list)

    def right(self) -> bool:
        """Whether everything was as the independent counts say."""
        counted = (self.parameters, self.multiply_adds) == (self.own_parameters, self.own_multiply_adds)
        whole = self.leaves == self.leaves_equal and self.units == self.units_agree
        return bool(counted and whole and self.units and not self.faults)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "right": self.right()}


def compare(name: str, *, most_parameters: float = math.inf, layers: int = 5, units: int = 3) -> Coverage | None:
    """Build an architecture with random weights and compare; None if it has too many parameters."""
    found = Coverage(name)
    sketch = smallest(name)
    if sketch is None:
        found.faults.append("not built: it takes no square colour image that was tried")
        return found
    found.side, options, parameters = sketch
    if parameters > most_parameters:
        return None
    torch.manual_seed(zlib.crc32(name.encode()))
    network = random_network(name, options)
    found.own_parameters = sum(part.numel() for part in network.parameters())
    image = torch.randn(1, 3, found.side, found.side)
    _compare_counts(found, network, image)
    _compare_steps(found, network, image, layers, units)
    return found


def _compare_counts(found: Coverage, network: nn.Module, image: Tensor) -> None:
    counter = Products()
    with plain_attention(), torch.no_grad(), counter:
        network(image)
    found.own_multiply_adds = counter.total
    try:
        table = models.table(network, (found.side, found.side, 3), OUTPUTS)
    except Exception as error:
        found.faults.append(f"table: {type(error).__name__}: {str(error)[:200]}")
        return
    found.parameters, found.multiply_adds = table.parameters, table.multiply_adds
    if found.parameters != found.own_parameters:
        found.faults.append(f"parameters {found.parameters}, own count {found.own_parameters}")
    if found.multiply_adds != found.own_multiply_adds:
        found.faults.append(f"multiply-adds {found.multiply_adds}, own count {found.own_multiply_adds}")


def _compare_steps(found: Coverage, network: nn.Module, image: Tensor, layers: int, units: int) -> None:
    outputs = hooked_outputs(network, image)
    try:
        trace = explain.trace(network, image)
    except Exception as error:
        found.faults.append(f"trace: {type(error).__name__}: {str(error)[:200]}")
        return
    names = set(trace.names)
    for path, output in outputs.items():
        if path not in names:
            continue
        found.leaves += 1
        recorded = trace[path].output
        if recorded.shape == output.shape and torch.equal(recorded, output):
            found.leaves_equal += 1
        else:
            found.faults.append(f"leaf {path}: {_difference(recorded, output)}")
    absent = [path for path in outputs if path not in names]
    if absent:
        # A layer of constants alone, such as one of positions, has no step: what it gives is the same for every image.
        other = hooked_outputs(network, image.flip(3))
        absent = [path for path in absent if not torch.equal(outputs[path], other[path])]
    if absent:
        found.leaves += len(absent)
        found.faults.append(f"{len(absent)} leaves have no step, such as {absent[0]}")
    chance = random.Random(found.name)
    steps = [step for step in trace.steps[1:] if step.output.numel()]
    for step in chance.sample(steps, min(layers, len(steps))):
        for _ in range(units):
            index = tuple(chance.randrange(size) for size in step.shape)
            found.units += 1
            _compare_unit(found, trace, step.name, index)


def _compare_unit(found: Coverage, trace: explain.Trace, name: str, index: tuple[int, ...]) -> None:
    where = f"why {name} {index} ({trace[name].operation or trace[name].kind})"
    try:
        why = trace.why(name, *index)
        why.text()
    except Exception as error:
        found.faults.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        return
    if not why.opened:
        found.faults.append(f"{where}: not opened")
        return
    found.units_opened += 1
    if not why.agrees:
        found.faults.append(f"{where}: sum {why.sum!r}, recorded {why.recorded!r}, bound {why.bound:.3g}")
    elif why.recorded != trace[name].value(index):
        found.faults.append(f"{where}: {why.recorded!r} is not the step's number")
    else:
        found.units_agree += 1


def _difference(recorded: Tensor, output: Tensor) -> str:
    if recorded.shape != output.shape:
        return f"shape {tuple(recorded.shape)}, the hook's {tuple(output.shape)}"
    return f"up to {float((recorded.double() - output.double()).abs().max()):.3g} off"


# --- networks ---


def architectures() -> list[str]:
    """Every classification network of torchvision and every architecture of timm, one of each family at a time."""
    import timm
    from torchvision import models as torchvision_models

    listed = torchvision_models.list_models(module=torchvision_models)
    families = [[f"timm:{name}" for name in timm.list_models(module=module)] for module in timm.list_modules()]
    families.append([f"torchvision:{name}" for name in listed])
    return [name for row in zip_longest(*families) for name in row if name]


def smallest(name: str) -> tuple[int, dict[str, Any], int] | None:
    """The side of the smallest square image that it takes, the options for that, and its parameters."""
    for side in SIDES:
        for options in _size_options(name, side):
            try:
                with Unfilled(), torch.device("meta"):
                    network = make(name, options)
            except (NotImplementedError, RuntimeError):
                try:
                    with Unfilled():
                        network = make(name, options).to("meta")
                except Exception:
                    continue
            except Exception:
                continue
            try:
                with plain_attention(), torch.no_grad():
                    shape = network.eval()(torch.zeros(1, 3, side, side, device="meta")).shape
            except (NotImplementedError, RuntimeError, AssertionError, ValueError, TypeError, AttributeError) as error:
                if "meta" not in str(error):
                    continue
                try:
                    with plain_attention(), torch.no_grad():
                        shape = random_network(name, options)(torch.zeros(1, 3, side, side)).shape
                except Exception:
                    continue
            if tuple(shape) == (1, OUTPUTS):
                return side, options, sum(part.numel() for part in network.parameters())
    return None


def _size_options(name: str, side: int) -> list[dict[str, Any]]:
    library, _, short = name.partition(":")
    if library == "timm":
        return [{}, {"img_size": side}]
    return [{"image_size": side}] if short.startswith("vit_") else [{}]


def make(name: str, options: dict[str, Any]) -> nn.Module:
    library, _, short = name.partition(":")
    network: nn.Module
    if library == "timm":
        import timm

        network = timm.create_model(short, pretrained=False, num_classes=OUTPUTS, **options)
        return network
    from torchvision import models as torchvision_models

    if short in ("googlenet", "inception_v3"):
        options = options | {"aux_logits": False, "init_weights": False}
    network = torchvision_models.get_model(short, weights=None, num_classes=OUTPUTS, **options)
    return network


class Unfilled(OperationMode):
    """Networks made within get zeros for large parameters: filling them as their library does takes minutes."""

    _RANDOM = frozenset({"normal_", "uniform_", "erfinv_", "bernoulli_", "trunc_normal_"})

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if func._overloadpacket.__name__ in self._RANDOM and (args[0].is_meta or args[0].numel() > 10_000):
            return args[0] if args[0].is_meta else args[0].zero_()
        return func(*args, **kwargs)


def random_network(name: str, options: dict[str, Any]) -> nn.Module:
    """The network in eval mode, each weight normal, divided by the root of the inputs; vectors are moved a little."""
    with Unfilled():
        network = make(name, options)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim < 2:
                weight.add_(torch.randn_like(weight), alpha=0.1)
            else:
                weight.normal_(0, 1 / math.sqrt(max(1, weight[0].numel())))
    return network.eval()


# --- what convoscope is compared with ---


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention by its products, as convoscope runs it: a fused kernel rounds otherwise."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def hooked_outputs(network: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What each module without others inside gave, where that is one tensor; `#2` where it ran again.

    Modules that only pass their input on, as nn.Identity does, compute nothing and are left out.
    """
    outputs: dict[str, Tensor] = {}
    runs: Counter[str] = Counter()

    def keep(path: str) -> Callable[..., None]:
        def hook(part: nn.Module, given: Any, output: Any) -> None:
            taken = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
            made = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
            if len(made) != 1 or any(made[0] is leaf for leaf in taken) or not taken:
                return
            if not isinstance(part, nn.Flatten) and _same_memory(taken[0], made[0]):
                return
            runs[path] += 1
            outputs[path if runs[path] == 1 else f"{path}#{runs[path]}"] = made[0].detach().clone()

        return hook

    handles = [
        part.register_forward_hook(keep(path))
        for path, part in network.named_modules()
        if path and not list(part.children())
    ]
    with plain_attention(), torch.no_grad():
        network(image.clone())
    for handle in handles:
        handle.remove()
    return outputs


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


class Products(TorchFunctionMode):
    """Counts the multiply-adds of convolutions, dense layers and products of matrices, from the shapes of what torch's
    functions are called with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is F.multi_head_attention_forward:
            with self:  # it is written in Python: its own calls are counted
                return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            # Every matrix of every layer and direction takes part once in each moment of each sequence.
            moments = math.prod(args[0].shape[:2])
            self.total += moments * sum(weight.numel() for weight in tree_leaves(args[2]) if weight.ndim == 2)
        elif isinstance(result, Tensor):
            self.total += _products(name, args, kwargs, result)
        return result


def _products(name: str, args: Sequence[Any], kwargs: dict[str, Any], result: Tensor) -> int:
    tensors = [leaf for leaf in (*args, *kwargs.values()) if isinstance(leaf, Tensor)]
    if name in ("conv1d", "conv2d", "conv3d"):
        return result.numel() * tensors[1][0].numel()
    if name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        return tensors[0].numel() * tensors[1][0].numel()
    if name == "linear":
        return result.numel() * int(tensors[1].shape[-1])
    if name in ("matmul", "bmm", "mm", "__matmul__", "mv"):
        return result.numel() * int(tensors[0].shape[-1])
    if name == "__rmatmul__":
        return result.numel() * int(tensors[1].shape[-1])
    if name in ("addmm", "baddbmm"):
        return result.numel() * int(tensors[1].shape[-1])
    if name == "scaled_dot_product_attention":
        query, key, value = tensors[:3]
        return math.prod(query.shape[:-1]) * int(key.shape[-2]) * int(query.shape[-1] + value.shape[-1])
    if name == "einsum":
        return _einsum(args[0], tree_leaves(args[1:]), result)
    return 0


def _einsum(equation: str, operands: Sequence[Tensor], result: Tensor) -> int:
    """The sizes of all letters, multiplied: one product for each combination. Two operands with a common letter."""
    given, _, _ = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for letters, operand in zip(given.split(","), operands, strict=True):
        dots = operand.ndim - len(letters.replace("...", ""))
        spare = string.digits[:dots]  # stand for the axes under the dots
        for letter, size in zip(letters.replace("...", spare), operand.shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return math.prod(sizes.values()) if len(operands) == 2 else 0
