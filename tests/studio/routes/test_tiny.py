"""The images of the page Tiny, against the data room."""

import pytest
from fastapi.testclient import TestClient

from convoscope import data
from convoscope.data import InputFormat
from convoscope.data.dataset import SplitName


@pytest.mark.parametrize("name", ["lines", "shapes", "fruits"])
def test_a_tiny_set_is_drawn_by_its_seed(client: TestClient, name: str) -> None:
    first, again, other = (client.get(f"/api/tiny/{name}?seed={seed}").json() for seed in (7, 7, 8))
    assert first == again != other
    dataset = data.load(f"builtin:{name}", seed=7)
    assert first["name"] == name and first["classes"] == list(dataset.classes)
    sizes: dict[SplitName, int] = {"train": 20, "test": 10}
    for part, each in sizes.items():
        images = first[part]
        assert [image["label"] for image in images] == [0, 1] * each
        assert len({str(image["pixels"]) for image in images}) == 2 * each
        theirs = [
            (dataset.images.decode(int(row), InputFormat(height=5, width=5, channels=1)).ravel() / 255).tolist()
            for row in dataset.indices(part)
        ]
        assert all(image["pixels"] in theirs for image in images)
    assert not [image for image in first["train"] if image in first["test"]]


def test_a_tiny_set_that_is_none(client: TestClient) -> None:
    answer = client.get("/api/tiny/drawings")
    assert answer.status_code == 404 and answer.json()["hint"] == "choose one of lines, shapes, fruits"
    assert client.get("/api/tiny/lines?seed=-1").status_code == 422
    assert client.get(f"/api/tiny/lines?seed={2**53}").status_code == 422
