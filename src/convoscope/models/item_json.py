"""Items as JSON and back, for an editor in a browser. Everything is checked as in a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import UsageError, printable
from ..suggestions import did_you_mean
from .arguments import Argument
from .items import DEEPEST, MOST_LAYERS, Item, chain_problem, check_length, too_big
from .layers import LAYERS


def to_json(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The tree as JSON: each item `{"kind", "arguments", "branches"}`, the last two only where there are any."""
    result = []
    for item in items:
        entry: dict[str, Any] = {"kind": item.kind}
        if item.given:
            entry["arguments"] = {
                name: list(value) if isinstance(value, tuple) else value for name, value in item.given
            }
        if item.branches:
            entry["branches"] = [to_json(branch) for branch in item.branches]
        result.append(entry)
    return result


def from_json(tree: object) -> tuple[Item, ...]:
    """The items of a tree that `to_json` made, or an editor in a browser. Everything is checked as in `parse`.

    Raises:
        UsageError: `model-json` with the place as `[2].branches[0][1]`; `model-too-big`.
    """
    items = _chain(tree, "", 0)
    check_length(items)
    return items


def _chain(tree: object, place: str, depth: int) -> tuple[Item, ...]:
    if not isinstance(tree, list):
        raise _bad_json(place, "a list of layers", tree)
    if depth > DEEPEST or len(tree) > MOST_LAYERS:
        raise too_big(
            f"a model may have {MOST_LAYERS:,} layers and {DEEPEST} levels", "use repeat for layers that come again"
        )
    return tuple(_from_entry(entry, f"{place}[{number}]", depth) for number, entry in enumerate(tree))


def _from_entry(entry: object, place: str, depth: int) -> Item:
    if not isinstance(entry, dict) or set(entry) - {"kind", "arguments", "branches"}:
        raise _bad_json(place, "a layer with kind, arguments and branches", entry)
    kind, given, branches = entry.get("kind"), entry.get("arguments", {}), entry.get("branches", [])
    layer = LAYERS.get(kind) if isinstance(kind, str) else None
    if layer is None:
        hint = did_you_mean(kind, LAYERS) if isinstance(kind, str) else ""
        raise _bad_json(f"{place}.kind", "a layer", kind, hint=hint)
    if not isinstance(given, dict):
        raise _bad_json(f"{place}.arguments", "names and values", given)
    if not isinstance(branches, list):
        raise _bad_json(f"{place}.branches", "a list of chains", branches)
    known: dict[str, Argument] = {argument.name: argument for argument in layer.arguments}
    for name in given:
        if name not in known:
            raise _bad_json(
                f"{place}.arguments", f"arguments of {layer.kind} ({', '.join(known) or 'it has none'})", name
            )
    values = []
    for name, argument in known.items():
        if name in given:
            value = argument.accept(given[name])
            if value is None:
                raise _bad_json(f"{place}.arguments.{name}", argument.expected, given[name])
            values.append((name, value))
        elif argument.required:
            raise _bad_json(f"{place}.arguments", f"{layer.kind} with {name}", sorted(map(str, given)))
    chains = tuple(_chain(branch, f"{place}.branches[{n}]", depth + 1) for n, branch in enumerate(branches))
    if not layer.branches[1]:
        if chains:
            raise _bad_json(f"{place}.branches", f"{layer.kind} without branches", branches)
    else:
        problem = chain_problem(layer, chains)
        if problem:
            raise _bad_json(f"{place}.branches", problem[0], problem[1])
    return Item(layer.kind, tuple(values), chains)


def _bad_json(place: str, expected: str, got: object, hint: str = "") -> UsageError:
    return UsageError(
        f"model{place}", f"expected {expected}, got {printable(repr(got)[:60])}", code="model-json", hint=hint
    )
