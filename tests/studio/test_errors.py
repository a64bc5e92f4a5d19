"""Failures as answers: the right status, plain words, no path of the machine."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI

from convoscope import errors as package
from convoscope.studio import errors
from convoscope.studio.errors import RequestRefused, from_error, without_folders
from convoscope.studio.state import Studio
from tests.support.studios import ask

STUDIO = Path(__file__).parents[2] / "src" / "convoscope" / "studio"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (package.UsageError("kernel", "too large", code="x"), 422),
        (package.DataError("a.jpg", "is no picture", code="x"), 422),
        (package.ModelFileError("best.safetensors", "damaged", code="x"), 422),
        (package.InUseError("runs/a", "in use", code="x"), 409),
        (package.MachineError("/tmp", "the disk is full", code="disk-full"), 507),
        (package.MachineError("/tmp", "no permission", code="no-permission"), 503),
        (package.Interrupted("", "stopped", code="interrupted"), 503),
    ],
)
def test_every_kind_of_error_has_its_status(error: package.ConvoscopeError, status: int, tmp_path: Path) -> None:
    api = FastAPI()
    api.state.studio = Studio(runs=tmp_path / "runs", models=tmp_path / "models")
    errors.install(api)

    @api.get("/")
    def fail() -> None:
        raise error

    answer = ask(api)
    assert (answer.status, answer.code) == (status, error.code)
    assert error.reason in answer.json()["message"]
    assert from_error(error).status == status


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/home/anna/runs/a-1/best.safetensors: damaged", "best.safetensors: damaged"),
        ("see '/srv/data/x y/z' or /opt/a/b", "see 'x y/z' or b"),
        ("C:\\Users\\anna\\runs\\a: damaged", "a: damaged"),
        ("the gradient is 3/4, and/or 0..255", "the gradient is 3/4, and/or 0..255"),
        ("conv2:5,3,4: no such unit", "conv2:5,3,4: no such unit"),
        ("runs/a-1: is empty", "runs/a-1: is empty"),
        ("GET /api/runs", "GET runs"),
        ("http://127.0.0.1:8000/x", "http://127.0.0.1:8000/x"),
        ("", ""),
    ],
)
def test_absolute_paths_are_cut_down(text: str, left: str) -> None:
    assert without_folders(text) == left


def test_the_studios_own_folders_go_even_with_spaces_in_them(tmp_path: Path) -> None:
    runs = tmp_path / "my best runs"
    text = f"{runs}/first try/best.safetensors: damaged; the hint is in {runs}, on {Path.home()}"
    assert without_folders(text, [runs]) == (
        "first try/best.safetensors: damaged; the hint is in the studio's folder, on the studio's folder"
    )


def test_every_code_of_a_refusal_is_named_in_a_test() -> None:
    """A code without a test that expects it may have a message nobody has ever read."""
    source = "\n".join(path.read_text("utf-8") for path in STUDIO.rglob("*.py"))
    codes = set(re.findall(r"""RequestRefused\(\s*\d{3},\s*"([a-z0-9-]+)\"""", source))
    assert len(codes) > 20
    tests = "\n".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py"))
    assert {code for code in codes if f'"{code}"' not in tests} == set()


def test_other_http_errors_are_refusals_too(tmp_path: Path) -> None:
    from starlette.exceptions import HTTPException

    api = FastAPI()
    api.state.studio = Studio(runs=tmp_path, models=tmp_path)
    errors.install(api)

    @api.get("/")
    def fail() -> None:
        raise HTTPException(418, "a teapot")

    answer = ask(api)
    assert (answer.status, answer.code, answer.json()["message"]) == (418, "request-refused", "a teapot")


def test_a_refusal_is_safe_to_print() -> None:
    assert RequestRefused(404, "x", "a\x1b[31m\nb\ud800").message == "a\\x1b[31m\\nb\\ud800"
