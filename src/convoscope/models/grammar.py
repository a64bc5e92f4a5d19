"""A model's text: from text to a tree of items and back, and the same tree as JSON.

Here the words are checked: names of layers, names and values of arguments. Whether the shapes fit together is `plan`'s
question. Errors say line, column, what was expected and what came.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UsageError, printable
from ..suggestions import did_you_mean
from .layers import LARGEST_KERNEL, LAYERS, Argument, Layer, Value, size_text

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from numpy.typing import ArrayLike
    from torch import Tensor

LONGEST_TEXT = 20_000
DEEPEST = 50
MOST_LAYERS = 5_000

# One form for every layer, so that a misspelt name is told as such and not as a wrong bracket.
GRAMMAR = r"""
start: item*
item: NAME [OPEN body CLOSE]
body: branch (BAR branch)*
branch: [entry (COMMA entry)*]
entry: NAME EQUALS value -> keyword
     | NUMBER -> scalar
     | SIZE -> scalar
     | item+ -> chain
value: NUMBER | SIZE | NAME

NAME: /[^\W\d]\w*/
SIZE.2: /\d+x\d+/
NUMBER: /-?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?/
OPEN: "("
CLOSE: ")"
COMMA: ","
BAR: "|"
EQUALS: "="
COMMENT: /#[^\n]*/
SPACE: /\s+/
%ignore COMMENT
%ignore SPACE
"""

TERMINALS = {
    "NAME": "a layer",
    "NUMBER": "a number",
    "SIZE": "a size",
    "OPEN": "`(`",
    "CLOSE": "`)`",
    "COMMA": "`,`",
    "BAR": "`|`",
    "EQUALS": "`=`",
    "$END": "the end of the text",
}


@dataclass(frozen=True)
class Item:
    """One layer of a model as it is written.

    Attributes:
        kind: a name of the catalogue.
        given: the arguments that were given, name and value, in the catalogue's order.
        branches: the chains inside: one for `residual` and `repeat`, two or more for `parallel`.
        line, column: where it stands in the text, from 1; 0 where there is no text. They do not count in comparisons.
    """

    kind: str
    given: tuple[tuple[str, Value], ...] = ()
    branches: tuple[tuple[Item, ...], ...] = ()
    line: int = field(default=0, compare=False)
    column: int = field(default=0, compare=False)

    def arguments(self) -> dict[str, Value | None]:
        """All arguments, with the catalogue's defaults where none was given."""
        return {argument.name: argument.default for argument in LAYERS[self.kind].arguments} | dict(self.given)


def parse(text: str) -> tuple[Item, ...]:
    """The layers of a model's text.

    Raises:
        UsageError: `model-syntax`, `model-unknown-layer`, `model-argument` with line and column; `model-too-big`.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    if len(text) > LONGEST_TEXT:
        raise UsageError(
            "model",
            f"a model's text may have {LONGEST_TEXT:,} characters; this one has {len(text):,}",
            code="model-too-big",
            hint="use repeat(n, ...) for layers that come again",
        )
    reader = _Reader(text)
    opened = reader.check_depth()
    try:
        tree = _lark().parse(text)
    except UnexpectedCharacters as error:
        inside = bool(reader.check_depth(before=(error.line, error.column)))
        allowed = error.allowed if inside else {"NAME", "OPEN", "$END"}
        reader.fail(error.line, error.column, _expected(allowed), f"`{printable(error.char)}`")
    except UnexpectedToken as error:
        if error.token.type == "$END":
            line, column = reader.end()
            where = f"the `(` of line {opened[-1][0]}, column {opened[-1][1]} is not closed" if opened else ""
            reader.fail(line, column, _expected(error.accepts), "the end of the text", advice=where)
        reader.fail(error.line, error.column, _expected(error.accepts), f"`{printable(error.token)}`")
    except UnexpectedInput as error:  # pragma: no cover - lark has no third kind today
        reader.fail(error.line, error.column, "a layer", "something else")
    items = tuple(reader.item(child) for child in tree.children)  # type: ignore[arg-type]
    check_length(items)
    return items


@functools.cache
def _lark() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", maybe_placeholders=False)


def _expected(names: Iterable[str] | None) -> str:
    known = [text for name, text in TERMINALS.items() if name in (names or ())]
    if not known:
        return "a layer"
    return known[0] if len(known) == 1 else ", ".join(known[:-1]) + " or " + known[-1]


class _Reader:
    """Turns lark's tree into items, and knows the text for the error messages."""

    def __init__(self, text: str) -> None:
        self.text = text

    def end(self) -> tuple[int, int]:
        """Line and column behind the last character that is not white space."""
        kept = self.text.rstrip()
        return kept.count("\n") + 1, len(kept) - (kept.rfind("\n") + 1) + 1

    def check_depth(self, before: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """Refuse deep nesting before the parser sees it. Returns the brackets that stay open, at the end or `before` a
        place.
        """
        opened: list[tuple[int, int]] = []
        for number, line in enumerate(self.text.split("\n"), 1):
            for column, character in enumerate(line.split("#", 1)[0], 1):
                if before is not None and (number, column) >= before:
                    return opened
                if character == "(":
                    opened.append((number, column))
                elif character == ")" and opened:
                    opened.pop()
                if len(opened) > DEEPEST:
                    self.fail(
                        number,
                        column,
                        f"at most {DEEPEST} brackets inside each other",
                        "one more",
                        code="model-too-big",
                    )
        return opened

    def fail(
        self, line: int, column: int, expected: str, got: str, *, advice: str = "", code: str = "model-syntax"
    ) -> NoReturn:
        row = self.text.split("\n")[line - 1] if line >= 1 else ""
        start = max(0, column - 41)
        before, after = printable(row[start : column - 1]), printable(row[column - 1 : start + 80])
        shown = f"  {before}{after}".rstrip()
        hint = f"{advice or 'it is here:'}\n{shown}\n  {' ' * len(before)}^"
        raise UsageError(
            f"model, line {line}, column {column}", f"expected {expected}, got {got}", code=code, hint=hint
        )

    def item(self, tree: Tree[Token]) -> Item:
        name: Token = tree.children[0]  # type: ignore[assignment]
        line, column = name.line or 0, name.column or 0
        layer = LAYERS.get(name)
        if layer is None:
            self.fail(
                line,
                column,
                "a layer (" + ", ".join(LAYERS) + ")",
                f"`{printable(name[:80])}`",
                advice=did_you_mean(name, LAYERS),
                code="model-unknown-layer",
            )
        branches: list[list[Tree[Token]]] = []
        if len(tree.children) > 1:
            body: Tree[Token] = tree.children[2]  # type: ignore[assignment]
            branches = [
                [entry for entry in branch.children if not hasattr(entry, "type")]
                for branch in body.children
                if not hasattr(branch, "type")
            ]
        given: dict[str, Value] = {}
        chains: list[tuple[Item, ...]] = []
        if layer.branches[1]:
            chains = self.chains(layer, branches, given, line, column)
        else:
            if len(branches) > 1:
                self.fail(line, column, f"no `|` inside {layer.kind}", f"{len(branches)} branches")
            entries = branches[0] if branches else []
            taken = self.numbers(layer, entries, given)
            for position, entry in enumerate(entries[taken:], min(taken, 1)):
                self.argument(layer, entry, position, given)
        self.check_required(layer, given, line, column)
        ordered = tuple((a.name, given[a.name]) for a in layer.arguments if a.name in given)
        return Item(layer.kind, ordered, tuple(chains), line, column)

    def chains(
        self, layer: Layer, branches: list[list[Tree[Token]]], given: dict[str, Value], line: int, column: int
    ) -> list[tuple[Item, ...]]:
        """The layers inside residual, parallel and repeat; arguments stand before them."""
        if layer.branches[1] == 1 and len(branches) > 1:
            self.fail(line, column, f"no `|` inside {layer.kind}", f"{len(branches)} branches")
        chains = []
        for entries in branches:
            count = len(layer.arguments)
            for position, entry in enumerate(entries[:count]):
                self.argument(layer, entry, position, given)
            rest = entries[count:]
            for entry in rest[1:]:
                self.fail(*self.place(entry), f"layers inside {layer.kind} with white space between them", "`,`")
            if rest and rest[0].data != "chain":
                self.fail(*self.place(rest[0]), "a layer", f"`{self.shown(rest[0])}`")
            chains.append(tuple(self.item(child) for child in rest[0].children) if rest else ())  # type: ignore[arg-type]
        problem = _chain_problem(layer, chains)
        if problem:
            self.fail(line, column, *problem, advice=_form(layer))
        return chains

    def numbers(self, layer: Layer, entries: list[Tree[Token]], given: dict[str, Value]) -> int:
        """The leading numbers as one argument, where the layer takes such a list. Returns how many entries they are."""
        argument = layer.arguments[0] if layer.arguments else None
        words: list[Token] = []
        if argument is not None and argument.kind == "numbers":
            scalars = itertools.takewhile(lambda entry: entry.data == "scalar", entries)
            words = [entry.children[0] for entry in scalars]  # type: ignore[misc]
        if argument is None or not words:
            return 0
        values = [_value(word) for word in words]
        for word, value in zip(words, values, strict=True):
            if argument.accept(value) is None:
                self.refuse(argument, word)
        accepted = argument.accept(values)
        if accepted is None:
            got = f"{len(words)} number{'s' if len(words) != 1 else ''}"
            self.refuse(argument, words[0], got=got, advice=_square_advice(len(words)))
        given[argument.name] = accepted
        return len(words)

    def refuse(self, argument: Argument, word: Token, *, got: str = "", advice: str = "") -> NoReturn:
        """A value that the argument does not take."""
        meant = did_you_mean(word, argument.words) if word.type == "NAME" else ""
        self.fail(
            word.line or 0,
            word.column or 0,
            f"{argument.name} to be {argument.expected}",
            got or f"`{printable(word[:40])}`",
            advice=meant or advice,
            code="model-argument",
        )

    def argument(self, layer: Layer, entry: Tree[Token], position: int, given: dict[str, Value]) -> None:
        line, column = self.place(entry)
        if entry.data == "keyword":
            name: Token = entry.children[0]  # type: ignore[assignment]
            word: Token = entry.children[2].children[0]  # type: ignore[union-attr, assignment]
            known = [argument.name for argument in layer.arguments]
            if name not in known:
                allowed = "an argument of " + layer.kind + (f" ({', '.join(known)})" if known else ", which has none")
                advice = did_you_mean(name, known)
                self.fail(line, column, allowed, f"`{printable(name[:80])}`", advice=advice, code="model-argument")
            argument = layer.arguments[known.index(name)]
            if name in given:
                self.fail(line, column, f"each argument of {layer.kind} once", f"`{name}` again", code="model-argument")
        else:
            if position >= len(layer.arguments):
                most = len(layer.arguments)
                count = (
                    f"at most {most} argument{'s' if most != 1 else ''} of {layer.kind}"
                    if most
                    else f"`{layer.kind}` without arguments"
                )
                self.fail(line, column, count, f"`{self.shown(entry)}`", advice=_form(layer), code="model-argument")
            argument = layer.arguments[position]
            if argument.name in given or (position and layer.arguments[position - 1].name not in given):
                self.fail(
                    line,
                    column,
                    "arguments without a name before those with one",
                    f"`{self.shown(entry)}`",
                    advice=_form(layer),
                    code="model-argument",
                )
            if entry.data == "chain":
                first: Tree[Token] = entry.children[0]  # type: ignore[assignment]
                if len(entry.children) > 1 or len(first.children) > 1:
                    self.fail(
                        line,
                        column,
                        f"{argument.name}={argument.expected}",
                        f"`{self.shown(entry)}`",
                        code="model-argument",
                    )
                word = first.children[0]  # type: ignore[assignment]
            else:
                word = entry.children[0]  # type: ignore[assignment]
        value = argument.accept(_value(word))
        if value is None:
            self.refuse(argument, word)
        given[argument.name] = value

    def check_required(self, layer: Layer, given: dict[str, Value], line: int, column: int) -> None:
        for argument in layer.arguments:
            if argument.required and argument.name not in given:
                self.fail(
                    line,
                    column,
                    f"{layer.kind} with {argument.name} ({argument.meaning})",
                    f"{layer.kind} without it",
                    advice=f"write for instance {_form(layer)}",
                    code="model-argument",
                )

    @staticmethod
    def place(entry: Tree[Token]) -> tuple[int, int]:
        token = next(entry.scan_values(lambda value: True))
        return token.line or 0, token.column or 0

    @staticmethod
    def shown(entry: Tree[Token]) -> str:
        return printable(" ".join(str(value) for value in entry.scan_values(lambda value: True))[:40])


def _value(word: Token) -> Value:
    if word.type == "SIZE":
        height, width = word.split("x")
        return (int(height), int(width)) if len(word) < 40 else "too large"
    if word.type == "NUMBER":
        if word.lstrip("-").isdigit():
            return int(word) if len(word) < 20 else float("inf")
        return float(word)
    return {"true": True, "false": False}.get(word, str(word))


def _form(layer: Layer) -> str:
    """How the layer is written, for hints."""
    if layer.kind == "repeat":
        return "repeat(2, conv(32) relu)"
    if layer.kind == "residual":
        return "residual(conv(32) relu conv(32))"
    if layer.kind == "parallel":
        return "parallel(conv(16, 1) | conv(16, 3))"
    if layer.kind == "kernel":
        return "kernel(sobel_x), or kernel(1, 0, -1, 2, 0, -2, 1, 0, -1)"
    inside = [
        a.name if a.required else f"{a.name}={_text(a.default)}"
        for a in layer.arguments
        if a.required or a.default is not None
    ]
    return f"{layer.kind}({', '.join(inside)})" if inside else layer.kind


def _square_advice(count: int) -> str:
    """What a list of `count` numbers lacks or has too many to be a square."""
    side = math.isqrt(count)
    if side >= LARGEST_KERNEL:
        return f"the largest kernel is {size_text((LARGEST_KERNEL, LARGEST_KERNEL))}"
    sides = [size_text((n, n)) + f" has {n * n}" for n in (side, side + 1)]
    return " and ".join(sides) + " numbers"


def _chain_problem(layer: Layer, chains: Sequence[tuple[Item, ...]]) -> tuple[str, str] | None:
    least, most = layer.branches
    if layer.kind == "parallel":
        if not least <= len(chains) <= most:
            return f"from {least} to {most} branches with `|` between them", str(len(chains))
        return None
    if len(chains) != 1 or not chains[0]:
        return f"layers inside {layer.kind}", "none"
    return None


def check_length(items: Sequence[Item]) -> None:
    """Refuse a model with too many layers, before `repeat` is written out."""
    if count_layers(items) > MOST_LAYERS:
        raise UsageError(
            "model",
            f"a model may have {MOST_LAYERS:,} layers; this one has {count_layers(items):,}",
            code="model-too-big",
            hint="repeat less often",
        )


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


def to_text(items: Sequence[Item]) -> str:
    """The text of a tree, in its shortest form on one line. `parse` gives the same items back."""
    return " ".join(_item_text(item) for item in items)


def _item_text(item: Item) -> str:
    layer, given = LAYERS[item.kind], dict(item.given)
    parts, unnamed = [], layer.unnamed
    for position, argument in enumerate(layer.arguments):
        if argument.name not in given:
            unnamed = min(unnamed, position)
        else:
            name = "" if position < unnamed else f"{argument.name}="
            parts.append(name + _text(given[argument.name]))
    if item.branches:
        parts.append(" | ".join(to_text(branch) for branch in item.branches))
    return f"{item.kind}({', '.join(parts)})" if parts else item.kind


def _text(value: Value | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return (", " if isinstance(value[0], float) else "x").join(map(_text, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value)


def kernel_text(values: ArrayLike | Tensor) -> str:
    """The item that slides `values` over every map: the kernel of a learned filter, say, as a part of a text.

    The numbers are written in as few digits as give the same float32 or float64 back. A kernel that is not square gets
    rows or columns of zeros, at the side where `padding=same` leaves its results as they are.

    Args:
        values: `(height, width)`, sides from 1 to 31, each number from -1,000,000 to 1,000,000. Of a learned filter one
            channel: `filters(network, "conv1")[5, 0]`.

    Raises:
        UsageError: `kernel-shape`, `kernel-numbers`.

    Example:
        >>> kernel_text([[1, -1], [0.5, 0]])
        'kernel(1, -1, 0.5, 0)'
    """
    import numpy as np

    if not isinstance(values, np.ndarray) and hasattr(values, "detach"):
        tensor: Tensor = values.detach().cpu()
        values = (tensor.float() if tensor.element_size() < 8 else tensor).numpy()
    array = np.asarray(values)
    if array.ndim != 2 or not 1 <= min(array.shape) <= max(array.shape) <= LARGEST_KERNEL:
        raise UsageError(
            "kernel",
            f"expected rows and columns, from 1 to {LARGEST_KERNEL} of each, got shape {array.shape}",
            code="kernel-shape",
            hint="of a filter give one channel, for instance filters(network, 'conv1')[0, 0]",
        )
    if array.dtype.kind not in "iuf":
        raise UsageError("kernel", f"expected real numbers, got {array.dtype}", code="kernel-numbers")
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    largest = max(array.shape)
    before = [(largest - 1) // 2 - (side - 1) // 2 for side in array.shape]
    square = np.pad(array, [(b, largest - side - b) for b, side in zip(before, array.shape, strict=True)])
    # Through text: the shortest digits of a float32 are not those of the float64 that is equal to it.
    numbers = [float(str(value)) for value in square.flat]
    argument = LAYERS["kernel"].arguments[0]
    bad = [number for number in numbers if argument.accept(number) is None]
    if bad:
        low, high = argument.minimum, argument.maximum
        raise UsageError(
            "kernel", f"expected numbers from {low:,.0f} to {high:,.0f}, got {bad[0]:g}", code="kernel-numbers"
        )
    accepted = argument.accept(numbers)
    assert accepted is not None
    return to_text([Item("kernel", (("values", accepted),))])


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
        raise UsageError(
            "model",
            f"a model may have {MOST_LAYERS:,} layers and {DEEPEST} levels",
            code="model-too-big",
            hint="use repeat for layers that come again",
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
        problem = _chain_problem(layer, chains)
        if problem:
            raise _bad_json(f"{place}.branches", problem[0], problem[1])
    return Item(layer.kind, tuple(values), chains)


def _bad_json(place: str, expected: str, got: object, hint: str = "") -> UsageError:
    return UsageError(
        f"model{place}", f"expected {expected}, got {printable(repr(got)[:60])}", code="model-json", hint=hint
    )
