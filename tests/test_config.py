"""Configuration files, `--set`, and the command line's own refusals, by their codes."""

from pathlib import Path
from typing import Any

import pytest

from convoscope.cli import app, run, unwritable
from convoscope.cli.options import read_size
from convoscope.cli.predictions import collect
from convoscope.config import read_assignments, read_config
from convoscope.errors import ConvoscopeError, UsageError


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(ConvoscopeError) as caught:
        call(*arguments)
    return caught.value.code


def command(*arguments: str) -> str:
    return code_of(lambda: app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value"))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"sed = 1", "config-invalid"),
        (b"seed = ", "config-malformed"),
        (b"\xff", "config-malformed"),
        (b"#" * 1_000_001, "config-too-large"),
    ],
    ids=["unknown key", "no TOML", "no text", "large"],
)
def test_configurations_that_cannot_be_followed(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    assert code_of(read_config, path) == code


def test_a_missing_configuration(tmp_path: Path) -> None:
    assert code_of(read_config, tmp_path / "none.toml") == "config-missing"


def test_options_and_recipe_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("source = 'x'\nseed = 3\n[recipe]\nepochs = 4\n[record]\nanything = 1\n")
    assert read_config(path) == ({"source": "x", "seed": 3}, {"epochs": 4})


def test_assignments_are_toml_values_or_text() -> None:
    pairs = ["epochs=3", "flip=true", "learning-rate=1e-3", "optimizer=sgd", "crop = 0.5"]
    assert read_assignments(pairs) == {
        "epochs": 3,
        "flip": True,
        "learning_rate": 1e-3,
        "optimizer": "sgd",
        "crop": 0.5,
    }
    assert code_of(read_assignments, ["epochs"]) == "set-malformed"
    assert code_of(read_assignments, ["epochs=1", "epochs=2"]) == "option-twice"


def test_sizes() -> None:
    assert read_size("96") == (96, 96)
    assert read_size("96x128") == (96, 128)
    for text in ("", "x", "96x", "-3", "9.5", "1x2x3x4"):
        assert code_of(read_size, text) == "size-malformed"


def test_contradictions(tmp_path: Path) -> None:
    assert command("train") == "source-missing"
    assert command("train", "--resume", str(tmp_path), "--seed", "1") == "resume-with-settings"
    assert command("train", "x", "--epochs", "1", "--set", "epochs=2") == "option-twice"
    assert command("train", "x", "--accept-data-change") == "option-without-resume"
    assert command("predict", str(tmp_path), "x", "--json", "--format", "csv") == "option-twice"


def test_a_usage_error_points_to_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--nonsense", "1"]) == 2
    assert "hint: convoscope train --help" in capsys.readouterr().err
    assert UsageError("", "x", code="usage").exit_code == 2


def test_output_that_fails_is_an_error_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convoscope import models

    assert unwritable(OSError(28, "x")).code == "output-unwritable"

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "table", fail)
    assert run(["model", "tiny"]) == 5
    assert "error: standard output: cannot be written to: No space left on device" in capsys.readouterr().err


def test_nothing_to_predict() -> None:
    assert code_of(collect, [], print) == "nothing-to-predict"


def test_a_relearned_runs_settings_train_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("source = 'x'\n[record.relearned]\nbackbone = 'imagenet'\n")
    with pytest.raises(UsageError) as caught:
        read_config(path)
    assert caught.value.code == "config-relearned"
