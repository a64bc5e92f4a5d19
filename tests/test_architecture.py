"""The rules of the house, held against the source: floors, front doors, no circles, true signatures, short functions.

The last tests plant one fault of each kind in a small tree and see that it is caught.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.house import (
    Tree,
    circles,
    documented,
    long_functions,
    many_parameters,
    past_front_doors,
    silent_doors,
    upward,
    wrong_signatures,
)

ROOT = Path(__file__).parents[1]
HOUSE = Tree(ROOT / "src" / "convoscope")
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")

# Of each folder its files and folders, the lowest floor first. A file imports from lower floors only.
FLOORS = {
    "convoscope": (
        "python_words",
        "duration errors geometry suggestions thread_wait",
        "posix render",
        "files",
        "parsing children free_memory",
        "patterns",
        "data models",
        "training",
        "evaluation config terminal notebook",
        "explain search trackers sklearn",
        "api",
        "studio",
        "cli",
        "launch",
        "__main__",
    ),
    "convoscope.training": ("core", "heads", "runs", "fit", "backbone", "commands"),
    "convoscope.explain": (
        "capture",
        "arithmetic methods",
        "drawings",
        "views",
        "inspection",
        "report_chapter",
    ),
}

# These modules may go past front doors: each is a process of its own, bounded in memory, that must not import a whole room.
EXCEPTIONS = ("convoscope.studio.decoder_child",)

MOST_LINES = 60
MOST_PARAMETERS = 10


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(lambda: upward(HOUSE, FLOORS), id="floors"),
        pytest.param(lambda: past_front_doors(HOUSE, EXCEPTIONS), id="front doors"),
        pytest.param(lambda: circles(HOUSE), id="circles"),
        pytest.param(lambda: wrong_signatures(PAGE, "convoscope"), id="signatures"),
        pytest.param(lambda: long_functions(HOUSE, MOST_LINES), id="length"),
        pytest.param(lambda: many_parameters(HOUSE, MOST_PARAMETERS), id="parameters"),
        pytest.param(lambda: silent_doors(HOUSE), id="promises"),
    ],
)
def test_the_house_keeps_its_rules(faults: Callable[[], list[str]]) -> None:
    found = faults()
    assert not found, "\n".join(found)


def test_there_is_something_to_hold() -> None:
    assert len(HOUSE.modules) > 100 and len(HOUSE.imports) > 300
    assert len(list(documented(PAGE))) > 40


SMALL = {
    "__init__.py": '"""A small house."""\n',
    "ground/__init__.py": '"""What all stand on."""\nfrom .stone import stone\n\n__all__ = ["stone"]\n',
    "ground/stone.py": "def stone(weight: float, *, grey: bool = True) -> str:\n    return str(weight)\n",
    "upper/__init__.py": '"""What stands on the ground."""\nfrom .room import room\n\n__all__ = ["room"]\n',
    "upper/room.py": "from ..ground import stone\n\ndef room() -> str:\n    return stone(1)\n",
    "upper/door.py": "",
}
SMALL_FLOORS = {"small": ("ground", "upper")}
SMALL_PAGE = "## ground\n\n```python\nstone(weight, *, grey=True) -> str\n```\n"


def small_house(folder: Path, changes: dict[str, str] | None = None) -> Tree:
    """The small tree, with files put in or in the place of others."""
    for name, text in (SMALL | (changes or {})).items():
        path = folder / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Tree(folder / "small")


def all_faults(tree: Tree) -> list[str]:
    return [
        *upward(tree, SMALL_FLOORS),
        *past_front_doors(tree),
        *circles(tree),
        *long_functions(tree, 3),
        *many_parameters(tree, 3),
        *silent_doors(tree),
    ]


def test_a_small_house_without_faults(tmp_path: Path) -> None:
    tree = small_house(tmp_path)
    assert [str(each) for each in tree.imports] == [
        "small.ground, line 2, imports small.ground.stone",
        "small.upper, line 2, imports small.upper.room",
        "small.upper.room, line 1, imports small.ground",
    ]
    assert all_faults(tree) == []


LATER = "def later() -> object:\n    from {} import {}\n    return {}\n"
TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import {}\n"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ground/stone.py": "from ..upper import room\n"}, "imports small.upper, which is not on a lower floor"),
        ({"ground/stone.py": LATER.format("small.upper", "room", "room")}, "small.ground.stone, line 2, imports small.upper, which"),
        ({"ground/stone.py": TYPING.format("..upper", "room")}, "small.ground.stone, line 3, imports small.upper, which"),
        ({"ground/stone.py": "import small.upper\n"}, "imports small.upper, which is not on a lower floor"),
        ({"cellar.py": ""}, "small.cellar is on no floor"),
        ({"upper/room.py": "from ..ground.stone import stone\n"}, "imports small.ground.stone, past the front door small.ground"),
        ({"upper/room.py": "from ..ground import stone as module\nimport small.ground.stone\n"}, "past the front door small.ground"),
        ({"upper/door.py": "from .room import room\n", "upper/room.py": "from . import door\n"}, "small.upper: a circle of door, room"),
        (
            {"upper/door.py": TYPING.format(".room", "room"), "upper/room.py": LATER.format(".door", "door", "door")},
            "small.upper: a circle of door, room",
        ),
        ({"upper/door.py": "from . import room\n"}, "small.upper, the front door of its own folder"),
        ({"ground/stone.py": "from ..upper import room\n"}, "small: a circle of ground, upper"),
        ({"upper/door.py": 'def door():\n    """Three.\n\n    Lines.\n    """\n    a = 1\n    b = 2\n    c = 3\n    return a\n'}, "a body of 4"),
        ({"upper/door.py": "def door(a, *b, c=1, **d): ...\n"}, "line 1: 4 parameters"),
        ({"ground/__init__.py": ""}, "small.ground has no docstring"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_caught(tmp_path: Path, changes: dict[str, str], fault: str) -> None:
    found = all_faults(small_house(tmp_path, changes))
    assert any(fault in each for each in found), found


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ("stone(weight, *, grey=True) -> str", None),
        ("stone(\n    weight,  # in kilograms\n    *, grey=True) -> str", None),
        ("stone", None),
        ("stone(weight, grey=True) -> str", 'should be (weight, *, grey=True) -> str'),
        ("stone(weight, *, grey=False) -> str", 'should be (weight, *, grey=True) -> str'),
        ("stone(mass, *, grey=True) -> str", 'should be (weight, *, grey=True) -> str'),
        ("stone(weight, *, grey=True) -> float", 'should be (weight, *, grey=True) -> str'),
        ("stone, pebble", "ground: pebble is not there"),
    ],
)  # fmt: skip
def test_a_wrong_signature_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, fault: str | None
) -> None:
    small_house(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = wrong_signatures(SMALL_PAGE.replace("stone(weight, *, grey=True) -> str", wrong), "small")
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]
