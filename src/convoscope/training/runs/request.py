"""What a run was asked for. It is the run's `run.toml` until everything is decided, so that a run that is killed before
that can begin anew.
"""

from __future__ import annotations

import contextlib
import numbers
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...files import write_text
from ...parsing import faults_of, read_toml
from ..core.hooks import OwnCode
from .folder import claimed, drop_if_unbegun, new_folder, toml_text
from .settings import Text, impossible

if TYPE_CHECKING:
    from torch import nn

    from ...models import ModuleMaker


class Request(BaseModel):
    """What `train` or `relearn` was asked for: its arguments, without those that were left out.

    Further ones say how a table is read. The file can be given to `train --config` as well.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    source: Text
    seed: int = Field(0, ge=0, lt=2**63)
    layout: Text | None = None
    validation: float | None = None
    test: float | None = None
    strict: bool | None = None
    model: Text | None = None
    size: str | None = Field(None, pattern=r"^\d{1,5}x\d{1,5}$")
    channels: int | None = None
    resize: Literal["fit", "crop", "stretch"] | None = None
    minutes: float | None = Field(None, gt=0)
    recipe: dict[str, Any] = {}
    own: Annotated[tuple[OwnCode, ...], Field(max_length=100)] = ()
    """The user's own code that it was asked to use, by name."""
    relearn: dict[str, Any] | None = None
    """The backbone and the choices of `relearn`; None: this is a training."""

    @classmethod
    def of(cls, source: str, seed: int, reading: Mapping[str, Any], recipe: Mapping[str, Any], **more: Any) -> Self:
        """Those of a new run.

        Args:
            source: where its images are, valid from any working folder.
            seed: of the run.
            reading: how they are read.
            recipe: the settings that were named.
            **more: the other fields.
        """
        root = reading.get("root")
        values = {**reading, **({} if root is None else {"root": Path(root).absolute()})}
        return cls(source=source, seed=seed, recipe=_plain(recipe), **_plain(values), **_plain(more))

    @classmethod
    def read(cls, folder: Path) -> Request | None:
        """That of a run that ended before everything was decided; None of one where it was.

        Raises:
            ModelFileError: its run.toml cannot be read (`settings-unreadable`).
        """
        path = folder / "run.toml"
        try:
            values = read_toml(path)
            return None if "record" in values else cls.model_validate(values)
        except ValidationError as error:
            raise impossible(path, f"it cannot be read: {faults_of(error)}") from None
        except (OSError, ValueError) as error:
            raise impossible(path, f"it cannot be read: {str(error)[:300]}") from None

    @property
    def reading(self) -> dict[str, Any]:
        """How the images are read."""
        own = {name: getattr(self, name) for name in ("layout", "validation", "test", "strict")}
        return {name: value for name, value in own.items() if value is not None} | (self.model_extra or {})

    @property
    def sides(self) -> tuple[int, int] | None:
        """The height and width of the network's input, if they were named."""
        if self.size is None:
            return None
        height, width = self.size.split("x")
        return int(height), int(width)

    def write(self, folder: Path) -> None:
        """Write it as the run's `run.toml`."""
        content = self.model_dump(mode="json", exclude_none=True)
        write_text(folder / "run.toml", toml_text({key: value for key, value in content.items() if value != []}))


@contextlib.contextmanager
def begun(
    request: Request | None,
    output: str | os.PathLike[str] | None,
    source: str,
    named: str | nn.Module | ModuleMaker,
    *,
    tidy: Callable[[Path], None] = drop_if_unbegun,
) -> Iterator[Path]:
    """A new run's folder, claimed while this is open, with what was asked for in it.

    Args:
        request: what was asked for; None: it cannot be written down, as it is in memory.
        output, source, named: see `new_folder`.
        tidy: what becomes of the folder after an error.
    """
    folder = new_folder(output, source, named)
    with claimed(folder, tidy):
        if request is not None:
            request.write(folder)
        yield folder


@contextlib.contextmanager
def begun_anew(folder: Path) -> Iterator[Path]:
    """The folder of a run that begins anew, claimed while this is open. After an error it stays as it is."""
    with claimed(folder, lambda _: None):
        yield folder


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as TOML can hold them, without those that were left out."""
    return {name: _plain_value(value) for name, value in values.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    if isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else os.fspath(value)
