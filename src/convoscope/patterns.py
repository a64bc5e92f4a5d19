"""What a user's pattern with one group in parentheses finds in many names, such as the patient of each picture.

The pattern is the user's. One that backtracks without end must not hang the program, and Python cannot stop a search
once it runs: so the names are searched in a process of its own, `python -m convoscope.patterns`, whose time is limited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from .children import own_process
from .errors import UsageError, printable

SECONDS: Final = 10.0
"""How long the search may take, and a second more for each 10,000 names."""
_MOST_CHARACTERS: Final = 1_000
_EXAMPLE: Final = r"for P017 of P017_left.jpg: --group-pattern '([^/]+)_[^/]*$'"


def groups_by_name(pattern: str, names: Sequence[str], *, seconds: float = SECONDS) -> list[str]:
    """What the pattern's group finds in each name, searched with `re.search`; empty where it finds nothing.

    Args:
        pattern: a regular expression with one group in parentheses.
        names: N paths, with `/` between folders.
        seconds: see `SECONDS`.

    Raises:
        UsageError: it is no pattern, or has not one group (`group-pattern-invalid`), finds nothing in any name
            (`group-pattern-unmatched`), or takes too long (`group-pattern-slow`).
    """
    _check(pattern)
    request = json.dumps({"pattern": pattern, "names": [name.replace("\\", "/") for name in names]})
    command, environment = own_process("convoscope.patterns")
    try:
        done = subprocess.run(
            command,
            input=request.encode(),
            capture_output=True,
            timeout=seconds + len(names) / 10_000,
            check=True,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            "--group-pattern",
            f"{printable(pattern)} takes too long: it tries too many ways to match a name",
            hint=f"repeat nothing within a repetition, such as (a+)+; {_EXAMPLE}",
            code="group-pattern-slow",
        ) from None
    groups: list[str] = json.loads(done.stdout)
    if not any(groups):
        raise UsageError(
            "--group-pattern",
            f"{printable(pattern)} finds a group in none of the names, such as {printable(names[0])}",
            hint=_EXAMPLE,
            code="group-pattern-unmatched",
        )
    return groups


def _check(pattern: str) -> None:
    """Refuse what is no pattern with one group."""
    try:
        count = re.compile(pattern).groups if len(pattern) <= _MOST_CHARACTERS else -1
        fault = "is too long" if count < 0 else f"has {count} groups in parentheses; expected one" if count != 1 else ""
    except (re.error, RecursionError, OverflowError) as error:
        fault = f"is no regular expression ({printable(error)})"
    if fault:
        hint = _EXAMPLE + ("; further parentheses are written (?:...)" if "groups in" in fault else "")
        raise UsageError(
            "--group-pattern", f"{printable(pattern)[:200]} {fault}", hint=hint, code="group-pattern-invalid"
        )


def _search() -> None:
    """The process: JSON in, `pattern` and `names`; JSON out, what the pattern's group found in each name."""
    request = json.load(sys.stdin.buffer)
    search = re.compile(request["pattern"]).search
    matches = map(search, request["names"])
    json.dump([(match[1] or "") if match else "" for match in matches], sys.stdout)


if __name__ == "__main__":
    _search()
