"""A run opened on an image: from `convoscope look`, in Python and in the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convoscope
from convoscope import cli, explain
from convoscope.errors import DataError, UsageError
from convoscope.evaluation import write_report
from convoscope.training import Run, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small run on drawings, with every part that the pictures need."""
    return train(
        "builtin:drawings/apple,banana",
        "conv(4) norm relu maxpool conv(8) relu maxpool flatten dense(8) relu dense",
        output=tmp_path_factory.mktemp("runs") / "run",
        epochs=3,
        precision="float32",
    )


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colour picture of another size than the run's."""
    path = tmp_path_factory.mktemp("photos") / "a photo.png"
    levels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(levels).save(path)
    return path


def test_a_look_is_the_runs_own_answer(run: Run, photo: Path) -> None:
    seen = convoscope.look(run, photo)
    assert seen.prediction.scores == run.predict(photo)[0].scores
    assert torch.allclose(
        torch.softmax(seen.trace.output[0], 0), torch.tensor(list(seen.prediction.scores.values())), rtol=1e-5
    )
    assert seen.notes == ("the image has 40x60 pixels; the network gets 28x28, fitted in whole, as in training",)
    assert convoscope.look(run.folder, np.asarray(Image.open(photo))).prediction.scores == seen.prediction.scores


def test_an_image_of_the_runs_own_size_needs_no_words(run: Run) -> None:
    assert convoscope.look(run, run.prepared().pixels[0]).notes == ()


def test_numbers_reach_down_to_the_pixels(run: Run, photo: Path) -> None:
    seen = convoscope.look(run, photo)
    assert seen.trace.names[:3] == ("pixels", "image", "conv1")
    why = seen.why("image", 0, 5, 6)
    assert why.agrees and why.terms[0].input == float(seen.pixels[5, 6, 0])
    for step in seen.layers():
        assert seen.why(step.name, *(n // 2 for n in step.shape)).agrees


def test_every_sheet_is_drawn(run: Run, photo: Path) -> None:
    seen = convoscope.look(run, photo)
    names = [name for name, image in seen.sheets(cam=True, filters=True) if image.width > 50 and image.height > 50]
    assert names[:3] == ["image.png", "overview.png", "scores.png"]
    assert {"layers/02-conv1.png", "attributions.png", "filters/01-conv1.png", "filters/02-conv2.png"} <= set(names)
    assert [name for name, _ in seen.sheets(layer="maxpool1")] == ["maxpool1.png"]
    assert "<img" in seen._repr_html_() and "<img" in seen.trace._repr_html_()
    assert seen.why("conv1", 0, 3, 3)._repr_html_().partition("<pre>")[2].startswith("conv1  channel 0, y 3, x 3")


def test_the_attributions_have_their_controls(run: Run, photo: Path) -> None:
    seen = convoscope.look(run, photo)
    assert seen.methods() == tuple(explain.METHODS)  # the image is small and the network has maps
    found = convoscope.look(run, run.prepared().pixels[3]).attribution("saliency")
    assert found.control is not None and found.similarity is not None and -1 <= found.similarity < 0.9
    assert seen.attribution("grad_cam").layer


def test_a_run_by_itself(run: Run) -> None:
    inside = explain.RunInspection.of(run, at_most=20)
    assert inside is not None
    assert inside.depths(3) == ["conv1", "conv2"]
    best = inside.top_activating_examples("conv2", channels=2, top=3)
    assert len(best) == 2 and all(len(examples) == 3 for examples in best.values())
    for examples in best.values():
        assert [each.value for each in examples] == sorted((each.value for each in examples), reverse=True)
    assert [name for name, _ in inside.sheets()] == [
        "filters/01-conv1.png",
        "filters/02-conv2.png",
        "levels.png",
        "features.png",
    ]
    # To pixels and back.
    back = inside.to_pixels(run.input_tensor(inside.pixels[:1])[0])
    assert np.array_equal(back, inside.pixels[0])


def test_the_report_has_its_chapter(run: Run) -> None:
    plain = write_report(run).read_text("utf-8")
    page = write_report(run, chapters=explain.chapters).read_text("utf-8")
    assert 'id="inside"' in page and 'id="inside"' not in plain
    for heading in ("Which part decides", "From edges to parts", "How it separates the classes"):
        assert heading in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_a_run_of_numbers_has_no_attributions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 12, 12), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=images.mean((1, 2)).astype(np.float32) + 0.5)
    text = "conv(2) relu globalavg dense"
    trained = train(tmp_path / "set.npz", text, output=tmp_path / "run", epochs=1, precision="float32", layout="arrays")
    seen = convoscope.look(trained, images[0])
    if trained.task == "regression":
        assert seen.methods() == ()
    assert "overview.png" in [name for name, _ in seen.sheets(cam=True)]
    assert explain.chapters(trained)


def look(*arguments: object) -> int:
    return cli.run(["look", *map(str, arguments)])


def test_the_command_writes_images_and_a_table(
    run: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert look(run.folder, photo, "--out", tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "fitted in whole, as in training" in said.err
    for words in ("conv1", "4 of 28x28", "at or below 0", "see how any number is computed: --why conv2:4,7,7"):
        assert words in said.out
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert "overview.png" in files and "layers/02-conv1.png" in files
    with Image.open(tmp_path / "out" / "overview.png") as sheet:
        assert sheet.width > 300


def test_the_command_opens_a_number(run: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(run.folder, photo, "--why", "conv2:1,3,4") == 0
    said = capsys.readouterr().out
    assert said.startswith("conv2  channel 1, y 3, x 4\n  convolution 3x3 over 4 channels")
    assert "rounding in float32 allows" in said
    assert look(run.folder, photo, "--why", "conv2:1,3,4", "--all", "--out", tmp_path) == 0
    assert (tmp_path / "why.png").is_file()
    capsys.readouterr()
    assert look(run.folder, photo, "--why", "conv2:1,3,4", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert len(value["terms"]) == 36 and value["unit"] == {"channel": 1, "y": 3, "x": 4}
    assert value["recorded"] == pytest.approx(value["sum"], abs=1e-4)


def test_the_command_speaks_json(run: Run, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(run.folder, photo, "--layer", "conv1", "--out", tmp_path, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert {"label", "confidence", "scores", "layers", "files", "notes", "input"} <= value.keys()
    assert value["layers"][2]["layer"] == "conv1" and value["layers"][2]["shape"] == [4, 28, 28]
    assert value["files"] == [str(tmp_path / "conv1.png")]


def test_the_command_without_an_image(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(run.folder, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "levels.png").is_file()
    assert "images:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["PHOTO", "--why", "conv9:0,0,0"], 2, "this network has no layer 'conv9'"),
        (["PHOTO", "--why", "conv1:0,0"], 2, "conv1 needs channel, y, x, in 0 to 3, 0 to 27, 0 to 27; received 0, 0"),
        (["PHOTO", "--why", "conv1:9,0,0"], 2, "received 9, 0, 0"),
        (["PHOTO", "--why", "conv1"], 2, "expected LAYER:CHANNEL,Y,X"),
        (["PHOTO", "--why", "conv1:-1,0,0"], 2, "expected LAYER:CHANNEL,Y,X"),
        (["PHOTO", "--layer", "cnov2"], 2, "this network has no layer 'cnov2'"),
        (["missing.jpg"], 3, "there is no such picture"),
        (["--cam"], 2, "these options need an image"),
    ],
)
def test_bad_requests(
    run: Run, photo: Path, tmp_path: Path, arguments: list[str], code: int, message: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert look(run.folder, *(photo if each == "PHOTO" else each for each in arguments)) == code
    said = capsys.readouterr()
    assert message in said.err and not said.out
    assert not list(tmp_path.iterdir())


def test_a_look_needs_its_picture_for_some_options(run: Run) -> None:
    with pytest.raises(UsageError) as caught:
        cli.app(["look", str(run.folder), "--why", "conv1:0,0,0"], exit_on_error=False, result_action="return_value")
    assert caught.value.code == "picture-missing"


def test_a_unit_in_words() -> None:
    assert explain.read_unit("layer1.0.conv2:5,3,4") == ("layer1.0.conv2", 5, 3, 4)
    assert explain.read_unit("relu#2: 5") == ("relu#2", 5)
    for text in ("", "conv1", ":1", "conv1:a,b,c", "conv1:1,,2"):
        with pytest.raises(UsageError) as caught:
            explain.read_unit(text)
        assert caught.value.code == "unit-malformed"


def test_a_picture_that_cannot_be_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"<!doctype html>")
    with pytest.raises(DataError, match="is an HTML page"):
        convoscope.look(run, tmp_path / "x.png")
    with pytest.raises(UsageError):
        convoscope.look(run, run.prepared().pixels[0]).why("pixels", 9, 9, 9)


def test_of_very_large_images_fewer_are_looked_at(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = explain.RunInspection.of(run)
    assert inside is not None and len(inside.pixels) > 10
    monkeypatch.setattr("convoscope.explain.inspection._MOST_BYTES", 10 * 28 * 28 + 5)
    fewer = explain.RunInspection.of(run)
    assert fewer is not None and len(fewer.pixels) == 10
    assert [len(batch) for batch in fewer.batches()] == [10]
