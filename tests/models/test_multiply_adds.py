"""Multiply-adds against formulas, for one operation of each kind and for what torch fuses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convoscope.models import build, table

TOKENS, WIDTH = 16, 32
PROJECTIONS = 4 * TOKENS * WIDTH * WIDTH
ATTENTION = 2 * TOKENS * TOKENS * WIDTH


class Tokens(nn.Module):
    """Sixteen patches of a 32x32 image as tokens, through one part, to five scores."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.patches, self.part, self.last = nn.Conv2d(3, WIDTH, 8, 8), part, nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.part(self.patches(x).flatten(2).transpose(1, 2))
        scores: Tensor = self.last(x.mean(1))
        return scores


OUTSIDE = TOKENS * WIDTH * 3 * 64 + WIDTH * 5


class Attention(nn.Module):
    def __init__(self, heads: int = 4, groups: int = 4, **how: Any) -> None:
        super().__init__()
        self.heads, self.groups, self.how = heads, groups, how
        each = WIDTH // heads
        self.query, self.key, self.value = (nn.Linear(WIDTH, n * each) for n in (heads, groups, groups))
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (n, -1)).transpose(1, 2)
            for layer, n in ((self.query, self.heads), (self.key, self.groups), (self.value, self.groups))
        )
        made: Tensor = self.out(F.scaled_dot_product_attention(q, k, v, **self.how).transpose(1, 2).flatten(2))
        return made


class Multihead(nn.MultiheadAttention):
    def __init__(self, weights: bool) -> None:
        super().__init__(WIDTH, 4, batch_first=True)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x, need_weights=self.weights)[0]


def encoder(layers: int) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True), layers)


ATTENTIONS = {
    "plain": (Attention(), PROJECTIONS + ATTENTION),
    "with a mask": (Attention(attn_mask=torch.randn(TOKENS, TOKENS)), PROJECTIONS + ATTENTION),
    "with a mask of truths": (Attention(attn_mask=torch.eye(TOKENS).bool()), PROJECTIONS + ATTENTION),
    "causal": (Attention(is_causal=True), PROJECTIONS + ATTENTION),
    "of its own scale": (Attention(scale=0.3), PROJECTIONS + ATTENTION),
    "grouped queries": (Attention(8, 2, enable_gqa=True), PROJECTIONS // 2 + 2 * TOKENS * WIDTH * 8 + ATTENTION),
    "multihead": (Multihead(False), PROJECTIONS + ATTENTION),
    "multihead with weights": (Multihead(True), PROJECTIONS + ATTENTION),
    "encoder": (encoder(2), 2 * (PROJECTIONS + ATTENTION + 2 * TOKENS * WIDTH * 64)),
}


@pytest.mark.parametrize(("part", "wanted"), ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize("frozen", [False, True])
def test_attention_counts_with_every_kernel(part: nn.Module, wanted: int, frozen: bool) -> None:
    network = Tokens(part).eval()
    network.requires_grad_(not frozen)
    made = table(network, (32, 32, 3), 5)
    assert made.multiply_adds == OUTSIDE + wanted
    assert made.parameters == sum(row.parameters for row in made.layers)
    with torch.inference_mode():
        assert table(network, (32, 32, 3), 5) == made
    # Whatever the caller had switched on is on again.
    assert torch.backends.mha.get_fastpath_enabled() and torch.backends.cuda.flash_sdp_enabled()


def test_a_module_counts_as_its_name_does() -> None:
    name, input = "timm:vit_tiny_patch16_224", (32, 32, 3)
    by_name, own = table(name, input, 10), table(build(name, input, 10).eval(), input, 10)
    assert (own.multiply_adds, own.parameters) == (by_name.multiply_adds, by_name.parameters)


class Rows(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.last = layer, nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.last(self.layer(x[:, 0])[0][:, -1])
        return made


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("name", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent_layers_meet_each_weight_at_every_moment(name: str, gates: int, bias: bool, device: str) -> None:
    moments, width, hidden = 5, 7, 6
    layer = getattr(nn, name)(width, hidden, num_layers=2, bidirectional=True, batch_first=True, bias=bias)
    made = table(Rows(layer, 2 * hidden).eval().to(device), (moments, width, 1), 2)
    first = 2 * moments * gates * hidden * (width + hidden)
    second = 2 * moments * gates * hidden * (2 * hidden + hidden)
    assert made.multiply_adds == first + second + 2 * hidden * 2
    assert made.layers[0].parameters == sum(parameter.numel() for parameter in layer.parameters())


class Runs(nn.Module):
    def __init__(self, operation: Any, *weights: Tensor) -> None:
        super().__init__()
        self.operation = operation
        self.weights = nn.ParameterList([nn.Parameter(weight) for weight in weights])

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.operation(x, *self.weights)
        return made.flatten(1).sum(1, keepdim=True).expand(-1, 3)


r = torch.randn
OPERATIONS: dict[str, tuple[Runs, int]] = {
    "matrix and vector": (Runs(lambda x, w: (x.flatten(2) @ w)[None], r(48)), 4 * 48),
    "vector and vector": (Runs(lambda x, w: torch.dot(x.flatten(), w)[None, None], r(192)), 192),
    "added to a vector": (Runs(lambda x, b, w: torch.addmv(b, x[0].flatten(1), w)[None], r(4), r(48)), 4 * 48),
    "a batch added up": (Runs(lambda x, b, w: torch.addbmm(b, x[0], w)[None], r(6, 5), r(4, 8, 5)), 4 * 6 * 8 * 5),
    "added to a batch": (Runs(lambda x, b, w: torch.baddbmm(b, x[0], w)[None], r(4, 6, 5), r(4, 8, 5)), 4 * 6 * 8 * 5),
    "einsum": (Runs(lambda x, w: torch.einsum("bchw,ocw->boh", x, w), r(3, 4, 8)), 3 * 4 * 8 * 6),
    "bilinear": (Runs(lambda x, w: F.bilinear(x[0, 0], x[0, 1], w)[None], r(5, 8, 8)), 6 * 5 * 8 * 8),
    "one axis": (Runs(lambda x, w: F.conv1d(x.flatten(2), w, dilation=2), r(6, 4, 3)), 44 * 6 * 4 * 3),
    "three axes": (Runs(lambda x, w: F.conv3d(x[:, None], w), r(2, 1, 3, 3, 3)), 2 * 4 * 6 * 2 * 27),
    "one axis, transposed": (
        Runs(lambda x, w: F.conv_transpose1d(x.flatten(2), w, stride=3, groups=2), r(4, 5, 2)),
        48 * 4 * 5 * 2,
    ),
    "transposed": (
        Runs(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1), r(4, 5, 3, 3)),
        48 * 4 * 5 * 9,
    ),
    "of groups": (Runs(lambda x, w: F.conv2d(x, w, stride=2, groups=2), r(6, 2, 3, 3)), 2 * 3 * 6 * 2 * 9),
}


@pytest.mark.parametrize(("network", "wanted"), OPERATIONS.values(), ids=OPERATIONS)
def test_one_operation_of_each_kind(network: Runs, wanted: int) -> None:
    made = table(network, (6, 8, 4), 3)
    assert made.multiply_adds == wanted
    with torch.inference_mode():
        assert table(network, (6, 8, 4), 3).multiply_adds == wanted
        assert table(Runs(network.operation, *(w.clone() for w in network.weights)), (6, 8, 4), 3) == made
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, 4, 6, 8))
    assert counter.get_total_flops() in (0, 2 * wanted)  # torch's own count lacks some


def test_a_layer_that_runs_three_times_counts_three_times_and_its_weights_once() -> None:
    conv, other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    other.weight = conv.weight
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    made = table(nn.Sequential(conv, nn.ReLU(), conv, conv, other, *head), (8, 8, 3), 2)
    assert made.multiply_adds == 4 * 64 * 81 + 6
    assert made.parameters == sum(row.parameters for row in made.layers) == 84 + 3 + 8


def test_scripted_parts_count() -> None:
    with pytest.warns(FutureWarning, match="deprecated"):
        part: nn.Module = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    network = nn.Sequential(part, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    made = table(network, (8, 8, 3), 2)
    assert made.multiply_adds == 36 * 4 * 27 + 8
    assert made.parameters == sum(row.parameters for row in made.layers) == 112 + 10


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
        nn.utils.spectral_norm,
    ],
    ids=["weight_norm", "spectral_norm", "orthogonal", "spectral_norm of old"],
)
def test_what_makes_weights_of_weights_is_no_work_for_the_image(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), wrap(nn.Linear(4, 2)))
    assert table(network.eval(), (8, 8, 3), 2).multiply_adds == 36 * 4 * 27 + 8
