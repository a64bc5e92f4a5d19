"""The command line as a user and a script meet it: output, exit codes, messages."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convoscope.cli import run as cli
from convoscope.cli.finish import evaluate
from convoscope.errors import ConvoscopeError, DataError, Interrupted, InUseError, MachineError, ModelFileError
from convoscope.training import Reporter, Run
from tests.support.pictures import encoded, jpeg

MODEL = "conv(8) norm relu maxpool conv(8) relu globalavg dense"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two class folders of 60 pictures with lying and standing bars."""
    root = tmp_path_factory.mktemp("data") / "bars"
    rng = np.random.default_rng(0)
    for name in ("lying", "standing"):
        (root / name).mkdir(parents=True)
        for number in range(60):
            picture = rng.integers(0, 60, (12, 12), dtype=np.uint8)
            place = int(rng.integers(1, 10))
            if name == "lying":
                picture[place : place + 2] = 230
            else:
                picture[:, place : place + 2] = 230
            Image.fromarray(picture).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained and tested by the command."""
    folder = tmp_path_factory.mktemp("runs") / "bars"
    code = cli(
        [
            "train",
            str(pictures),
            "--model",
            MODEL,
            "--epochs",
            "6",
            "--set",
            "learning_rate=0.03",
            "--set",
            "batch_size=16",
            "--output",
            str(folder),
        ]
    )
    assert code == 0
    return folder


def value_of(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Any:
    """What a command with --json prints; nothing else may stand on standard output."""
    capsys.readouterr()
    code = cli(arguments)
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """The exit code and the message; standard output stays empty and there is no traceback."""
    capsys.readouterr()
    code = cli(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.lstrip().startswith("error: ") or "\nerror: " in captured.err
    return code, captured.err


def test_help_names_the_commands_and_imports_nothing_heavy() -> None:
    result = subprocess.run([sys.executable, "-m", "convoscope", "--help"], capture_output=True, text=True, check=True)
    for command in ("data", "model", "train", "test", "predict", "compare"):
        assert command in result.stdout
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "convoscope", "--help"], capture_output=True, text=True, check=True
    ).stderr
    for heavy in ("torch", "numpy", "PIL", "pydantic", "timm", "matplotlib"):
        assert f" {heavy}\n" not in imported, f"--help imports {heavy}"


@pytest.mark.parametrize("command", ["data", "model", "train", "relearn", "test", "predict", "compare", "look"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "--json" in text
    for line in text.splitlines():  # each argument and option says what it is
        if line.startswith(("│ --", "│ *  ")):
            assert len(line.strip("│ ").split("  ")) > 1, line


def test_help_lists_what_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    from convoscope.data import LAYOUTS
    from convoscope.models import PRESETS
    from convoscope.training import Recipe

    def words_of(command: str) -> list[str]:
        assert cli([command, "--help"]) == 0
        return re.findall(r"[\w:-]+", capsys.readouterr().out.replace("│", " "))

    training, data, model = words_of("train"), words_of("data"), words_of("model")
    assert [setting for setting in Recipe.model_fields if setting not in training] == []
    for words in (training, data):
        assert [layout for layout in LAYOUTS if layout != "auto" and layout not in words] == []
    assert [preset for preset in PRESETS if preset not in model] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"


def test_model_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = value_of(capsys, ["model", "fashion", "--input", "28x28x1", "--classes", "10", "--json"])
    assert value["parameters"] == 421_642
    assert {"parameters", "multiply_adds", "layers"} <= value.keys()
    for layer in value["layers"]:
        assert {"name", "kind", "output", "parameters", "multiply_adds", "receptive_field"} <= layer.keys()
    assert value_of(capsys, ["model", "tiny", "--json"])["parameters"] == 19


def test_model_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["model", "fashion", "--input", "28x28x1", "--classes", "10"]) == 0
    text = capsys.readouterr().out
    assert "3x3x32x64 + 64" in text
    assert "421,642 parameters" in text


def test_data_json(pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    value = value_of(capsys, ["data", str(pictures), "--json", "--sheet", str(tmp_path / "sheet.png")])
    assert value["classes"] == ["lying", "standing"]
    assert sum(counts["lying"] for counts in value["counts"].values()) == 60
    assert {"layout", "classes", "counts", "skipped", "duplicates", "leaks"} <= value.keys()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 200


def test_data_table(pictures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli(["data", str(pictures), "--sheet", str(tmp_path / "sheet.png")]) == 0
    text = capsys.readouterr().out
    assert "lying" in text
    assert "sheet.png" in text


def test_data_lists_every_bad_file_above_all_where_there_are_too_many(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pictures, "some")
    for number in range(20):
        (tmp_path / "some" / "lying" / f"{number}.png").write_bytes(b"%PDF-1.7")
    shutil.copytree(pictures, "all")
    for path in (tmp_path / "all").rglob("*.png"):
        path.write_bytes(b"%PDF-1.7")
    for name, count, words in (
        ("some", 20, "more than 10%"),
        ("all", 120, "none of the 96 images looked at can be decoded"),
    ):
        capsys.readouterr()
        assert cli(["data", name, "--json"]) == 3
        captured = capsys.readouterr()
        value = json.loads(captured.out)
        assert len(value["skipped"]) == count
        assert value["contact_sheet"] is None
        assert f"error: {name}: " in captured.err
        assert words in captured.err
        assert cli(["data", name]) == 3
        assert "lying/0.png: is a PDF document" in capsys.readouterr().out
    assert not (tmp_path / "contact-sheets").exists()


def test_nothing_is_put_among_the_images(
    pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """contact-sheets/ and runs/ would be two more classes for the next command."""
    before = sorted(pictures.rglob("*"))
    monkeypatch.chdir(pictures)
    assert value_of(capsys, ["data", ".", "--json"])["contact_sheet"] is None
    assert cli(["data", "."]) == 0
    assert (
        "no contact sheet: it would be among the images; choose another place with --sheet FILE.png"
        in capsys.readouterr().out
    )
    code, message = refused(capsys, ["train", "."])
    assert code == 2
    assert "error: runs: the run would be inside the data\nhint: choose another place: --output FOLDER" in message
    assert sorted(pictures.rglob("*")) == before


def test_train_tests_and_reports(trained: Path) -> None:
    assert (trained / "report.html").is_file()
    scores = json.loads((trained / "test" / "scores.json").read_text("utf-8"))
    assert {"accuracy", "loss", "classes", "per_class", "confusion", "invariance"} <= scores.keys()
    assert scores["accuracy"] > 0.8


def test_train_json(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = value_of(
        capsys, ["train", str(pictures), "--model", MODEL, "--epochs", "1", "--output", str(tmp_path / "run"), "--json"]
    )
    assert set(value) == {"run", "best_epoch", "val_accuracy", "seconds"}
    assert value["run"] == str(tmp_path / "run")
    assert value["best_epoch"] == 1


def test_train_without_a_terminal_prints_a_line_an_epoch(pictures: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "convoscope", "train", str(pictures), "--model", MODEL, "--epochs", "3", "--output", str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.split()[1] for line in result.stderr.splitlines() if line.startswith("epoch ")] == [
        "1/3",
        "2/3",
        "3/3",
    ]
    assert "\x1b" not in result.stderr + result.stdout
    assert f"report: {tmp_path / 'run' / 'report.html'}" in result.stdout


def test_runs_get_names_of_their_own(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["train", str(pictures), "--model", "tiny", "--size", "5", "--epochs", "1", "--no-test", "--json"]
    names = [value_of(capsys, arguments)["run"] for _ in range(2)]
    assert names == ["runs/bars-tiny-1", "runs/bars-tiny-2"]


def test_a_runs_toml_trains_the_same_again(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "again"
    value_of(capsys, ["train", "--config", str(trained / "run.toml"), "--output", str(copy), "--no-test", "--json"])
    one, two = (tomllib.loads((folder / "run.toml").read_text("utf-8")) for folder in (trained, copy))
    assert one["recipe"] == two["recipe"]
    assert [line.split(",")[:5] for line in (copy / "metrics.csv").read_text().splitlines()] == [
        line.split(",")[:5] for line in (trained / "metrics.csv").read_text().splitlines()
    ]


def test_the_command_line_overrules_the_file_and_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "train",
        "--config",
        str(trained / "run.toml"),
        "--epochs",
        "2",
        "--output",
        str(tmp_path / "run"),
        "--no-test",
    ]
    assert cli(arguments) == 0
    assert "recipe.epochs: the command line overrides" in capsys.readouterr().err
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3


def test_images_that_go_away_while_a_network_learns_do_not_hide_that_it_has(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.terminal import TerminalReporter

    share, away, folder = tmp_path / "share", tmp_path / "away", tmp_path / "run"
    shutil.copytree(pictures, share)
    with monkeypatch.context() as patch:
        patch.setattr(TerminalReporter, "epoch", lambda *_: share.rename(away))
        code, said = refused(capsys, ["train", str(share), "--model", MODEL, "--epochs", "1", "--output", str(folder)])
    assert code == 5
    assert (
        f"error: {folder}: the training is done and saved, but its test or its report failed: {share}: there is no such file"
        in said
    )
    assert f"hint: fix that, then test it with: convoscope test {folder}" in said
    away.rename(share)
    assert cli(["test", str(folder)]) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelFileError("run", "expected finite answers", code="scores-not-finite"), "scores-not-finite"),
        (ModelFileError("run/best.safetensors", "there is no such file or run", code="checkpoint-missing"), "untested"),
        (MachineError("run/test/.lock", "the disk is full", code="disk-full"), "untested"),
        (DataError("photos", "the folder is empty", code="data-empty"), "untested"),
        (InUseError("run/test", "in use by process 1", code="folder-in-use"), "folder-in-use"),
    ],
)
def test_a_test_after_a_training_says_that_the_training_is_saved(
    trained: Path, monkeypatch: pytest.MonkeyPatch, error: ConvoscopeError, code: str
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("convoscope.evaluation.test", broken)
    with pytest.raises(ConvoscopeError) as caught:
        evaluate(Run.open(trained), Reporter(), quiet=True)
    assert caught.value.code == code
    if code == "untested":
        assert caught.value.exit_code == 5
        assert caught.value.reason == f"the training is done and saved, but its test or its report failed: {error}"


def test_a_test_after_a_training_that_is_interrupted_says_that_the_training_is_saved(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convoscope.evaluation.test", interrupted)
    with pytest.raises(Interrupted) as caught:
        evaluate(Run.open(trained), Reporter(), quiet=True)
    assert (caught.value.code, caught.value.exit_code) == ("interrupted-test", 130)
    assert caught.value.reason == "the training is done and saved; its test was interrupted"
    assert caught.value.hint == f"test it with: convoscope test {trained}"


def test_resume(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    value = value_of(capsys, ["train", "--resume", str(folder), "--epochs", "8", "--json"])
    assert value["run"] == str(folder)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 9
    arguments = ["train", str(trained), "--resume", str(folder), "--seed", "3", "--device", "cpu", "--set", "flip=true"]
    code, message = refused(capsys, arguments)
    assert code == 2
    assert "received SOURCE, --seed, --device, --set flip as well" in message
    capsys.readouterr()
    assert cli(["train", "--resume", str(folder), "--no-test"]) == 0
    assert "all its 8 epochs are done; --epochs 16 would go on to twice as many" in capsys.readouterr().err


def test_test_json(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = value_of(capsys, ["test", str(trained), "--json"])
    assert value["classes"] == ["lying", "standing"]
    assert value == json.loads((trained / "test" / "scores.json").read_text("utf-8"))


def test_predict_as_table_csv_and_json(trained: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(pictures / "lying" / "3.png")
    value = value_of(capsys, ["predict", str(trained), image, "--json"])
    assert set(value[0]) == {"path", "label", "confidence", "scores"}
    assert value[0]["label"] == "lying"
    assert value[0]["confidence"] == max(value[0]["scores"].values())
    assert cli(["predict", str(trained), image, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0]["path"] == image
    assert float(rows[0]["score lying"]) == pytest.approx(value[0]["scores"]["lying"], rel=1e-4)
    assert cli(["predict", str(trained), image]) == 0
    assert "lying" in capsys.readouterr().out


def test_predict_takes_folders_patterns_and_a_list(
    trained: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(value_of(capsys, ["predict", str(trained), str(pictures), "--json"])) == 120
    assert len(value_of(capsys, ["predict", str(trained), str(pictures / "lying" / "1*.png"), "--json"])) == 11

    class Input:
        buffer = io.BytesIO(
            b"\n".join(os.fsencode(pictures / "lying" / f"{number}.png") for number in range(3)) + b"\n"
        )

    monkeypatch.setattr(sys, "stdin", Input)
    assert len(value_of(capsys, ["predict", str(trained), "-", "--json"])) == 3


def test_predict_reads_a_folder_as_training_does_and_names_what_it_leaves_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, folder = jpeg(20, 20), tmp_path / "from a phone"
    names = ("old.jpe", "deep/er/a.JPG", "@eaDir/a.jpg", ".thumbnails/a.jpg", "__MACOSX/a.jpg", "._a.jpg", "notes.txt")
    for name in (*names, "a.jpg:Zone.Identifier"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo)
    (folder / "scan.tif").write_bytes(encoded(Image.new("RGB", (9, 9)), "TIFF"))
    (folder / "out.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    (tmp_path / "elsewhere.jpg").write_bytes(photo)
    capsys.readouterr()
    assert cli(["predict", str(trained), str(folder), "--json"]) == 0
    captured = capsys.readouterr()
    assert [Path(row["path"]).name for row in json.loads(captured.out)] == ["old.jpe", "a.JPG"]
    messages = " ".join(captured.err.split())
    assert "ignored: 4 hidden or system files (such as" in messages
    assert "ignored: 1 file named .txt (notes.txt)" in messages
    assert "scan.tif: is a TIFF picture, which is read only on request" in messages
    assert "out.jpg: is a link that leads out of the data folder" in messages
    named = [str(folder / name) for name in ("notes.txt", "out.jpg", ".thumbnails/a.jpg")]
    assert len(value_of(capsys, ["predict", str(trained), *named, "--json"])) == 3
    capsys.readouterr()
    assert len(value_of(capsys, ["predict", str(trained), str(folder / "deep" / "**"), "--json"])) == 1


def test_predict_goes_on_after_a_bad_file(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "evil\x1b[31m\n.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    capsys.readouterr()
    assert (
        cli(
            ["predict", str(trained), str(bad), str(pictures / "lying" / "3.png"), str(tmp_path / "none.png"), "--json"]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 1
    assert "skipped: " in captured.err
    assert "\x1b[31m" not in captured.err
    assert "evil\\x1b[31m\\n.jpg" in captured.err
    assert "there is no such file" in captured.err
    capsys.readouterr()
    assert cli(["predict", str(trained), str(bad)]) == 3
    assert "error: none of 1 images could be read" in capsys.readouterr().err


def test_predict_gives_out_what_it_has_when_the_disk_goes(
    trained: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convoscope.data import decode

    read = decode.read_picture

    def read_or_fail(path: str) -> bytes:
        if "gone" in path:
            raise OSError(5, "Input/output error", path)
        return read(path)

    monkeypatch.setattr(decode, "read_picture", read_or_fail)
    gone = [tmp_path / f"gone{number}.png" for number in range(25)]
    for path in gone:
        path.touch()
    good = str(pictures / "lying" / "3.png")
    capsys.readouterr()
    assert cli(["predict", str(trained), str(gone[0]), good, "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 1
    assert "gone0.png: the system says: Input/output error" in captured.err
    assert cli(["predict", str(trained), good, *map(str, gone), "--json"]) == 5
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 1
    assert "error: 20 pictures in a row cannot be read" in captured.err


def test_names_that_are_no_text_are_valid_json(trained: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\x1b[31m.png"
    with open(name, "wb") as file:
        Image.new("L", (12, 12), 99).save(file, "PNG")
    command: list[str | bytes] = [sys.executable, "-m", "convoscope", "predict", str(trained), name]
    for form in ("json", "csv", "table"):
        output = subprocess.run([*command, "--format", form], capture_output=True, check=True).stdout
        assert b"\x1b" not in output
        assert "\\udcff" in output.decode("utf-8")
        if form == "json":
            assert os.fsencode(json.loads(output)[0]["path"]) == name


def test_warnings_are_one_plain_line(trained: Path, pictures: Path, tmp_path: Path) -> None:
    from convoscope.training.core import checkpoint

    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    tensors, state = checkpoint.load(folder / "best.safetensors")
    tensors["model.conv1.weight"][:] = float("nan")
    checkpoint.save(folder / "best.safetensors", tensors, state)
    command = [sys.executable, "-m", "convoscope", "predict", str(folder), str(pictures / "lying" / "3.png"), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        result.stderr
        == f"warning: {folder / 'best.safetensors'}: some weights are not finite; its answers mean nothing\n"
    )
    answer = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))[0]
    assert (answer["confidence"], set(answer["scores"].values())) == (None, {None})


def test_compare(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "comparison.html"
    value = value_of(capsys, ["compare", str(trained), str(trained), "--html", str(page), "--json"])
    assert len(value["runs"]) == 2
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert cli(["compare", str(trained), str(trained)]) == 0
    assert "bars" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_tables_of_numbers_and_of_labels_from_training_to_prediction(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,x,y" if task == "regression" else "path,labels"]
    for number in range(80):
        picture = rng.integers(0, 30, (12, 12), dtype=np.uint8)
        y, x = (int(v) for v in rng.integers(0, 10, 2))
        picture[y : y + 2, x : x + 2] = 250
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        names = ["left"] * (x < 5) + ["top"] * (y < 5)
        rows.append(f"{number}.png,{x * 1.5},{y * 10}" if task == "regression" else f"{number}.png,{';'.join(names)}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    folder = str(tmp_path / "run")
    arguments = [
        "train",
        str(tmp_path / "table.csv"),
        "--model",
        "flatten dense(32) relu dense",
        "--epochs",
        "40",
        "--output",
        folder,
    ]
    value_of(capsys, [*arguments, "--set", "learning_rate=0.01", "--json"])
    scores = value_of(capsys, ["test", folder, "--json"])
    assert scores["task"] == task
    answer = value_of(capsys, ["predict", folder, str(tmp_path / "0.png"), "--json"])[0]
    if task == "regression":
        assert scores["mae"] > 0
        assert set(scores["per_class"]) == {"x", "y"}
        assert set(answer["scores"]) == {"x", "y"}
    else:
        assert scores["exact_match"] > 0.3
        assert set(answer["scores"]) == {"left", "top"}
    assert cli(["predict", folder, str(tmp_path / "0.png")]) == 0


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "SOURCE"),
        (["train", "{pictures}", "--epoch", "3"], 2, "epoch"),
        (["train", "{pictures}", "--epochs", "many"], 2, "many"),
        (["train", "{pictures}", "--set", "learning_rte=1"], 2, "did you mean learning_rate?"),
        (["train", "{pictures}", "--set", "learning_rate"], 2, "expected key=value"),
        (["train", "{pictures}", "--set", "epochs=1", "--epochs", "2"], 2, "given twice"),
        (["train", "{pictures}", "--set", "flip=true", "--set", "flip=false"], 2, "given twice"),
        (["train", "{pictures}", "--size", "wide"], 2, "expected pixels"),
        (["train", "{pictures}", "--size", "3x4x5"], 2, "expected pixels"),
        (["train", "{pictures}", "--model", "resnet-smal"], 2, "resnet-small"),
        (["train", "{pictures}", "--model", "conv(3) rleu dense"], 2, "column 9"),
        (["train", "{pictures}", "--device", "cuda:9"], 5, "no such device"),
        (["train", "{nowhere}"], 3, "nowhere"),
        (["train", "--resume", "{nowhere}"], 4, "no such run"),
        (["train", "--config", "{nowhere}"], 2, "no such file"),
        (["model", "conv(3"], 2, "line 1"),
        (["model", "fashion", "--input", "big"], 2, "--input"),
        (["data", "{nowhere}"], 3, "nowhere"),
        (["test", "{nowhere}"], 4, "nowhere"),
        (["predict", "{nowhere}", "x.png"], 4, "nowhere"),
        (["compare", "{nowhere}"], 4, "nowhere"),
        (["flatten"], 2, "flatten"),
        (["trian", "{pictures}"], 2, 'Did you mean "train"?'),
        (["data"], 2, "error: SOURCE: missing\nhint: convoscope data --help"),
        (["predict", "{nowhere}"], 2, "error: IMAGES: missing"),
        (["train", "{pictures}", "more"], 2, "error: more: one argument too many\nhint: convoscope train --help"),
        (["data", "{pictures}", "more", "and more"], 2, "error: more: one argument too many, and 1 more"),
        (["train", "{pictures}", "--batch-size", "4"], 2, "hint: convoscope train ... --set batch_size=VALUE"),
        (["train", "{pictures}", "--rotate=4"], 2, "error: --rotate: not an option, but a setting of the recipe"),
        (["train", "{pictures}", "--set"], 2, "error: --set: expected a value after it"),
        (["train", "{pictures}", "--accept-data-change"], 2, "only goes with --resume"),
        (["train", "{pictures}", "--seed", "-1"], 2, "seed: must be a whole number from 0 to"),
        (["data", "builtin:lines", "--seed", "-1"], 2, "seed: must be a whole number from 0 to"),
        (["train", "{pictures}", "--channels", "2"], 2, "the images have 1, which can become 1 or 3; received 2"),
        (["train", "{pictures}", "--epochs", "0"], 2, "hint: epochs: how often every training image is shown"),
        (["train", "{pictures}", "--output", "{pictures}/run"], 2, "the run would be inside the data"),
        (["train", ""], 3, "error: '': there is no such file or folder"),
        (["predict", "{nowhere}", "x", "--json", "--format", "csv"], 2, "--json: contradicts --format csv"),
        (["predict", "{pictures}/lying/0.png", "x"], 4, "not a safetensors file\nhint: give a run's folder"),
        (["predict", "{pictures}", "x"], 4, "no checkpoint in this folder"),
        (
            ["data", "{pictures}", "--sheet", "/proc/x/y.png"],
            5,
            "error: /proc/x: the system says: No such file or directory",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_refusals(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(pictures=pictures, nowhere=tmp_path / "nowhere") for argument in arguments]
    got, message = refused(capsys, filled)
    assert got == code, message
    assert words in message
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'sorce = "x"', "sorce: no such key; did you mean source?"),
        (b"seed = 1\nseed = 2\nsource = 3", "line 2"),
        (b'source = "caf\xe9"', "line 1: not UTF-8"),
        (b"seed = 'one'", "seed: expected int; received 'one'"),
        (b"strict = 1", "strict: expected bool; received 1"),
        (b"seed = true", "seed: expected int; received True"),
        (b"[recipe]\nepochs = 0\nflipp = 1", "epochs"),
        (b"x = " + b"[" * 100_000, "not valid TOML"),
    ],
    ids=range(8),
)
def test_configurations_that_cannot_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, words: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    code, message = refused(capsys, ["train", "--config", str(path)])
    assert code == 2
    assert words in message


def test_a_configuration_of_ten_megabytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"# " + b"x" * 10_000_000)
    code, message = refused(capsys, ["train", "--config", str(path)])
    assert code == 2
    assert "more than 1.0 MB" in message


def test_byte_order_marks_and_windows_line_ends_are_read(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    text = f"source = '{pictures}'\r\nmodel = '{MODEL}'\r\nseed = 5\r\n[recipe]\r\nepochs = 1\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    value = value_of(capsys, ["train", "--config", str(path), "--output", str(tmp_path / "run"), "--no-test", "--json"])
    assert tomllib.loads((Path(value["run"]) / "run.toml").read_text("utf-8"))["seed"] == 5


def test_a_bug_of_ours_prints_one_line_and_keeps_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convoscope import models

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(models, "table", broken)
    code, message = refused(capsys, ["model", "tiny"])
    assert code == 1
    assert "ZeroDivisionError: a bug" in message
    log = Path(message.split("with the file ")[1].strip())
    assert "Traceback" in log.read_text()
    log.unlink()


def test_an_interruption_says_that_nothing_was_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convoscope import models

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "table", interrupted)
    code, message = refused(capsys, ["model", "tiny"])
    assert (code, message) == (130, "error: interrupted; every file that was written is whole\n")


@pytest.mark.parametrize(
    ("redirect", "code"),
    [(">/dev/full 2>/dev/full", 5), (">/dev/null 2>/dev/full", 0), (">&- 2>&-", 0)],
    ids=["full", "errors full", "closed"],
)
def test_output_that_cannot_be_written_does_not_end_a_training(
    pictures: Path, tmp_path: Path, redirect: str, code: int
) -> None:
    folder = tmp_path / "run"
    command = f"{sys.executable} -m convoscope train '{pictures}' --model tiny --size 5 --epochs 2 --output '{folder}'"
    result = subprocess.run(["sh", "-c", f"{command} {redirect}"], check=False)
    assert result.returncode == code
    assert (folder / "report.html").is_file()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


def test_a_training_whose_reader_has_gone_goes_on_in_silence(pictures: Path, tmp_path: Path, unread: int) -> None:
    # `2>&1 | sed 12q`; with a bar, as on a terminal, which is drawn by a thread.
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "convoscope", "train", str(pictures), "--model", "tiny", "--size", "5", "--epochs", "2", "--output", str(folder)],
        stdout=unread, stderr=unread, env=os.environ | {"FORCE_COLOR": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (folder / "report.html").is_file()
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


def test_every_command_whose_reader_has_gone_writes_its_files_and_ends_quietly(
    trained: Path, pictures: Path, tmp_path: Path, unread: int
) -> None:
    run, picture = shutil.copytree(trained, tmp_path / "run"), str(pictures / "lying" / "0.png")
    shutil.rmtree(run / "test")
    (run / "report.html").unlink()
    commands = [
        ["--help"], ["--version"], ["data", str(pictures)], ["data", str(pictures), "--json"], ["model", "tiny"], ["model", "tiny", "--json"],
        ["test", "run"], ["test", "run", "--json"], ["compare", "run", "run", "--html", "page.html"], ["compare", "run", "run", "--json"],
        *(["predict", "run", picture, picture, "--format", form] for form in ("table", "csv", "json")),
        ["look", "run", picture], ["look", "run", picture, "--json"], ["look", "run", picture, "--why", "conv1:0,1,1", "--out", "why"], ["look", "run"],
        ["relearn", "run", str(pictures), "--head", "mean", "--augmented-views", "1", "--output", "relearned"],
        ["train", "--resume", "run", "--json"],
    ]  # fmt: skip
    program = (
        "import json, os, sys\n"
        "from convoscope import cli, launch\n"
        "launch.open_streams()\n"
        "codes = [(code, sys.stdout.flush()) for arguments in json.loads(sys.argv[1]) for code in [cli.run(arguments)]]\n"
        "open('codes', 'w').write(json.dumps([code for code, _ in codes]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)], cwd=tmp_path, stdout=unread, stderr=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    codes = json.loads((tmp_path / "codes").read_text())
    assert [command for command, code in zip(commands, codes, strict=True) if code] == []
    assert "rror" not in done.stderr and "Traceback" not in done.stderr
    files = (
        "run/test/scores.json",
        "run/report.html",
        "contact-sheets/bars.png",
        "page.html",
        "why/why.png",
        "relearned/report.html",
    )
    assert [file for file in files if not (tmp_path / file).is_file()] == []
    assert any((tmp_path / "looks").rglob("*.png"))


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["model", "tiny"], 0), (["model", "tny"], 2)])
@pytest.mark.parametrize("both", [False, True], ids=["output", "both"])
def test_the_last_words_go_nowhere_when_nobody_reads(unread: int, arguments: list[str], code: int, both: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convoscope", *arguments],
        stdout=unread,
        stderr=unread if both else subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert both or bool(done.stderr) == (code != 0)
    assert both or "Broken" not in done.stderr


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = (
        "import os, sys; from convoscope.launch import open_streams; open_streams(); print('unread'); print('unread', file=sys.stderr)\n"
        "sys.exit(sum(os.fstat(number).st_rdev != os.stat(os.devnull).st_rdev for number in range(3)) or len(sys.stdin.read()))\n"
    )
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, program]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_terminal_that_is_closed_leaves_a_saved_state(pictures: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    # A session whose terminal this is: when it goes, the system sends SIGHUP, and whatever is then written fails.
    program = (
        "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'convoscope', *sys.argv[1:]])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "train", str(pictures), "--model", MODEL, "--epochs", "100000", "--output", "run"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while not re.search(rb"epoch +2/", said):
            said += os.read(ours, 4096)
        os.close(ours)
    assert process.returncode == 129
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "convoscope", "model", "tiny"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 5
    assert "error: standard output: cannot be written to: No space left on device" in result.stderr


def test_ctrl_c_saves(pictures: Path, tmp_path: Path) -> None:
    import signal

    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "convoscope", "train", str(pictures), "--model", MODEL, "--epochs", "100000", "--output", str(folder)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch") and line.split()[1] == "2/100000":
            break
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130
    assert "stopped; the state is saved" in rest
    assert f"hint: go on with: convoscope train --resume {folder}" in rest
    assert (folder / "last.safetensors").is_file()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (MemoryError(), "error: memory: it ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5000000000 bytes."),
         "error: memory: it ran out when 5.0 GB more were needed"),
        (OSError(12, "Cannot allocate memory"), "error: memory: it ran out"),
        (OSError(12, "Cannot allocate memory", "a file"), "error: memory: it ran out"),
    ],
)  # fmt: skip
def test_memory_that_runs_out_anywhere_is_the_machines_fault(
    fault: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise fault

    monkeypatch.setattr("convoscope.data.load", fail)
    assert cli(["data", "photos"]) == 5
    error, hint = capsys.readouterr().err.strip().splitlines()
    assert error.startswith(said)
    assert hint == "hint: close other programs, or use smaller images or a smaller model"
