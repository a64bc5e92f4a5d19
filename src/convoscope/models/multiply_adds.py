"""How many products of an operation of torch are added up: the one table behind every count of multiply-adds.

An operation counts where it multiplies numbers and adds the products up: convolutions, matrix products, recurrent
layers. Each output of a matrix product over K numbers takes K multiply-adds, as in torch.utils.flop_counter, which
counts two operations for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

_BOTH = frozenset({"mm", "bmm", "mv", "dot", "vdot", "linear", "matmul"})
"""Two factors."""
_ADDED = frozenset({"addmm", "_addmm_activation", "baddbmm", "addmv"})
"""Two factors, behind what is added to their product."""
_CONVOLUTIONS = frozenset({"convolution", "_convolution", "convolution_overrideable", "cudnn_convolution"})
_RECURRENT = frozenset({"mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"})


def multiply_adds(name: str, args: Sequence[Any], result: Any) -> int:
    """Of one operation, by torch's name (`aten::mm` is `mm`), on tensors of any device.

    Args:
        args: as torch hands them to the operation.
        result: what it gave.
    """
    if name in _BOTH:
        return int(result.numel() * args[0].shape[-1])
    if name in _ADDED:
        return int(result.numel() * args[1].shape[-1])
    if name == "addbmm":  # the sum of a batch of products
        return int(result.numel() * args[1].shape[0] * args[1].shape[-1])
    if name in _CONVOLUTIONS:
        each = math.prod(args[1].shape[1:])
        transposed = name != "cudnn_convolution" and bool(args[6])
        # Transposed, every number that comes in meets the weights of its channel once.
        return int((args[0] if transposed else result).numel() * each)
    if name == "_trilinear":  # nn.Bilinear: (N, I), weights (O, I, J), (N, J)
        return int(args[0].shape[0] * args[1].numel())
    if name in _RECURRENT:
        # Each matrix meets each cell of the sequence once, (T, N, features) or (N, T, features).
        weights = tree_leaves(args[1:3] if name == "mkldnn_rnn_layer" else args[1])
        matrices = [weight.numel() for weight in weights if isinstance(weight, Tensor) and weight.ndim == 2]
        return int(math.prod(args[0].shape[:2])) * sum(matrices)
    return 0
