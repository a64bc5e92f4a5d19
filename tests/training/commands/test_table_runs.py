"""Runs of tables: how the table was read is kept, and used again by test, resume and relearn."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convoscope import evaluation
from convoscope.cli import run as command
from convoscope.config import read_config
from convoscope.errors import DataError, UsageError
from convoscope.training import Run, read_summary, relearn, resume, train
from tests.support.pictures import colourful, encoded
from tests.support.runs import Listener

FILES = 16
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "float32", "size": 8, "channels": 3}


def write_table(folder: Path, name: str, header: str, cells: str, *, start: int = 0) -> Path:
    """A table with `{row}`, `{kind}` and `{tags}` in its cells, divided by semicolons; its pictures are in `pictures/`."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = [header]
    for row in range(start, start + FILES):
        (folder / "pictures" / f"{row}.png").write_bytes(encoded(colourful(8, 8, seed=row)))
        lines.append(cells.format(row=row, kind="ab"[row % 2], tags=("x|y", "x", "y")[row % 3]))
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def labels_run(folder: Path) -> Iterator[Run]:
    """A run of a table that is not read so by itself: its pictures are in another folder, two columns could be meant."""
    path = write_table(folder, "tables/first.csv", "file;kind;tags", "pictures/{row}.png;{kind};{tags}")
    yield train(path, "flatten dense", output=folder / "labels", label_column="tags", root=folder, **QUICK)


def test_how_the_table_was_read_is_kept(labels_run: Run, folder: Path) -> None:
    table = labels_run.settings.table
    assert table is not None
    assert (table.path_column, table.label_columns, table.task) == ("file", ("tags",), "multi-label")
    assert (table.separator, table.label_separator, table.root, table.encoding) == (";", "|", str(folder), "utf-8")
    options, _ = read_config(labels_run.folder / "run.toml")
    assert options["label_column"] == ["tags"] and options["task"] == "multi-label"
    assert read_summary(labels_run.folder)[0].table == table
    assert Run.open(labels_run.folder).dataset().classes == ("x", "y")
    assert evaluation.test(Run.open(labels_run.folder), invariance=False).classes == ("x", "y")


def test_another_table_is_tested_as_the_runs_own_was_read(labels_run: Run, folder: Path) -> None:
    alone = write_table(folder, "later/second.csv", "kind;tags;file", "{kind};x;pictures/{row}.png", start=100)
    alone.write_text(alone.read_text().replace(";x;pictures/100", ";y;pictures/100"))
    scores = evaluation.test(labels_run, alone, invariance=False)
    assert (scores.images, scores.classes) == (FILES, ("x", "y"))
    assert any("the column tags is read as labels: as in the run's own table" in note for note in scores.notes)
    with pytest.raises(DataError) as caught:
        evaluation.test(labels_run, alone, label_column="kind", invariance=False)
    assert caught.value.code == "test-classes-differ"
    with pytest.raises(UsageError) as wrong:
        evaluation.test(labels_run, task="regression", invariance=False)
    assert (wrong.value.code, wrong.value.path) == ("option-without-source", "--task")


def test_the_same_again_from_its_own_settings_file_and_resumed(labels_run: Run, folder: Path) -> None:
    listener = Listener()
    assert (
        command(
            ["train", "--config", str(labels_run.folder / "run.toml"), "--output", str(folder / "again"), "--no-test"]
        )
        == 0
    )
    again = Run.open(folder / "again")
    assert again.settings.table == labels_run.settings.table
    assert resume(folder / "again", epochs=2, reporter=listener).settings.table == labels_run.settings.table


def test_what_is_added_keeps_its_own_table(folder: Path) -> None:
    own = write_table(folder, "own.csv", "file;kind;more", "pictures/{row}.png;{kind};{tags}")
    first = train(own, "conv(2) relu flatten dense", output=folder / "own", label_column="kind", **QUICK)
    new = write_table(folder, "new.csv", "picture,what,why", "pictures/{row}.png,c{kind},{kind}", start=200)
    added = relearn(first, new, add=True, label_column="what", output=folder / "added")
    assert added.classes == ("a", "b", "ca", "cb")
    (table,) = added.settings.added_tables
    assert table is not None and table.label_columns == ("what",) and table.separator == ","
    assert Run.open(added.folder).dataset().classes == added.classes
