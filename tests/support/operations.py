"""Hearing which of torch's operations run."""

from collections.abc import Sequence
from typing import Any

from convoscope.models import OperationMode


class Heard(OperationMode):
    """The names of torch's operations, in the order in which they run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def operation(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        self.names.append(func._overloadpacket.__name__)
        return func(*args, **kwargs)
