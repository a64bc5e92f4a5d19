"""The same training with several seeds."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from convoscope import evaluation
from convoscope.errors import Interrupted, UsageError
from convoscope.evaluation import Spread
from convoscope.training import Run, repeat, train
from tests.support.runs import Listener


def judged(run: Run) -> None:
    evaluation.test(run, invariance=False)


def repeated(output: Path, **more: Any) -> list[Run]:
    given = {"times": 3, "epochs": 1, "after": judged, **more}
    return repeat("builtin:shapes", "tiny", output=output, seed=4, **given)


def test_a_stopped_repeat_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def stopping(*arguments: Any, **options: Any) -> Run:
        begun.append(options["seed"])
        if len(begun) == 2:
            raise Interrupted("", "stopped", hint="go on", code="interrupted", signal=2)
        return train(*arguments, **options)

    monkeypatch.setattr("convoscope.training.commands.repetition.train", stopping)
    with pytest.raises(Interrupted) as caught:
        repeated(tmp_path / "out")
    assert caught.value.hint == f"go on with: the same command with --output {tmp_path / 'out'}"
    first = (tmp_path / "out" / "seed-4" / "best.safetensors").read_bytes()
    listener = Listener()
    runs = repeated(tmp_path / "out", reporter=listener)
    assert begun == [4, 5, 5, 6] and [run.settings.seed for run in runs] == [4, 5, 6]
    assert (tmp_path / "out" / "seed-4" / "best.safetensors").read_bytes() == first
    assert listener.heard("run 3 of 3, seed 6, on the split of seed 4")
    # One split, three different networks.
    assert len({(run.folder / "split.csv").read_bytes() for run in runs}) == 1
    assert len({(run.folder / "best.safetensors").read_bytes() for run in runs}) == 3

    spread = Spread.of(runs)
    scores = [evaluation.read_scores(run.folder) for run in runs]
    assert spread.accuracies == [one.accuracy for one in scores if one is not None]
    assert spread.mean == pytest.approx(sum(spread.accuracies) / 3)
    assert spread.deviation == pytest.approx(statistics.stdev(spread.accuracies))
    assert (spread.lowest, spread.highest) == (min(spread.accuracies), max(spread.accuracies))
    assert spread.sentence.startswith("3 runs, seeds 4 to 6, on one split: accuracy ")
    page = spread.write(tmp_path / "out").read_text()
    assert "The same training, 3 times" in page
    assert json.loads((tmp_path / "out" / "spread.json").read_text())["seeds"] == [4, 5, 6]

    with pytest.raises(UsageError) as other:
        repeated(tmp_path / "out", epochs=2)
    assert other.value.code == "repeat-differs"
    (runs[1].folder / "test" / "scores.json").unlink()
    with pytest.raises(UsageError) as untested:
        Spread.of(runs)
    assert untested.value.code == "spread-untested"


@pytest.mark.parametrize("times", [0, 1, 101, True, 2.5])
def test_impossible_numbers_of_runs(tmp_path: Path, times: Any) -> None:
    with pytest.raises(UsageError, match="expected 2 to 100 runs") as caught:
        repeated(tmp_path / "out", times=times)
    assert caught.value.code == "repeat-times" and not (tmp_path / "out").exists()
