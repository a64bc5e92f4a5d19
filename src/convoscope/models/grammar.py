"""From a model's text to its items.

Names of layers and names and values of arguments are checked here; whether the shapes fit together is checked in
`plan`. Errors say the line, the column, what was expected and what was found.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from ..errors import UsageError, printable
from ..suggestions import did_you_mean
from .arguments import LARGEST_KERNEL, Argument, Value, size_text
from .item_text import value_text
from .items import DEEPEST, Item, chain_problem, check_length, too_big
from .layers import LAYERS, Layer

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

LONGEST_TEXT = 20_000

# One form for every layer, so that a misspelt name is reported as such and not as a wrong bracket.
GRAMMAR = r"""
start: item*
item: NAME [OPEN body CLOSE]
body: branch (BAR branch)*
branch: [entry (COMMA entry)*]
entry: NAME EQUALS value -> keyword
     | NUMBER -> scalar
     | SIZE -> scalar
     | WORD -> scalar
     | item+ -> chain
value: NUMBER | SIZE | NAME | WORD

NAME: /[^\W\d]\w*/
SIZE.2: /\d+x\d+/
WORD: /"[^"\n]*"|'[^'\n]*'/
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


def parse(text: str) -> tuple[Item, ...]:
    """The layers of a model's text.

    Raises:
        UsageError: `model-syntax`, `model-unknown-layer`, `model-argument` with line and column; `model-too-big`.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

    if len(text) > LONGEST_TEXT:
        raise too_big(
            f"a model's text may have {LONGEST_TEXT:,} characters; this one has {len(text):,}",
            "use repeat(n, ...) for layers that come again",
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
        """The layers inside residual, parallel and repeat; their arguments come first."""
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
            inside: list[Tree[Token]] = rest[0].children if rest else []  # type: ignore[assignment]
            chains.append(tuple(self.item(child) for child in inside))
        problem = chain_problem(layer, chains)
        if problem:
            self.fail(line, column, *problem, advice=_form(layer))
        return chains

    def numbers(self, layer: Layer, entries: list[Tree[Token]], given: dict[str, Value]) -> int:
        """The leading numbers as one argument, where the layer takes such a list. Returns how many entries they are."""
        argument = layer.arguments[0] if layer.arguments else None
        words: list[Token] = []
        if argument is not None and argument.kind == "numbers":
            scalars = itertools.takewhile(
                lambda entry: entry.data == "scalar" and _first(entry).type != "WORD", entries
            )
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
        meant = did_you_mean(word.strip("\"'"), argument.words) if word.type in ("NAME", "WORD") else ""
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
        token = _first(entry)
        return token.line or 0, token.column or 0

    @staticmethod
    def shown(entry: Tree[Token]) -> str:
        return printable(" ".join(str(value) for value in entry.scan_values(lambda value: True))[:40])


def _first(entry: Tree[Token]) -> Token:
    return next(entry.scan_values(lambda value: True))


def _value(word: Token) -> Value:
    if word.type == "WORD":
        return str(word[1:-1])
    if word.type == "SIZE":
        height, width = word.split("x")
        return (int(height), int(width)) if len(word) < 40 else "too large"
    if word.type == "NUMBER":
        if word.lstrip("-").isdigit():
            return int(word) if len(word) < 20 else float("inf")
        return float(word)
    return {"true": True, "false": False}.get(word.lower(), str(word))


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
        a.name if a.required else f"{a.name}={value_text(a.default)}"
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
