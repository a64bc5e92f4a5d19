"""What a run answers on the tested images: scores and, with an out-of-distribution detector, distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data import Task
from ..errors import ModelFileError
from .measures import THRESHOLD, Floats
from .results import Mistake, Unknown
from .tested_images import TestedImages

if TYPE_CHECKING:
    from ..training import Run

WORST = 24
"""How many of the worst mistakes are kept."""

DISTANCE_BINS = 40


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The tested images, N of them, with what a run says about each.

    Attributes:
        task, classes: the run's.
        images: what was tested.
        truth: the targets, one a row.
        scores: `(N, K)`.
        distances: of a run with an out-of-distribution detector, `(N,)`; else None.
        threshold: images farther away than this are not known.
    """

    task: Task
    classes: tuple[str, ...]
    images: TestedImages
    truth: NDArray[Any]
    scores: Floats
    distances: Floats | None
    threshold: float

    @classmethod
    def of(cls, run: Run, images: TestedImages, count: Callable[[int], None]) -> Answers:
        """Let the run answer; `count` is called with how many images have gone through the network.

        Raises:
            ModelFileError: the answers are not finite (`scores-not-finite`).
        """
        parts, far = [], []
        total, batch = len(images.rows), run.at_once()
        for start in range(0, total, batch):
            rows = images.rows[start : start + batch]
            new = run.unanswered(images.pixels, rows)
            scores, distances = run.scores_and_distances(images.pixels, rows)
            parts.append(scores)
            if distances is not None:
                far.append(distances)
            count(new)
        scores = np.concatenate(parts)
        broken = int((~np.isfinite(scores)).any(axis=1).sum())
        if broken:
            raise ModelFileError(
                run.folder,
                f"expected finite answers; the network gives NaN or infinity for {broken:,} of {total:,} images",
                hint="train again with a lower learning_rate",
                code="scores-not-finite",
            )
        threshold = np.inf
        if far:
            detector = run.ood_detector()
            assert detector is not None
            threshold = detector.threshold
        return cls(
            task=run.task,
            classes=tuple(run.classes),
            images=images,
            truth=images.truth,
            scores=scores,
            distances=np.concatenate(far) if far else None,
            threshold=threshold,
        )

    def known(self) -> NDArray[np.bool_] | None:
        """Which images are known, as `predict` says it."""
        return None if self.distances is None else self.distances <= self.threshold

    def unknown(self, coverage: float) -> Unknown | None:
        """How many are not known. All of these are images of the classes, so none of them should be."""
        known = self.known()
        if known is None or self.distances is None:
            return None
        right = self.scores.argmax(axis=1) == self.truth
        top = max(float(self.distances.max()), self.threshold) * 1.05 or 1.0
        edges = np.linspace(0, top, DISTANCE_BINS + 1)
        return Unknown(
            coverage=coverage,
            threshold=self.threshold,
            not_known=int((~known).sum()),
            not_known_right=int((~known & right).sum()),
            accuracy_known=float(right[known].mean()) if known.any() else None,
            edges=edges.tolist(),
            right=np.histogram(self.distances[right], edges)[0].tolist(),
            wrong=np.histogram(self.distances[~right], edges)[0].tolist(),
        )

    def in_words(self, row: int) -> tuple[str, str, float | None, bool | None]:
        """One image's true label, predicted label, confidence and whether it is right."""
        names, scores, truth = self.classes, self.scores[row], self.truth[row]
        if self.task == "classification":
            best = int(scores.argmax())
            return names[int(truth)], names[best], float(scores[best]), best == int(truth)
        if self.task == "multi-label":
            chosen, wanted = scores >= THRESHOLD, truth > 0
            sure = float(np.maximum(scores, 1 - scores).min())
            joined = [";".join(name for name, on in zip(names, mask, strict=True) if on) for mask in (wanted, chosen)]
            return joined[0], joined[1], sure, bool((chosen == wanted).all())
        joined = [";".join(f"{value:.6g}" for value in values) for values in (truth, scores)]
        return joined[0], joined[1], None, None

    def worst(self) -> list[int]:
        """The rows of the most confident mistakes, worst first; for numbers those of the largest errors, in standard
        deviations of the column.
        """
        if self.task == "classification":
            wrong = self.scores.argmax(axis=1) != self.truth
            badness = np.where(wrong, self.scores.max(axis=1), -1.0)
        elif self.task == "multi-label":
            wrong = ((self.scores >= THRESHOLD) != (self.truth > 0)).any(axis=1)
            badness = np.where(wrong, np.abs(self.scores - self.truth).max(axis=1), -1.0)
        else:
            deviation = self.truth.std(axis=0)
            badness = (np.abs(self.scores - self.truth) / np.where(deviation > 0, deviation, 1)).max(axis=1)
            wrong = badness > 0
        return [int(row) for row in np.argsort(-badness, kind="stable")[:WORST] if wrong[row]]

    def mistake(self, row: int, rank: int) -> Mistake:
        """One of the worst mistakes, the `rank`th from 1."""
        label, predicted, confidence, _ = self.in_words(row)
        if self.task == "multi-label":
            confidence = float(np.abs(self.scores[row] - self.truth[row]).max())
        known = self.known()
        return Mistake(
            path=self.images.name(row),
            label=label,
            predicted=predicted,
            confidence=confidence,
            image=f"worst/{rank:02d}.png",
            known=None if known is None else bool(known[row]),
        )
