"""Sample images, kernels and chains of steps over HTTP, against the rooms that do the work."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from convoscope import data
from convoscope.data import InputFormat
from convoscope.errors import UsageError
from convoscope.explain import border_cells, convolve, output_size_text, pool
from convoscope.models import KERNELS
from convoscope.studio.messages.common import Maps
from convoscope.studio.messages.convolve import Chain
from convoscope.studio.samples import SAMPLES, sample
from tests.support.routes import chain_result, numbers

EXAMPLES = Path(__file__).parents[3] / "web" / "src" / "pages" / "convolve" / "examples.json"


def test_the_samples(client: TestClient) -> None:
    listed = client.get("/api/samples").json()
    assert [entry["id"] for entry in listed] == list(SAMPLES)
    assert listed[0] == {"id": "photograph", "height": 600, "width": 512, "channels": 3}
    for entry in listed:
        whole = client.get(f"/api/samples/{entry['id']}?side=512").json()
        if max(entry["height"], entry["width"]) <= 512:
            assert whole["notes"] == []
            np.testing.assert_array_equal(numbers(whole), sample(entry["id"]))
        assert numbers(whole).min() < numbers(whole).max()


def test_a_photograph_is_scaled_down_and_never_up(client: TestClient) -> None:
    small = client.get("/api/samples/photograph").json()
    assert (small["height"], small["width"], small["channels"]) == (128, 109, 3)
    assert small["notes"] == ["scaled down from 512 x 600 to 109 x 128 pixels"]
    form = InputFormat(height=128, width=109, channels=3, resize="stretch")
    np.testing.assert_array_equal(numbers(small), data.open_image(sample("photograph"), form))
    assert client.get("/api/samples/numbers?side=512").json()["height"] == 6
    for side in (7, 513, "x"):
        assert client.get(f"/api/samples/photograph?side={side}").status_code == 422
    assert client.get("/api/samples/photo").json()["code"] == "unknown-sample"


def test_the_formulas() -> None:
    assert sample("ramp")[3, :, 0].tolist() == [17 * column for column in range(16)]
    assert sample("step")[5, :, 0].tolist() == [0] * 8 + [255] * 8
    board = sample("checkerboard")[:, :, 0]
    assert board[0, 0] == board[4, 4] == 0 and board[0, 4] == board[4, 0] == 255 and board.mean() == 127.5
    disc = sample("disc")[:, :, 0]
    assert (disc == disc.T).all() and (disc == disc[::-1]).all()
    assert (disc > 0).sum() == sum((y - 15.5) ** 2 + (x - 15.5) ** 2 <= 100 for y in range(32) for x in range(32))
    assert sample("numbers")[:3, :3, 0].tolist() == [[1, 0, 4], [8, 2, 5], [20, 13, 25]]


def test_the_kernels(client: TestClient) -> None:
    listed = client.get("/api/kernels").json()
    assert [kernel["name"] for kernel in listed] == list(KERNELS)
    for kernel in listed:
        np.testing.assert_array_equal(kernel["rows"], KERNELS[kernel["name"]].rows)


examples = json.loads(EXAMPLES.read_text("utf-8"))


@pytest.mark.parametrize("example", examples, ids=[example["id"] for example in examples])
def test_an_example_of_the_page_can_be_done(client: TestClient, example: dict[str, Any]) -> None:
    assert set(example) == {"id", "sample", "steps", "cell"}
    pixels = client.get(f"/api/samples/{example['sample']}").json()
    steps = Chain.model_validate({"image": Maps.of(numbers(pixels)).model_dump(), "steps": example["steps"]}).steps
    assert [step.model_dump() for step in steps] == example["steps"]  # nothing is left to a default
    made = chain_result(client, numbers(pixels), *example["steps"])
    assert made["refusal"] is None and len(made["steps"]) == len(steps)
    cell = example["cell"]
    maps = numbers(made["steps"][cell["step"]]["maps"], "<f8")
    assert maps[cell["y"], cell["x"]].any()


def result_of(client: TestClient, name: str) -> NDArray[Any]:
    """What the last step of an example makes."""
    example = next(one for one in examples if one["id"] == name)
    image = numbers(client.get(f"/api/samples/{example['sample']}").json())
    return numbers(chain_result(client, image, *example["steps"])["steps"][-1]["maps"], "<f8")


def test_the_worked_examples_on_paper(client: TestClient) -> None:
    # The kernel 1 2 1, 2 1 2, 1 1 2 over 2 5 4, 13 25 15, 8 6 6; then with its first row and column outside the image.
    assert result_of(client, "worked-convolution")[1, 1, 0] == (2 + 10 + 4) + (26 + 25 + 30) + (8 + 6 + 12)
    assert result_of(client, "worked-border")[0, 0, 0] == (1 * 1 + 2 * 0) + (1 * 8 + 2 * 2)
    assert result_of(client, "worked-pooling")[:, :, 0].tolist() == [[25, 240], [255, 223]]
    # A standing line of 170, 255, 170, 200 in the fourth column: twice itself there, minus itself beside.
    assert result_of(client, "line-detector")[0, :, 0].tolist() == [0, 1250]


def test_the_named_kernels_in_the_examples_are_theirs() -> None:
    used = [np.array(step["kernel"]) for example in examples for step in example["steps"] if "kernel" in step]
    for name in ("sobel_x", "gaussian5", "outline", "laplacian"):
        assert any(kernel.shape == np.shape(KERNELS[name].rows) and (kernel == KERNELS[name].rows).all() for kernel in used)  # fmt: skip


def test_edges_have_negative_results(client: TestClient) -> None:
    edges = result_of(client, "edges")
    assert edges.min() < -100 and edges.max() > 100


Border = Literal["none", "zeros", "reflect", "replicate"]
PoolKind = Literal["max", "mean", "sum"]

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.data())
def test_a_convolution_equals_that_of_explain(client: TestClient, drawn: st.DataObject) -> None:
    shape = drawn.draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3)))
    image = drawn.draw(arrays.arrays(np.float64, shape, elements=finite))
    size: tuple[int, ...] = drawn.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    if drawn.draw(st.booleans()):
        size = (*size, shape[2])
    kernel = drawn.draw(arrays.arrays(np.float64, size, elements=finite))
    borders: tuple[Border, ...] = ("none", "zeros", "reflect", "replicate")
    border = drawn.draw(st.sampled_from(borders))
    stride, dilation = drawn.draw(st.integers(1, 3)), drawn.draw(st.integers(1, 3))
    step = {"kind": "convolve", "kernel": kernel.tolist(), "border": border, "stride": stride, "dilation": dilation}
    made = chain_result(client, image, step)
    try:
        expected = convolve(image, kernel, border=border, stride=stride, dilation=dilation)
    except UsageError as error:
        assert made["steps"] == []
        assert made["refusal"] == {"code": error.code, "message": error.reason, "hint": error.hint}
        return
    result = numbers(made["steps"][0]["maps"], "<f8")
    np.testing.assert_array_equal(result, expected.reshape(result.shape))
    texts = [
        output_size_text(
            shape[axis], size[axis], stride, dilation, 0 if border == "none" else border_cells(size[axis], dilation)
        )
        for axis in (0, 1)
    ]
    assert made["steps"][0]["size_text"] == (texts if texts[0] != texts[1] else texts[:1])


@given(st.data())
def test_a_chain_is_one_step_after_the_other(client: TestClient, drawn: st.DataObject) -> None:
    shape = drawn.draw(st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(1, 3)))
    image = drawn.draw(arrays.arrays(np.float64, shape, elements=finite))
    kinds: tuple[PoolKind, ...] = ("max", "mean", "sum")
    kind = drawn.draw(st.sampled_from(kinds))
    size, stride = drawn.draw(st.integers(1, 4)), drawn.draw(st.integers(1, 3))
    kernel = drawn.draw(arrays.arrays(np.float64, (2, 2), elements=finite))
    made = chain_result(
        client,
        image,
        {"kind": "convolve", "kernel": kernel.tolist(), "border": "zeros"},
        {"kind": "relu"},
        {"kind": "pool", "pool": kind, "size": size, "stride": stride},
        {"kind": "convolve", "kernel": kernel.tolist()},
    )
    first = convolve(image, kernel, border="zeros")
    second = np.maximum(first, 0)
    third = pool(second, kind, size, stride)
    expected = [first, second, third]
    if min(third.shape[:2]) >= 2:
        assert made["refusal"] is None
        expected.append(convolve(third, kernel))
    else:
        assert made["refusal"]["code"] == "kernel-too-large"
    assert len(made["steps"]) == len(expected)
    for step, one in zip(made["steps"], expected, strict=True):
        np.testing.assert_array_equal(numbers(step["maps"], "<f8"), one)
    assert made["steps"][1]["size_text"] == []
    texts = [output_size_text(side, size, stride) for side in shape[:2]]
    assert made["steps"][2]["size_text"] == list(dict.fromkeys(texts))


SQUARE = np.arange(16.0).reshape(4, 4)


SOBEL = {"kind": "convolve", "kernel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]}


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        ({"kind": "convolve", "kernel": [[1] * 5] * 5}, "kernel-too-large", "a kernel of 5x5 does not fit into an image of 4x4"),
        ({**SOBEL, "dilation": 2}, "kernel-too-large", "a kernel of 3x3, dilated to 5x5, does not fit into an image of 4x4"),
        ({"kind": "convolve", "kernel": [[1] * 9], "border": "reflect"}, "border-too-wide", "a reflected border of 4 needs a larger image than 4x4"),
        ({"kind": "convolve", "kernel": [[1] * 16]}, "kernel-over-limit", "expected a kernel of at most 15x15; received 1x16"),
        ({"kind": "convolve", "kernel": [[1]] * 16}, "kernel-over-limit", "expected a kernel of at most 15x15; received 16x1"),
        ({"kind": "convolve", "kernel": []}, "kernel-shape", "got (0,)"),
        ({"kind": "convolve", "kernel": [[]]}, "kernel-shape", "got (1, 0)"),
        ({"kind": "convolve", "kernel": [[1, 2], [3]]}, "kernel-numbers", "expected real numbers (h, w) or (h, w, C)"),
        ({"kind": "convolve", "kernel": [[[1, 2]]]}, "kernel-channels", "each channel of the image (1), got 2"),
        ({"kind": "pool", "size": 5}, "window-too-large", "a window of 5x5 does not fit into an image of 4x4"),
        ({"kind": "convolve", "kernel": [[1e308, 1e308]]}, "numbers-too-large", "larger than the largest float64 number"),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_done_ends_the_chain(client: TestClient, step: Any, code: str, message: str) -> None:
    made = chain_result(client, SQUARE, {"kind": "convolve", "kernel": [[2]]}, step, SOBEL)
    assert len(made["steps"]) == 1 and numbers(made["steps"][0]["maps"], "<f8")[3, 3] == 30
    assert made["refusal"]["code"] == code and message in made["refusal"]["message"]


@pytest.mark.parametrize("step", [{"kind": "relu"}, SOBEL, {"kind": "pool"}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_with_other_than_finite_numbers(client: TestClient, step: Any, value: float) -> None:
    image = SQUARE.copy()
    image[2, 1] = value
    made = chain_result(client, image, step)
    assert made["steps"] == [] and made["refusal"]["code"] == "image-numbers"
    assert "expected finite numbers" in made["refusal"]["message"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"values": "AAAA"}, "image-length"),
        ({"values": ""}, "image-length"),
        ({"values": "A"}, "image-encoding"),
        ({"values": "Ä" * 172}, "image-encoding"),
        ({"values": "AAAA\n" * 40}, "image-encoding"),
        ({"height": 0}, "image-size"),
        ({"height": -4, "width": -4}, "image-size"),
        ({"height": 513}, "image-size"),
        ({"width": 10**30}, "image-size"),
        ({"width": 10**4000}, "image-size"),
        ({"channels": 4}, "image-size"),
        ({"channels": 0}, "image-size"),
        ({"channels": 2}, "image-length"),
    ],
)
def test_an_image_that_is_none(client: TestClient, change: dict[str, Any], code: str) -> None:
    image = Maps.of(SQUARE).model_dump() | change
    answer = client.post("/api/convolve", json={"image": image, "steps": [SOBEL]})
    assert answer.status_code == 422 and answer.json()["code"] == code


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [SOBEL] * 9,
        [{"kind": "turn"}],
        [{**SOBEL, "stride": 0}],
        [{**SOBEL, "dilation": 65}],
        [{**SOBEL, "border": "wrap"}],
        [{**SOBEL, "kernel": [["1e999"]]}],
        [{**SOBEL, "kernel": 3}],
        [{**SOBEL, "extra": 1}],
        [{"kind": "pool", "pool": "min"}],
        [{"kind": "pool", "size": 513}],
    ],
)
def test_steps_that_are_none(client: TestClient, steps: Any) -> None:
    answer = client.post("/api/convolve", json={"image": Maps.of(SQUARE).model_dump(), "steps": steps})
    assert answer.status_code == 422


def test_too_much_work_is_refused_before_any_of_it_is_done(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((512, 512, 3))
    large = {"kind": "convolve", "kernel": np.ones((15, 15)).tolist(), "border": "zeros"}
    with monkeypatch.context() as patch:
        patch.setattr("convoscope.explain.pool", None)  # a call would be an internal error
        made = chain_result(client, image, {"kind": "pool", "size": 256, "stride": 1})
    assert made["refusal"]["code"] == "too-much-work" and made["steps"] == []
    work = f"{257 * 257 * 3 * 256 * 256 * 10:,}"
    assert f"{work} multiply-adds; the limit is 250,000,000" in made["refusal"]["message"]
    made = chain_result(client, image, large, large)
    assert len(made["steps"]) == 1 and made["refusal"]["code"] == "too-much-work"
    assert len(chain_result(client, np.zeros((512, 512)), large, large, large)["steps"]) == 3
