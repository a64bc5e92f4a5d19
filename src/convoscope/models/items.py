"""The layers of a model as they are written: a tree of items, whether it came from a text or from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from .arguments import Value
from .layers import LAYERS, Layer

DEEPEST = 50


MOST_LAYERS = 5_000


@dataclass(frozen=True)
class Item:
    """One layer of a model as it is written.

    Attributes:
        kind: a name of the catalogue.
        given: the arguments that were given, name and value, in the catalogue's order.
        branches: the chains inside: one for `residual` and `repeat`, two or more for `parallel`.
        line, column: its place in the text, from 1; 0 where there is no text. Comparisons ignore them.
    """

    kind: str
    given: tuple[tuple[str, Value], ...] = ()
    branches: tuple[tuple[Item, ...], ...] = ()
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)

    def arguments(self) -> dict[str, Value | None]:
        """All arguments, with the catalogue's defaults where none was given."""
        return {argument.name: argument.default for argument in LAYERS[self.kind].arguments} | dict(self.given)


def check_length(items: Sequence[Item]) -> None:
    """Refuse a model with too many layers, before `repeat` is written out."""
    if count_layers(items) > MOST_LAYERS:
        raise too_big(
            f"a model may have {MOST_LAYERS:,} layers; this one has {count_layers(items):,}", "repeat less often"
        )


def too_big(reason: str, hint: str) -> UsageError:
    """The error of a model with more characters, layers or levels than are read."""
    return UsageError("model", reason, code="model-too-big", hint=hint)


def count_layers(items: Sequence[Item]) -> int:
    """Layers with every `repeat` written out."""
    total = 0
    for item in items:
        inside = sum(count_layers(branch) for branch in item.branches)
        times = dict(item.given).get("n", 1) if item.kind == "repeat" else 1
        assert isinstance(times, int)
        total += times * inside + (item.kind != "repeat")
    return total


def written_out(items: Sequence[Item]) -> tuple[Item, ...]:
    """The same chain with every `repeat` in it written out; those inside a residual or a branch stay."""
    result: list[Item] = []
    for item in items:
        if item.kind == "repeat":
            times = item.arguments()["n"]
            assert isinstance(times, int)
            result += written_out(item.branches[0]) * times
        else:
            result.append(item)
    return tuple(result)


def chain_problem(layer: Layer, chains: Sequence[tuple[Item, ...]]) -> tuple[str, str] | None:
    least, most = layer.branches
    if layer.kind == "parallel":
        if not least <= len(chains) <= most:
            return f"from {least} to {most} branches with `|` between them", str(len(chains))
        return None
    if len(chains) != 1 or not chains[0]:
        return f"layers inside {layer.kind}", "none"
    return None
