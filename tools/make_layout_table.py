"""Write the table of layouts into docs/data.md, as the readers describe themselves.

    python tools/make_layout_table.py

`tests/data/test_layouts.py` compares the two.
"""

from __future__ import annotations

import re
from pathlib import Path

from convoscope.data.registry import layout_table

PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def main() -> None:
    """Replace the table."""
    text = PAGE.read_text("utf-8")
    PAGE.write_text(re.sub(r"^\| layout \|.*?\n(?=\n)", lambda _: layout_table(), text, flags=re.M | re.S), "utf-8")


if __name__ == "__main__":
    main()
