"""Several reporters as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...errors import UsageError, printable
from .reporter import Reporter


class Reporters(Reporter):
    """Tells several reporters what one is told.

    The first shows the training to a person, and what it raises is raised. The others watch: one that fails is heard of
    once, as a warning, and is told nothing more. A tracker whose server has gone away ends no training.
    """

    def __init__(self, first: Reporter, others: Sequence[Reporter]) -> None:
        self.first = first
        self.others = list(others)

    def _tell(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        getattr(self.first, name)(*arguments, **options)
        for other in list(self.others):
            try:
                getattr(other, name)(*arguments, **options)
            except Exception as error:
                self.others.remove(other)
                kind = type(error).__name__
                self.first.warn(
                    f"{type(other).__name__} failed and is told no more of this: {kind}: {printable(error)[:300]}"
                )


def _telling(name: str) -> Callable[..., None]:
    def tell(self: Reporters, *arguments: Any, **options: Any) -> None:
        self._tell(name, arguments, options)

    tell.__name__ = name
    return tell


# Every method that a reporter has, also those that it will have one day.
for _name, _method in vars(Reporter).items():
    if callable(_method) and not _name.startswith("_"):
        setattr(Reporters, _name, _telling(_name))


Listening = Reporter | Sequence[Reporter] | None
"""Who listens: one reporter, several, or nobody."""


def one_reporter(given: Listening) -> Reporter:
    """All of them as one.

    Raises:
        UsageError: it is something other than reporters (`reporter-unknown`).
    """
    others = [] if given is None else [given] if isinstance(given, Reporter) else given
    if not isinstance(others, Sequence) or not all(isinstance(other, Reporter) for other in others):
        raise UsageError(
            "reporter",
            f"expected a convoscope.Reporter, or several; received {printable(repr(given))[:80]}",
            hint="for instance reporter=convoscope.trackers.MLflow()",
            code="reporter-unknown",
        )
    if len(others) == 1:
        return others[0]
    return Reporters(others[0], others[1:]) if others else Reporter()
