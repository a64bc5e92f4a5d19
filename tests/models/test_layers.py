"""The catalogue of layers: what each entry says of itself is what torch does."""

from typing import get_args

import pytest
import torch

from convoscope.models import LAYERS, OPERATIONS, Role, build, kinds_of, role_of, table
from tests.support.operations import Heard


def test_every_layer_has_a_role_and_the_roles_part_the_catalogue() -> None:
    roles = get_args(Role)
    assert all(layer.role in roles for layer in LAYERS.values())
    assert sorted(kind for role in roles for kind in kinds_of(role)) == sorted(LAYERS)
    assert role_of("conv") == role_of("kernel") == "convolution"
    assert role_of("pad") == "padding" and role_of("hardswish") == "other"


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_a_layer_is_known_again_by_its_operations_and_its_module(kind: str) -> None:
    """What a trace, which sees operations, and a measured table, which sees modules, call the layer is its own name."""
    layer = LAYERS[kind]
    if layer.role == "block":
        return
    inside = {"conv": "conv(2)", "dense": "flatten dense(3)", "kernel": "kernel(blur)"}.get(kind, kind)
    after = "dense" if layer.role in ("dense", "reshape") or kind == "globalavg" else "flatten dense"
    network = build(f"{inside} {after}", (6, 6, 3), 2).eval()
    part = network.get_submodule(f"{kind}1" if layer.numbered else kind)
    image = torch.randn(1, *((108,) if kind == "dense" else (3, 6, 6)))
    with torch.no_grad(), Heard() as heard:
        part(image)
    if layer.aten and layer.role != "dropout":  # which does nothing outside of training
        assert kind in [OPERATIONS.get(name) for name in heard.names]
    assert kind in [row.kind for row in table(network, (6, 6, 3), 2).layers]


def test_activations_that_rectify_are_those_that_stop_numbers_below_zero() -> None:
    below = torch.full((1, 1, 4, 4), -3.0)
    for kind in kinds_of("activation"):
        stopped = build(f"{kind} flatten dense", (4, 4, 1), 2)[0](below).abs().max() < 0.2  # type: ignore[index]
        assert LAYERS[kind].rectifies == (bool(stopped) and kind != "sigmoid")
