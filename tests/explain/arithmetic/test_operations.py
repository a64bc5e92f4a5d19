"""torch's functions one by one: every number of every step opens, agrees, and is what float64 gives."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convoscope.explain import trace

Function = Callable[[Tensor], Tensor]


class Runs(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


torch.manual_seed(3)
GRID = torch.tanh(torch.randn(1, 3, 3, 2) * 0.7)
VOLUMES = torch.randn(2, 1, 2, 2, 2)
BATCH = torch.randn(6, 4, 4)
ROWS = torch.tensor([0, 1, 0, 1, 0, 1])


def like(weights: Tensor, x: Tensor) -> Tensor:
    return weights.to(x.dtype)


FUNCTIONS: dict[str, Function] = {
    # Gates, softmax and norms.
    "glu": lambda x: F.glu(x, 1),
    "glu of the last axis": F.glu,
    "gelu of tanh": lambda x: F.gelu(x, approximate="tanh"),
    "clamp between tensors": lambda x: x.clamp(torch.tensor(-0.5), torch.tensor(0.5)),
    "limits that float32 has not": lambda x: F.hardtanh(x, -0.3, 0.7),
    "another type": lambda x: x.half().float(),
    "softmax": lambda x: F.softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "normalize by absolute values": lambda x: F.normalize(x, p=1, dim=1),
    "norm of all": lambda x: x.norm()[None],
    "cosine_similarity": lambda x: F.cosine_similarity(x[:, :3], x[:, 3:]),
    "layer_norm": lambda x: F.layer_norm(x, (5, 4)),
    "rms_norm": lambda x: F.rms_norm(x, (4,)),
    "instance_norm": F.instance_norm,
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    # Reductions.
    "var": lambda x: x.var(1),
    "std": lambda x: x.std((2, 3), correction=0, keepdim=True),
    "var_mean": lambda x: torch.cat(torch.var_mean(x, 1)),
    "logsumexp": lambda x: x.logsumexp((2, 3)),
    "prod": lambda x: x.prod(1),
    "max": lambda x: x.max(1).values,
    "min": lambda x: x.min(2, keepdim=True).values,
    "max of all": lambda x: x.max()[None],
    "amin": lambda x: x.amin((2, 3)),
    "the larger of two": lambda x: torch.max(x, -0.1 * x),
    "sort": lambda x: x.sort(1).values,
    "topk": lambda x: x.topk(2, 2).values,
    "median": lambda x: x.median(1).values,
    "cumsum": lambda x: x.cumsum(1),
    # Pools.
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x.flatten(2), 3),
    "adaptive_avg_pool3d": lambda x: F.adaptive_avg_pool3d(x[:, None], (2, 3, 3)),
    "adaptive_max_pool3d": lambda x: F.adaptive_max_pool3d(x[:, None], (2, 3, 3)),
    "interpolate by area": lambda x: F.interpolate(x, (3, 7), mode="area"),
    "max_unpool2d": lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), (2, 2)),
    "lp_pool2d": lambda x: F.lp_pool2d(x, 2, 2),
    # Products.
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "baddbmm": lambda x: torch.baddbmm(x[0], x[0], like(BATCH, x), beta=0.5, alpha=2)[None],
    "addbmm": lambda x: torch.addbmm(x[0, 0], x[0], like(BATCH, x), beta=0.5, alpha=2)[None],
    "bilinear": lambda x: F.bilinear(x[0, 0], x[0, 1], like(BATCH, x))[None],
    "conv1d": lambda x: F.conv1d(x.flatten(2), like(BATCH[:, :, :3], x).repeat(1, 2, 1)[:, :6], dilation=2),
    "conv3d": lambda x: F.conv3d(x[:, None], like(VOLUMES, x), padding=1),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x.flatten(2), like(BATCH[..., :3], x), stride=2, output_padding=1),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
    "a row that sees nothing": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(5)[:, [1] * 5] > 0),
    # Places.
    "grid_sample": lambda x: F.grid_sample(x, like(GRID, x), align_corners=False),
    "grid_sample along a cubic curve": lambda x: F.grid_sample(
        x, like(GRID, x), mode="bicubic", padding_mode="reflection", align_corners=True
    ),
    "grid_sample where the image says": lambda x: F.grid_sample(
        x, torch.tanh(x[:, :2]).permute(0, 2, 3, 1), align_corners=False
    ),
    "affine_grid": lambda x: F.affine_grid(x[:, :2, :1, :3].reshape(1, 2, 3), [1, 1, 4, 4], align_corners=False),
    "unfold with a border": lambda x: F.unfold(x, 2, dilation=2, padding=1, stride=2),
    "fold": lambda x: F.fold(F.unfold(x, 2), (5, 4), 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :4], 2),
    "tril": lambda x: x.tril(),
    "rot90": lambda x: x.rot90(1, (2, 3)),
    "slice_scatter": lambda x: x.slice_scatter(x[:, :2], 1, 2, 4),
    "scatter": lambda x: torch.zeros(1, 6, 5, 4, dtype=x.dtype).scatter(1, ROWS[None, :2, None, None].expand(1, 2, 5, 4), x),
    "scatter_add": lambda x: torch.ones(1, 2, 5, 4, dtype=x.dtype).scatter_add(
        1, ROWS.reshape(1, 6, 1, 1).expand_as(x), x
    ),
    "index_add": lambda x: torch.ones(1, 2, 5, 4, dtype=x.dtype).index_add(1, ROWS, x),
    "numbers in the order of others": lambda x: torch.take_along_dim(x, x.argsort(1), 1),
    "a border in three axes": lambda x: F.pad(x[:, None], (1, 1, 0, 2, 1, 1), mode="replicate"),
}  # fmt: skip
CLOSED = {"sort": {"numbers in the order of others"}}
"""Steps without a sum: the order itself."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_number_opens_and_is_that_of_float64(name: str) -> None:
    torch.manual_seed(0)
    image = torch.randn(6, 5, 4) * 2 + 0.3
    function = FUNCTIONS[name]
    wanted = function(image[None].double()).reshape(-1)
    found = trace(Runs(function), image)
    chance = random.Random(0)
    assert not found.notes
    for step in found.steps[1:]:
        places = list(np.ndindex(*step.shape))
        for place in chance.sample(places, min(12, len(places))):
            why = found.why(step.name, *place)
            assert why.text()
            assert why.opened or name in CLOSED.get(step.operation, ()), why.words
            assert why.agrees, str(why)
            assert why.bound <= 1e-3
            for term in why.terms:
                if term.source is not None:
                    assert found[term.source.layer].value(term.source.index) == term.input
            if step is found.steps[-1]:
                flat = np.ravel_multi_index(place, step.shape)
                assert why.sum == pytest.approx(float(wanted[flat]), rel=1e-3 if "type" in name else 1e-4, abs=1e-5)


def test_a_kernel_that_lacks_float64_is_refused_plainly() -> None:
    layer = nn.LSTM(4, 3)
    state = torch.zeros(1, 1, 3)

    class Fused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            w = layer._flat_weights
            made: Tensor = torch.ops.aten.mkldnn_rnn_layer(
                x[0, 0][:, None], *w, state[0], state[0], False, [], 2, 3, 1, True, False, False, False
            )[0]
            return made

    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no such kernel")
    why = trace(Fused(), torch.randn(1, 5, 4)).why("mkldnn_rnn_layer", 0, 0, 0)
    assert not why.opened and why.sum == why.recorded
    assert "it does not run in float64" in why.text()


def test_what_is_not_opened_says_which_operation() -> None:
    for function, operation in ((lambda x: x.cumprod(1), "cumprod"), (torch.linalg.inv, "linalg_inv_ex")):
        why = trace(Runs(function), torch.randn(2, 3, 3)).why(operation, 0, 1, 1)
        assert not why.opened and why.agrees and f"torch's {operation} of image" in why.text()
