"""Options from a TOML file and from `--set key=value`. A run's own `run.toml` can be used as it is."""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any

from .errors import UsageError, printable
from .files import machine_error, size_text
from .parsing import MOST_TOML_BYTES, parse_toml
from .suggestions import did_you_mean

_KEYS: dict[str, tuple[type, ...]] = {
    "source": (str,),
    "model": (str,),
    "seed": (int,),
    "size": (str, int),
    "channels": (int,),
    "resize": (str,),
    "minutes": (float, int),
    "layout": (str,),
    "validation": (float, int),
    "test": (float, int),
    "strict": (bool,),
    "path_column": (str,),
    "label_column": (str, list),
    "task": (str,),
    "separator": (str,),
    "label_separator": (str,),
    "root": (str,),
    "encoding": (str,),
    "group": (str,),
    "group_pattern": (str,),
    "dedupe": (bool,),
    "recipe": (dict,),
    "record": (dict,),
}
_MOST_FAULTS = 20
"""How many unknown keys a message names."""


def read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options and the recipe of a TOML file; a run's `[record]` is ignored.

    Raises:
        UsageError: the file is missing, is not TOML (with line and column), or has unknown or wrong keys;
            all are named.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_TOML_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(path, "there is no such file", code="config-missing") from None
    except OSError as error:
        raise machine_error(path, error) from error
    if len(content) > MOST_TOML_BYTES:
        reason = f"a configuration of more than {size_text(MOST_TOML_BYTES)} is not read"
        raise UsageError(path, reason, code="config-too-large")
    try:
        values = parse_toml(content)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(
            path, f"line {line}: not UTF-8 text", hint="save it as UTF-8", code="config-malformed"
        ) from None
    except ValueError as error:
        raise UsageError(
            path, f"not valid TOML: {printable(error)[:300]}", hint="see https://toml.io", code="config-malformed"
        ) from None
    record = values.get("record")
    if "relearn" in values or (isinstance(record, dict) and "relearned" in record):
        raise UsageError(
            path,
            "is the run.toml of a relearned run, whose backbone cannot be trained anew from it",
            hint="relearn again: convoscope relearn BACKBONE SOURCE",
            code="config-relearned",
        )
    own = values.pop("own", []) or (record.get("own", []) if isinstance(record, dict) else [])
    kinds = {str(each.get("kind")) for each in own if isinstance(each, dict)} if isinstance(own, list) else set()
    if kinds & {"loss", "augment", "head"}:
        raise UsageError(
            path,
            f"is that of a run with code of your own ({', '.join(sorted(kinds))}), which it names but does not hold",
            hint="train again in Python, and give it once more: convoscope.train(SOURCE, loss=...)",
            code="config-own-code",
        )
    faults: list[str] = []
    for key, value in values.items():
        if key not in _KEYS:
            if len(faults) < _MOST_FAULTS:
                meant = did_you_mean(key, _KEYS)
                faults.append(f"{printable(key)[:80]}: no such key" + (f"; {meant}" if meant else ""))
        elif not isinstance(value, _KEYS[key]) or isinstance(value, bool) != (_KEYS[key] == (bool,)):
            faults.append(
                f"{key}: expected {' or '.join(kind.__name__ for kind in _KEYS[key])}; received {reprlib.repr(value)}"
            )
    values.pop("record", None)
    recipe = values.pop("recipe", {}) if isinstance(values.get("recipe", {}), dict) else {}
    faults += _recipe_faults(recipe)
    if faults:
        raise UsageError(path, "; ".join(faults), hint="keys: " + ", ".join(_KEYS), code="config-invalid")
    return values, recipe


def _recipe_faults(recipe: dict[str, Any]) -> list[str]:
    from .training import Recipe

    try:
        Recipe.read(recipe)
    except UsageError as error:
        return [f"recipe: {error.reason}"]
    return []


def read_assignments(pairs: list[str]) -> dict[str, Any]:
    """`--set key=value ...` as a dictionary; values are TOML values, or text where they are not.

    Raises:
        UsageError: a pair has no `=`, or a key comes twice.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise UsageError("--set", f"expected key=value; received {printable(pair)}", code="set-malformed")
        if key in result:
            raise UsageError("--set", f"{key} is given twice: {result[key]} and {printable(text)}", code="option-twice")
        try:
            result[key] = parse_toml(f"value = {text}".encode("utf-8", "surrogateescape"))["value"]
        except ValueError:
            result[key] = text.strip()
    return result
