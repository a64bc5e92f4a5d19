"""What a notebook shows: small, safe HTML; short texts; errors with their hint; curves that grow."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convoscope
from convoscope import data, models, notebook
from convoscope.errors import DataError, Interrupted
from convoscope.training import EpochMetrics, Run, StopSignals
from convoscope.training.runs.prediction import Prediction, Predictions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = convoscope.train("builtin:lines", "tiny", epochs=3, output=tmp_path_factory.mktemp("run") / "a<b>")
    convoscope.test(run, invariance=False)
    return run


class Strict(HTMLParser):
    """Refuses scripts, addresses elsewhere, and tags that do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        for name, value in attributes:
            assert not name.startswith("on")
            assert name not in ("src", "href") or (value or "").startswith("data:image/")
        if tag not in ("img", "circle", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle", "rect", "polyline"):
            assert self.open.pop() == tag


def shown(result: Any, *, most: int = 12_000) -> str:
    """A result's HTML, checked."""
    markup: str = result._repr_html_()
    assert len(markup) < most
    assert len(repr(result)) < 1000
    parser = Strict()
    parser.feed(markup)
    parser.close()
    assert parser.open == []
    assert "url(" not in markup and "@import" not in markup
    return markup


def test_results_are_small_and_safe(run: Run) -> None:
    markup = shown(run)
    assert "a&lt;b&gt;" in markup and "<b>" not in markup.replace("<p><b>", "") and markup.count("<svg") == 2
    assert markup.count("<polyline") >= 4 + 6
    look = convoscope.look(run, np.zeros((5, 5), np.uint8))
    lines = re.sub(r"<[^>]+>", "", shown(look.why("conv1", 0, 1, 1)).partition("<pre>")[2])
    assert lines.splitlines()[0].startswith("conv1  channel 0, y 1, x 1")
    for result in (look, look.trace, models.table("small", (112, 112, 3), 10), convoscope.compare([run, run])):
        shown(result, most=20_000)
    assert "<td" in shown(convoscope.test(run, invariance=False))
    assert len(repr(run.prepared())) < 1000


def test_a_run_without_an_epoch_has_no_curves(run: Run) -> None:
    bare = Run(run.folder, run.settings, [], run.folder / "best.safetensors")
    assert "no epoch of 3 is done" in shown(bare) and "<svg" not in bare._repr_html_()
    bare.history = [
        EpochMetrics(**{**run.history[0], "val_loss": float("nan"), "val_accuracy": float("nan")}),
        *run.history[1:],
    ]
    assert "nan," not in shown(bare).partition("<svg")[2]


@pytest.mark.parametrize("count", [0, 3, 30_000])
def test_a_dataset_of_any_size(count: int) -> None:
    images = np.zeros((max(count, 4), 4, 4), np.uint8)
    dataset = data.from_arrays(images, np.arange(len(images)) % 2, [f"<i>{k}" + "x" * 400 for k in range(2)])
    dataset = dataset.select(np.arange(count))
    markup = shown(dataset)
    assert f"{count:,} image" in markup and "<i>" not in markup
    assert markup.count("<img") == min(count, 2)


def test_a_dataset_whose_images_cannot_be_read_is_still_shown(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    markup = shown(data.load(tmp_path))
    assert "cat" in markup and "<img" not in markup


def test_answers_with_their_pictures(run: Run) -> None:
    answers = run.predict(np.random.default_rng(0).integers(0, 255, (40, 5, 5), np.uint8))
    assert isinstance(answers, list)
    markup = shown(answers, most=30_000)
    assert markup.count("<img") == 24 and "and 16 more" in markup
    assert repr(answers).endswith("and 37 more]")
    assert "<table>" in shown(answers[0])


@pytest.mark.parametrize(
    ("confidence", "written"),
    [(1.0, "100&nbsp;%"), (0.99999, "99.9&nbsp;%"), (0.00001, "0.1&nbsp;%"), (0.5, "50.0&nbsp;%"), (0.0, "0&nbsp;%")],
)
def test_what_is_not_certain_is_not_shown_as_certain(confidence: float, written: str) -> None:
    answer = Prediction("a.png", "cat", confidence, {"cat": confidence, "dog": 1 - confidence}, known=False)
    assert f"<td>{written}</td>" in shown(Predictions([answer])) and f"<td>{written}</td>" in shown(answer)
    assert "not known" in repr(answer)


def test_numbers_and_labels(run: Run) -> None:
    assert "<td>3.142</td>" in shown(Prediction("a.png", "x 3.142", None, {"x": 3.14159}))
    assert "(no label)" in shown(Predictions([Prediction("a.png", "", float("nan"), {"x": float("nan")})]))


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_error_shows_its_hint_and_the_users_own_line() -> None:
    with pytest.raises(DataError) as caught:
        convoscope.load("no such folder")
    lines = caught.value._render_traceback_()
    assert lines[0].startswith("DataError: no such folder: ")
    assert lines[1].startswith("hint: ")
    assert [line for line in lines if "convoscope.load(" in line] and len(lines) == 3
    assert caught.value.__notes__ == [lines[1]]  # what Python shows in a script


def test_a_foreign_cause_is_named() -> None:
    with pytest.raises(DataError) as caught:
        try:
            raise OSError("the disk\x1b is gone")
        except OSError as error:
            raise DataError("a.png", "cannot be read", code="x") from error
    assert caught.value._render_traceback_()[-1] == "caused by OSError: the disk\\x1b is gone"


def test_an_interrupted_training_says_how_to_go_on_in_python() -> None:
    error = Interrupted("runs/a", "stopped", hint="go on with: convoscope train --resume runs/a", code="interrupted")
    assert error._render_traceback_()[1] == 'hint: go on with: convoscope.resume("runs/a")'


def test_a_second_interrupt_leaves_the_kernel_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    with pytest.raises(Interrupted, match="up to its last checkpoint") as caught, StopSignals() as signals:
        signals.defer()
        signals._on_signal(2, None)
        signals._on_signal(2, None)
    assert caught.value.code == "interrupted-twice"


def test_what_is_no_reporter() -> None:
    with pytest.raises(convoscope.ConvoscopeError, match="expected a convoscope") as caught:
        convoscope.train("builtin:lines", "tiny", reporter="mlflow")  # type: ignore[arg-type]
    assert caught.value.code == "reporter-unknown"


# --- curves that grow -------------------------------------------------------------------------------------------------


class Page:
    """Takes what is displayed, as a notebook's page does."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, shown: Any, *, display_id: bool) -> Any:
        assert display_id
        output = [shown._repr_html_()]
        self.outputs.append(output)
        return SimpleNamespace(update=lambda shown: output.append(shown._repr_html_()))


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    page = Page()
    monkeypatch.setattr(notebook, "import_module", lambda name: {"IPython.display": page}[name])
    return page


def row(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch, train_loss=1 / epoch, train_accuracy=0.5, val_loss=0.7, val_accuracy=0.6, seconds=1.0,
        learning_rate=0.1, size=5,
    )  # fmt: skip


def test_curves_grow_in_one_output(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("convoscope.notebook.time.monotonic", lambda: now[0])
    reporter = notebook.NotebookReporter()
    reporter.say("model: <tiny>")
    reporter.start(Path("runs/a"), 3)
    for epoch in (1, 2, 3):
        for step in range(1, 101):
            now[0] += 0.01
            reporter.step(epoch, step, 100, 0.5)
        reporter.epoch(row(epoch), True)
    assert "interrupt the kernel to save and stop" in page.outputs[0][-1]
    reporter.end()
    assert len(page.outputs) == 1
    updates = page.outputs[0]
    assert 6 <= len(updates) <= 9  # two a second, of 300 steps in three seconds
    assert "&lt;tiny&gt;" in updates[-1] and updates[-1].count("<svg") == 2 and "interrupt" not in updates[-1]
    assert "3 of 3 epochs" in updates[-1]
    reporter.start(Path("runs/b"), 3)
    assert len(page.outputs) == 2 and "<svg" not in page.outputs[1][0]


def test_a_page_that_is_gone_ends_nothing(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OSError("closed")

    monkeypatch.setattr(page, "display", gone)
    reporter = notebook.NotebookReporter()
    for _ in range(2):
        reporter.say("hello")
        reporter.end()


def test_outside_a_notebook_there_is_none() -> None:
    assert not notebook.in_notebook()
