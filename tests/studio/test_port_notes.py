"""Notes of which studio has which port."""

import os
from pathlib import Path

from convoscope.studio.port_notes import noted, running


def test_a_note_of_a_dead_studio_is_no_note(runtime: Path, tmp_path: Path) -> None:
    with noted(4711, tmp_path):
        assert running(4711) == {"pid": os.getpid(), "runs": str(tmp_path), "url": "http://127.0.0.1:4711/"}
        (note,) = runtime.rglob("*.json")
        content = note.read_text()
    assert running(4711) is None
    note.write_text(content)  # left by a killed one: nobody holds its lock
    assert running(4711) is None
    with noted(4711, tmp_path / "other"):
        assert running(4711) is not None


def test_a_note_that_is_damaged_or_anothers_is_no_note(runtime: Path, tmp_path: Path) -> None:
    with noted(4711, tmp_path):
        (note,) = runtime.rglob("*.json")
        for content in ("", "[]", "7", "{", '{"pid": 1}', "\xff"):
            note.write_text(content)
            assert running(4711) is None
    note.parent.chmod(0o777)
    with noted(4711, tmp_path):
        assert running(4711) is None
        assert not note.exists()


def test_without_a_place_for_notes_it_goes_without(runtime: Path, tmp_path: Path) -> None:
    (runtime / "convoscope").write_text("in the way")
    with noted(4711, tmp_path):
        assert running(4711) is None
