"""The run's growing files: events.jsonl, metrics.csv and TensorBoard's. Lines are appended and flushed.

A checkpoint remembers how long events.jsonl was. A resumed run cuts it there, so that no step is in it twice and a torn
last line is dropped; metrics.csv is written anew from the checkpoint's own history. Still, whole lines of epochs that
are done stay, whatever the checkpoint says, and a file that does not begin as an event log is left as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import MachineError, ModelFileError, printable, shell_word
from ...files import machine_error, make_own_folder, open_own, write_text
from .reporter import EpochMetrics, csv_columns, csv_values
from .tensorboard_file import RecordFile, event_bytes, first_events, scalar


class EventLog:
    """Writes one run's events. Use as a context manager.

    Args:
        folder: the run's folder.
        history: rows of the epochs that are done.
        keep_bytes: how much of events.jsonl belongs to the checkpoint that the run goes on from.
        metrics: the names of the user's own, of which each epoch has a figure.

    Raises:
        MachineError: the disk is full, the folder cannot be written to, or something there is not a plain file.
        ModelFileError: events.jsonl is something else (`events-foreign`).
    """

    def __init__(self, folder: Path, history: list[EpochMetrics], keep_bytes: int, metrics: Sequence[str] = ()) -> None:
        self._folder = folder
        self._columns = csv_columns(history, metrics)
        self._board = _Board(folder / "tensorboard")
        path = folder / "events.jsonl"
        with contextlib.ExitStack() as undo:
            try:
                # Without buffers: what a full disk refused is not tried again when the file is closed.
                self._events = undo.enter_context(open(path, "a+b", buffering=0, opener=open_own))
                self._events.truncate(
                    _length_to_keep(path, self._events, keep_bytes, history[-1]["epoch"] if history else 0)
                )
                self._events.seek(0, os.SEEK_END)
                table = [",".join(self._columns) + "\n", *(_csv_line(row, self._columns) for row in history)]
                write_text(folder / "metrics.csv", "".join(table))
                self._metrics = undo.enter_context(open(folder / "metrics.csv", "ab", buffering=0, opener=open_own))
            except OSError as error:
                raise machine_error(path, error) from error
            undo.pop_all()

    @property
    def bytes_written(self) -> int:
        """The length of events.jsonl."""
        return self._events.tell()

    def event(self, kind: str, **values: Any) -> None:
        """Append one JSON object: its kind, the time, and the values."""
        line = json.dumps({"event": kind, "time": round(time.time(), 3), **values}, ensure_ascii=False) + "\n"
        self._append(self._events, line)

    def step(self, step: int, epoch: int, loss: float, rate: float) -> None:
        """One step's loss; `step` counts from 1 over the whole training."""
        self.event("step", step=step, epoch=epoch, loss=loss, learning_rate=rate)
        self._board.add({"step/loss": loss, "step/learning_rate": rate}, step)

    def epoch(self, row: EpochMetrics) -> None:
        """One epoch's figures."""
        self.event("epoch", **row)
        self._append(self._metrics, _csv_line(row, self._columns))
        scalars: dict[str, float | None] = {
            "loss/train": row["train_loss"],
            "loss/validation": row["val_loss"],
            "accuracy/train": row["train_accuracy"],
            "accuracy/validation": row["val_accuracy"],
            **{f"{name}/validation": value for name, value in row.get("metrics", {}).items()},
        }
        self._board.add({tag: value for tag, value in scalars.items() if value is not None}, row["epoch"])
        self._board.flush()

    def _append(self, file: FileIO, line: str) -> None:
        data = memoryview(line.encode())
        try:
            while data:
                data = data[file.write(data) :]
        except OSError as error:
            raise machine_error(self._folder / "events.jsonl", error) from error

    def close(self) -> None:
        """Close all files."""
        self._events.close()
        self._metrics.close()
        self._board.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Board:
    """TensorBoard's file. It is a view of the other two, so a disk that refuses it ends the view, with a warning, and
    nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._records: RecordFile | None = None
        self._ended = False

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Append the values of a step, by their tags."""
        if self._ended:
            return
        try:
            records = self._records or self._begin(step)
            records.write(event_bytes(time.time(), step, *(scalar(tag, value) for tag, value in values.items())))
        except (OSError, MachineError) as error:
            self._end(error)

    def _begin(self, step: int) -> RecordFile:
        make_own_folder(self._folder)
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._file = open(self._folder / name, "ab", opener=open_own)  # noqa: SIM115
        self._records = RecordFile(self._file)
        for event in first_events(time.time(), step):
            self._records.write(event)
        return self._records

    def flush(self) -> None:
        """Let TensorBoard see what was added."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError as error:
                self._end(error)

    def close(self) -> None:
        """Close the file; what is added afterwards is dropped."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._end(error)
        self._ended = True

    def _end(self, error: OSError | MachineError) -> None:
        if not self._ended:
            self._ended = True
            reason = error.reason if isinstance(error, MachineError) else machine_error(self._folder, error).reason
            warnings.warn(f"{printable(self._folder)}: TensorBoard's curves end here: {reason}", stacklevel=2)
        self.close()


def _csv_line(row: EpochMetrics, columns: Sequence[str]) -> str:
    return ",".join("" if value is None else repr(value) for value in csv_values(row, columns)) + "\n"


_BEGINNING = b'{"event": '
_LONGEST_LINE = 1_000_000


def _length_to_keep(path: Path, events: FileIO, keep_bytes: int, epochs: int) -> int:
    """How much of events.jsonl stays: its whole lines up to `keep_bytes`, and in any case those of the epochs that are
    done.
    """
    position = end = 0
    with open(events.fileno(), "rb", closefd=False) as file:
        file.seek(0)
        if not _BEGINNING.startswith(file.read(len(_BEGINNING))):
            raise ModelFileError(
                path,
                "holds something other than a run's events, and is left as it is",
                hint=f"if it is of no use to you: rm {shell_word(path)}",
                code="events-foreign",
            )
        file.seek(0)
        while line := file.readline(_LONGEST_LINE):
            position += len(line)
            if line.endswith(b"\n") and (position <= keep_bytes or _is_done(line, epochs)):
                end = position
    return end


def _is_done(line: bytes, epochs: int) -> bool:
    """Whether it is an event of one of the first `epochs` epochs."""
    try:
        event = json.loads(line)
        return event["event"] in ("step", "epoch") and 1 <= event["epoch"] <= epochs
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
