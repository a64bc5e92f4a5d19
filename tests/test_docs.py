"""The README and the handbook: every Python example runs, every command line is one that the program understands."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from convoscope.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [ROOT / "docs" / name for name in ("python.md", "inside.md", "relearn.md")] + [ROOT / "README.md"],
    ids=lambda page: page.name,
)
def test_python_examples_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(page, "python"))
    assert code
    exec(compile(code, page.name, "exec"), {"__name__": "example"})
    assert "Traceback" not in capsys.readouterr().err


SHOWING = sorted(path for path in (ROOT / "src" / "convoscope").rglob("*.py") if ">>> " in path.read_text("utf-8"))


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: path.stem)
def test_examples_in_docstrings_give_what_they_say(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    done = doctest.testmod(importlib.import_module(name))
    assert done.attempted and not done.failed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_understood(page: Path) -> None:
    lines = [
        line.partition("  #")[0] for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()
    ]
    for line in lines:
        if line.startswith("convoscope "):
            try:
                app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
            except CycloptsError as error:
                pytest.fail(f"{page.name}: {line}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_table_of_settings_is_the_recipe() -> None:
    from convoscope.training import Recipe

    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*) \|$", page, re.MULTILINE)
    fields = [
        (name, str(field.default).lower() if isinstance(field.default, bool) else str(field.default), field.description)
        for name, field in Recipe.model_fields.items()
    ]
    assert rows == fields


def test_the_files_that_the_recipes_name_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert text.count("## Recipe: ") == 4
    named = re.findall(r"`((?:src|tests|tools|web|docs|\.ci|pyproject)\b[^`\s]*)`", text)
    assert len(named) > 40
    # NAME stands for the name of what is added; another one of its kind must be there.
    assert [path for path in named if not any(ROOT.glob(path.replace("NAME", "*")))] == []
