"""The numbers against which the page Convolve is tested are fresh, and the PyTorch scripts that it writes print them."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest

from tests.support.tools import ROOT, tool

PAGE = ROOT / "web" / "src" / "pages" / "convolve"
CASES = json.loads((PAGE / "reference.json").read_text("utf-8"))["cases"]


def test_the_reference_is_what_the_package_makes_today() -> None:
    assert json.loads((PAGE / "reference.json").read_text("utf-8")) == json.loads(
        tool("make_convolve_reference").text()
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_script_written_by_the_page_prints_the_number_of_the_package(case: dict[str, Any]) -> None:
    script = (PAGE / "snippets" / f"{case['name']}.txt").read_text("utf-8")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(script, case["name"], "exec"), {})
    assert float(printed.getvalue()) == pytest.approx(case["cell"]["value"], rel=1e-12, abs=1e-9)


def test_no_script_is_left_over() -> None:
    assert {file.stem for file in (PAGE / "snippets").iterdir()} == {case["name"] for case in CASES}
