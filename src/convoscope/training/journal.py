"""The run's growing files: events.jsonl, metrics.csv and TensorBoard's. Lines are appended and flushed.

A checkpoint remembers how long events.jsonl was. A resumed run cuts it there, so that no step stands twice and a torn last
line is dropped; metrics.csv is written anew from the checkpoint's own history.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from ..files import machine_error, write_text
from .report import COLUMNS, Row


class Journal:
    """Writes one run's events. Use as a context manager.

    Args:
        folder: the run's folder.
        history: rows of the epochs that are done.
        keep_bytes: how much of events.jsonl belongs to the checkpoint that the run goes on from.

    Raises:
        MachineError: the disk is full or the folder cannot be written to.
    """

    def __init__(self, folder: Path, history: list[Row], keep_bytes: int) -> None:
        self._folder = folder
        self._board = _Board(folder / "tensorboard")
        path = folder / "events.jsonl"
        with contextlib.ExitStack() as undo:
            try:
                # Without buffers: what a full disk refused is not tried again when the file is closed.
                self._events = undo.enter_context(path.open("ab", buffering=0))
                if self._events.tell() > keep_bytes:
                    self._events.truncate(keep_bytes)
                    self._events.seek(keep_bytes)
                write_text(folder / "metrics.csv", ",".join(COLUMNS) + "\n" + "".join(map(_csv_line, history)))
                self._metrics = undo.enter_context((folder / "metrics.csv").open("ab", buffering=0))
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

    def epoch(self, row: Row) -> None:
        """One epoch's figures."""
        self.event("epoch", **row)
        self._append(self._metrics, _csv_line(row))
        scalars: dict[str, float | None] = {
            "loss/train": row["train_loss"],
            "loss/validation": row["val_loss"],
            "accuracy/train": row["train_accuracy"],
            "accuracy/validation": row["val_accuracy"],
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

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Board:
    """TensorBoard's file. It is a view of the other two, so a disk that refuses it ends the view and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._records: Any = None

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Append the values of a step, by their tags."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        parts = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        try:
            if self._records is None:
                self._begin(step)
            self._records.write(
                Event(wall_time=time.time(), step=step, summary=Summary(value=parts)).SerializeToString()
            )
        except (OSError, ValueError):  # ValueError: it was closed
            self.close()

    def _begin(self, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        self._file = (self._folder / name).open("ab")
        self._records = RecordWriter(self._file)
        # The second record has TensorBoard drop what an earlier, killed process wrote beyond this step.
        for event in (Event(file_version="brain.Event:2"), Event(step=step, session_log={"status": 1})):
            event.wall_time = time.time()
            self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Let TensorBoard see what was added."""
        if self._file is not None:
            try:
                self._file.flush()
            except (OSError, ValueError):
                self.close()

    def close(self) -> None:
        """Close the file; what is added afterwards is dropped."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _csv_line(row: Row) -> str:
    values = (row.get(column) for column in COLUMNS)
    return ",".join("" if value is None else repr(value) for value in values) + "\n"


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a run, in order. A torn last line (a killed run) is left out."""
    events: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                events.append(json.loads(line))
    return events
