"""What `convoscope predict` writes, and when: columns, batches, signals, readers that go away. The answers are made up."""

import csv
import io
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convoscope.cli import run as cli
from convoscope.cli.app import app
from convoscope.cli.prediction_writers import CsvWriter
from convoscope.data import Skipped, escape_cell
from convoscope.errors import ConvoscopeError, MachineError
from convoscope.posix import has_reader
from convoscope.training import Prediction, Run

RESERVED = (
    "unknown",
    "label",
    "path",
    "confidence",
    "distance",
    "known",
    "score label",
    "next",
    "=1+1",
    "a\nb",
    "a\\nb",
)


class MadeUpRun:
    """Knows images by their numbers: 7.png is of class 7 modulo K, and from 100 on they are not known."""

    task = "classification"

    def __init__(self, classes: Sequence[str] = ("cat", "dog"), detector: bool = True) -> None:
        self.classes = tuple(classes)
        self.detector = detector
        self.batches: list[int] = []
        self.at: dict[int, Callable[[], object]] = {}

    def ood_detector(self) -> object | None:
        return SimpleNamespace(threshold=0.5) if self.detector else None

    def answer(self, path: str) -> Prediction:
        number = int(Path(path).stem)
        scores = {name: 0.9 if k == number % len(self.classes) else 0.01 for k, name in enumerate(self.classes)}
        label = max(scores, key=lambda name: scores[name])
        far = (0.6 if number >= 100 else 0.1, number < 100) if self.detector else (None, None)
        return Prediction(path, label, scores[label], scores, *far)

    def predict(self, images: Sequence[str], *, skipped: list[Skipped], done: list[Prediction]) -> None:
        self.batches.append(len(images))
        for path in images:
            self.at.get(int(Path(path).stem), lambda: None)()
            if Path(path).read_bytes() == b"bad":
                skipped.append(Skipped(path, "is no picture"))
            else:
                done.append(self.answer(path))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """150 images, of which 040.png is bad."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    for number in range(150):
        (tmp_path / "new" / f"{number:03}.png").write_bytes(b"bad" if number == 40 else b"good")
    return tmp_path / "new"


@pytest.fixture
def asked(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command; gives the exit code, standard output and standard error."""

    def ask(made_up: MadeUpRun, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(Run, "open", lambda _, **__: made_up)
        code = cli(["predict", "run", "new", *options])
        told = capsys.readouterr()
        return code, told.out, told.err

    return ask


def refusal(*options: str) -> str:
    """The code of the error with which the command ends that was asked last."""
    with pytest.raises(ConvoscopeError) as caught:
        app(["predict", "run", "new", *options], exit_on_error=False, print_error=False, result_action="return_value")
    return caught.value.code


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", [True, False])
def test_classes_that_are_called_like_columns(asked: Callable[..., Any], detector: bool) -> None:
    made_up = MadeUpRun(RESERVED, detector)
    code, out, _ = asked(made_up, "--format", "csv")
    assert code == 0
    header = next(csv.reader(io.StringIO(out)))
    own = ["path", "label", "confidence", *(["distance", "known"] if detector else [])]
    assert header[: len(own)] == own
    assert header[len(own) :] == [escape_cell(f"score {name}") for name in RESERVED]
    assert len(set(header)) == len(header)
    for line in lines_of(out):
        wanted = made_up.answer(line["path"])
        assert line["label"] == escape_cell(wanted.label) and float(line["score label"]) == wanted.scores["label"]
        assert float(line["confidence"]) == 0.9
        assert not detector or line["known"] == ("yes" if wanted.known else "no")
    told = json.loads(asked(made_up, "--json")[1])
    assert [escape_cell(answer["label"]) for answer in told] == [line["label"] for line in lines_of(out)]
    assert all(("known" in answer) == detector for answer in told)
    assert told[0]["scores"] == made_up.answer("new/000.png").scores


def test_columns_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    made_up: Any = SimpleNamespace(classes=("age", "label"), task="regression", ood_detector=lambda: None)
    CsvWriter(made_up, header=True).begin()
    assert capsys.readouterr().out == "path,label,confidence,predicted age,predicted label\n"


def test_unknown_takes_the_labels_place_where_asked_for(asked: Callable[..., Any]) -> None:
    _, out, _ = asked(MadeUpRun(), "--format", "csv", "--unknown")
    for line in lines_of(out):
        number = int(Path(line["path"]).stem)
        assert line["label"] == ("unknown" if number >= 100 else ("cat", "dog")[number % 2])
        assert (line["known"], line["confidence"]) == ("no" if number >= 100 else "yes", "0.9")


def test_unknown_is_refused_where_it_would_mean_nothing_or_two_things(asked: Callable[..., Any]) -> None:
    code, _, err = asked(MadeUpRun(detector=False), "--unknown")
    assert code == 2 and "--unknown: run has no out-of-distribution detector" in err
    assert refusal("--unknown") == "unknown-without-detector"
    code, _, err = asked(MadeUpRun(("unknown", "cat")), "--unknown")
    assert code == 2 and "--unknown: run has a class called unknown" in err and "hint: leave it out" in err
    assert refusal("--unknown") == "unknown-is-a-class"


def test_the_batches_of_a_table_are_one_table(asked: Callable[..., Any]) -> None:
    """Its columns stay where they are, and its header is printed once."""
    code, out, _ = asked(MadeUpRun())
    lines = out.splitlines()
    assert code == 0 and len(lines) == 2 + 149
    assert lines[0].split() == ["image", "label", "confidence", "distance", "known", "next"]
    place = lines[0].index("known")
    assert [line[place:].split()[0] for line in lines[2:]] == ["yes"] * 99 + ["no"] * 50
    assert {line.index("dog" if int(line[4:7]) % 2 else "cat") for line in lines[2:]} == {lines[0].index("label")}


# --- batches -----------------------------------------------------------------------------------------------------------


def test_answers_are_written_as_they_come(asked: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    made_up = MadeUpRun()
    so_far: list[str] = []
    made_up.at = {140: lambda: so_far.extend(capsys.readouterr())}
    _, rest, _ = asked(made_up, "--format", "csv")
    assert made_up.batches == [32, 32, 32, 32, 22]
    out, err = so_far
    assert [int(Path(line["path"]).stem) for line in lines_of(out)] == [k for k in range(128) if k != 40]
    assert [int(Path(line["path"]).stem) for line in lines_of(out + rest)] == [k for k in range(150) if k != 40]
    assert err.count("skipped: new/040.png: is no picture") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("form", ["csv", "json"])
def test_interrupted_it_has_written_what_is_done_and_can_go_on(
    asked: Callable[..., Any], number: int, code: int, form: str
) -> None:
    made_up = MadeUpRun()
    made_up.at = {70: lambda: os.kill(os.getpid(), number)}
    ended, out, err = asked(made_up, "--format", form)
    assert ended == code
    assert "error: stopped; 96 of 150 images are done, and their answers are written" in err
    assert f"hint: go on with: convoscope predict run new --format {form} --after new/095.png" in err
    made_up.at = {}
    ended, rest, err = asked(made_up, "--format", form, "--after", "new/095.png")
    assert ended == 0 and "skipped" not in err
    if form == "csv":
        paths = [line["path"] for line in lines_of(out + rest)]
    else:
        paths = [answer["path"] for answer in json.loads(out) + json.loads(rest)]
    assert paths == [f"new/{k:03}.png" for k in range(150) if k != 40]


def test_after_an_image_that_is_not_there(asked: Callable[..., Any]) -> None:
    code, _, err = asked(MadeUpRun(), "--after", "new/999.png")
    assert code == 2 and "error: --after: new/999.png is not one of the 150 images" in err
    assert refusal("--after", "new/999.png") == "after-unknown"
    assert asked(MadeUpRun(), "--after", "new/149.png", "--json")[:2] == (0, "[]\n")


def test_a_machine_that_fails_ends_it_with_what_is_done(asked: Callable[..., Any]) -> None:
    def fail() -> None:
        raise MachineError("new", "the disk is gone", code="unreadable")

    made_up = MadeUpRun()
    made_up.at = {70: fail}
    code, out, err = asked(made_up, "--json")
    assert code == 5 and "the disk is gone" in err
    assert len(json.loads(out)) == 69


def test_it_ends_when_its_reader_has_gone(asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr("convoscope.cli.predict.reader_gone", lambda: not has_reader(writing))
    made_up = MadeUpRun()
    made_up.at = {40: lambda: os.close(reading)}
    code, _, err = asked(made_up, "--format", "csv")
    os.close(writing)
    assert code == 0 and "error" not in err
    assert made_up.batches == [32, 32]
