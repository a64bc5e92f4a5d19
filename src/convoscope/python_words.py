"""What a hint says to somebody who types Python: `convoscope test runs/a` becomes `convoscope.test("runs/a")`.

Hints are written for the command line, once. A script or a notebook shows them through here.
"""

from __future__ import annotations

import re
import shlex

_FUNCTIONS = {
    "train": "train",
    "relearn": "relearn",
    "test": "test",
    "look": "look",
    "data": "load",
    "search": "search",
}
_COMMAND = re.compile(
    r"\bconvoscope (train|relearn|test|look|data|search|compare)\b((?: (?!--config)(?:'[^']*'|[^\s;,]+))+)"
)
_OPTION = re.compile(r"(leave |without )?--([a-z][a-z-]*)(?:[ =]('[^']*'|(?!(?:out|or|and|in|is)\b)[^\s;,:)]+))?")


def in_python(hint: str) -> str:
    """A hint in the words of Python; what has none there stays as it is.

    >>> in_python("go on with: convoscope train --resume runs/a")
    'go on with: convoscope.resume("runs/a")'
    >>> in_python("use --set batch_size=2 or more, or leave --feature-layer out")
    'use batch_size=2 or more, or leave feature_layer out'
    """
    if "--config" in hint:
        return hint
    hint = re.sub(r"(--set \S+) (?=--set )", r"\1, ", hint)
    return _OPTION.sub(_keyword, _COMMAND.sub(_call, hint))


def _call(match: re.Match[str]) -> str:
    command, rest = match[1], match[2]
    try:
        words = shlex.split(rest)
    except ValueError:
        return match[0]
    function = _FUNCTIONS.get(command, command)
    if words == ["--help"]:
        return f"help(convoscope.{function})"
    given: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--resume":
            function = "resume"
        elif word == "--set" and words:
            given.append(_assignment(*words.pop(0).partition("=")[::2]))
        elif word.startswith("--"):
            alone = not words or words[0].startswith("--")
            given.append(_assignment(word[2:], "True" if alone else words.pop(0)))
        else:
            given.append(_value(word))
    inside = ", ".join(given)
    return f"convoscope.{function}({f'[{inside}]' if function == 'compare' else inside})"


def _keyword(match: re.Match[str]) -> str:
    before, name, value = match[1] or "", match[2], match[3]
    if name == "resume":
        return f"{before}convoscope.resume"
    if before or value is None:
        return f"{before}{name.replace('-', '_')}" + (f" {value}" if value else "")
    if name == "set":
        return _assignment(*value.partition("=")[::2])
    return _assignment(name, value.strip("'"))


def _assignment(name: str, value: str) -> str:
    return f"{name.replace('-', '_')}={_value(value)}"


def _value(word: str) -> str:
    """A word as Python: numbers, sizes and placeholders as they are, everything else as text."""
    if re.fullmatch(r"\d+x\d+", word):
        return f"({word.replace('x', ', ')})"
    if re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?|\.\.\.|True|False", word):
        return word
    if word in ("true", "false"):
        return word.capitalize()
    if re.fullmatch(r"[A-Z]+|value", word):
        return word.lower()  # RUN, SOURCE: whatever stands for it
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
