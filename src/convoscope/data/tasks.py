"""What can be predicted of an image."""

from __future__ import annotations

from typing import Final, Literal

Task = Literal["classification", "multi-label", "regression"]
"""One class for each image, any number of labels for each image, or real numbers for each image."""
TARGET_NOUNS: Final[dict[Task, str]] = {"classification": "classes", "multi-label": "labels", "regression": "numbers"}
"""What a task predicts, in messages; also the endings of the layouts `csv:classes`, `csv:labels`, `csv:numbers`."""
