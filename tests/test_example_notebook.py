"""The example notebook, run in a real kernel: results as HTML, one output with curves, an error with its hint."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert.preprocessors import ExecutePreprocessor

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries that others maintain
def test_the_notebook_runs(tmp_path: Path) -> None:
    content: Any = nbformat.read(NOTEBOOK, 4)
    code = [cell for cell in content.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "outputs do not belong into it"
    for cell in code:
        cell.source = cell.source.replace("epochs=12", "epochs=2")
    ExecutePreprocessor(timeout=300).preprocess(content, {"metadata": {"path": str(tmp_path)}})
    for cell in code[:-1]:
        assert [
            output for output in cell.outputs if '<div class="convoscope">' in output.data["text/html"]
        ] or not cell.outputs
    (curves,) = code[1].outputs
    assert curves.data["text/html"].count("<svg") == 2
    (error,) = code[-1].outputs
    assert error.ename == "DataError" and len(error.traceback) == 3
    assert error.traceback[1].startswith("hint: ") and "in the cell, line 1: " in error.traceback[2]
