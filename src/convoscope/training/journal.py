"""The run's growing files: events.jsonl, metrics.csv and TensorBoard's. Lines are appended and flushed.

A checkpoint remembers how long events.jsonl was. A resumed run cuts it there, so that no step stands twice and a torn last
line is dropped; metrics.csv is written anew from the checkpoint's own history.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        self._board: Any = None
        path = folder / "events.jsonl"
        try:
            self._events = path.open("ab")
            if self._events.tell() > keep_bytes:
                self._events.truncate(keep_bytes)
                self._events.seek(keep_bytes)
            write_text(folder / "metrics.csv", ",".join(COLUMNS) + "\n" + "".join(map(_csv_line, history)))
            self._metrics = (folder / "metrics.csv").open("ab")
        except OSError as error:
            raise machine_error(path, error) from error

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
        self._scalars({"step/loss": loss, "step/learning_rate": rate}, step)

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
        self._scalars({tag: value for tag, value in scalars.items() if value is not None}, row["epoch"])

    def _append(self, file: Any, line: str) -> None:
        try:
            file.write(line.encode())
            file.flush()
        except OSError as error:
            raise machine_error(self._folder / "events.jsonl", error) from error

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._board is None:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            # TensorBoard drops what an earlier, killed process wrote beyond a restart's first step.
            self._board = EventFileWriter(str(self._folder / "tensorboard"), flush_secs=10)
            self._board.add_event(Event(wall_time=time.time(), step=step, session_log={"status": 1}))
        parts = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._board.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=parts)))

    def close(self) -> None:
        """Flush and close all files."""
        self._events.close()
        self._metrics.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
