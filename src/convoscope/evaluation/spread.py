"""Repeated runs: the mean of what they reach, and how far they differ."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import write_json, write_text
from ..render import Section, page, paragraph, table
from .result_files import printable_json, read_scores
from .results import plain
from .text import percent

if TYPE_CHECKING:
    from ..training import Run


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What runs that differ in nothing but their seed reach on the same images.

    Attributes:
        task: of all runs.
        images: how many each was tested on.
        seeds, accuracies, losses: of each run; an accuracy is R² where numbers are predicted.
        mean, deviation, lowest, highest: of the accuracies; the deviation is the standard deviation of a sample.
    """

    task: str
    images: int
    seeds: list[int]
    accuracies: list[float]
    losses: list[float]
    mean: float
    deviation: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Spread:
        """That of two or more tested runs.

        Raises:
            UsageError: there are fewer, or one was not tested or has no accuracy (`spread-untested`).
        """
        tested = [scores for scores in (read_scores(run.folder) for run in runs) if scores is not None]
        accuracies = [scores.accuracy for scores in tested if scores.accuracy is not None]
        if len(accuracies) < max(2, len(runs)):
            raise UsageError(
                "repeat", "two or more tested runs are needed to tell how far they differ", code="spread-untested"
            )
        return cls(
            task=tested[0].task,
            images=tested[0].images,
            seeds=[run.settings.seed for run in runs],
            accuracies=accuracies,
            losses=[scores.loss for scores in tested],
            mean=statistics.fmean(accuracies),
            deviation=statistics.stdev(accuracies),
            lowest=min(accuracies),
            highest=max(accuracies),
        )

    @property
    def sentence(self) -> str:
        """In words."""
        begin = f"{len(self.seeds)} runs, seeds {self.seeds[0]} to {self.seeds[-1]}, on one split: "
        if self.task == "regression":
            return (
                f"{begin}R² {self.mean:.3f} on average, standard deviation {self.deviation:.3f}, "
                f"from {self.lowest:.3f} to {self.highest:.3f}."
            )
        return (
            f"{begin}accuracy {percent(self.mean)} on average, standard deviation {100 * self.deviation:.1f} points, "
            f"from {percent(self.lowest)} to {percent(self.highest)}."
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers."""
        content: dict[str, Any] = plain(self)
        return content | {"sentence": self.sentence}

    def write(self, folder: Path) -> Path:
        """Write `spread.json` and `report.html` into the folder of the runs; returns the page.

        Raises:
            MachineError: they cannot be written.
        """
        write_json(folder / "spread.json", printable_json(self.to_json()))
        rows = [
            [str(seed), f"{accuracy:.3f}" if self.task == "regression" else percent(accuracy), f"{loss:.3f}"]
            for seed, accuracy, loss in zip(self.seeds, self.accuracies, self.losses, strict=True)
        ]
        words = (
            f"Each run was tested on the same {self.images:,} images. They differ in first weights, order and "
            "augmentation alone: a difference between two models that is no larger than this may be chance of the seed."
        )
        sections = [
            Section(
                "runs",
                "The runs",
                table(["seed", "R²" if self.task == "regression" else "accuracy", "loss"], rows) + paragraph(words),
            )
        ]
        head = f'<p class="eyebrow">convoscope repeats</p><h1>The same training, {len(rows)} times</h1>'
        head += f'<p class="lead">{escape(self.sentence)}</p>'
        target = folder / "report.html"
        write_text(target, page("convoscope repeats", head, sections, "This page fetches nothing and runs nothing."))
        return target
