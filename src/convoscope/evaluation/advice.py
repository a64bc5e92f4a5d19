"""What to do next: plain rules from what a test found to what helps, each with a command.

The rules see `Facts` only, so that each can be tried by itself. Nothing here reads a run or an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from ..data import Task
from ..errors import printable, shell_word
from .text import counted, percent

FEW = 20
"""A class with fewer training images than this is small."""
MOST = 6
"""So many steps at most; more nobody does."""
LARGE_SIDE = 64
"""Colour images from this side on are taken for photographs, for which a pretrained backbone helps."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules know.

    Attributes:
        folder, source: the run's folder and its images.
        again: whether the images can be read again from `source`.
        task: the run's.
        photographs: whether the images are large and in colour.
        relearned: whether the run has a pretrained backbone; `solved`: and only a head was fitted.
        training: class name to the number of its training images.
        validation: how many validation images there are.
        images: how many were tested.
        accuracy, interval, chance: of the test, as in `Scores`.
        gap: training minus validation accuracy; None where not known.
        turned: the epoch after which the validation loss rose for good.
        epochs, planned: epochs done and asked for; `gave_up`: the recipe's patience ended it.
        leaked: what the test says of tested images that were used in training; nothing if there are none.
        swallowing: the class that is answered most for images of others, and for which share of them.
        confused: the commonest confusion: true class, answer, number, share of the true class.
        sure_mistakes: how many of the worst mistakes have a confidence of at least 95 %.
        example: the picture of such a mistake.
        not_known, not_known_right: of a run with an out-of-distribution detector, as in `Unknown`.
        coverage: what was asked for there.
    """

    folder: str
    source: str
    again: bool = True
    task: Task = "classification"
    photographs: bool = False
    relearned: bool = False
    solved: bool = False
    training: Mapping[str, int] = field(default_factory=dict)
    validation: int = 0
    images: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    chance: float = 0.0
    gap: float | None = None
    turned: int | None = None
    epochs: int = 0
    planned: int = 0
    gave_up: bool = False
    leaked: str = ""
    swallowing: tuple[str, float] | None = None
    confused: tuple[str, str, int, float] | None = None
    sure_mistakes: int = 0
    example: str = ""
    not_known: int = 0
    not_known_right: int = 0
    coverage: float | None = None

    @property
    def run(self) -> str:
        """The run's folder as a word of a command."""
        return shell_word(self.folder)

    @property
    def data(self) -> str:
        """The images as a word of a command."""
        return shell_word(self.source) if self.again else "SOURCE"


Step = tuple[str, str]
"""What to do and why, in words, and the command, or nothing."""
Rule = Callable[[Facts], Iterator[Step]]


def advice(facts: Facts) -> list[Step]:
    """At most `MOST` steps, the most important first."""
    steps = [step for rule in RULES for step in rule(facts)][:MOST]
    if not steps:
        steps = [("Nothing stands out. Use the network on new images:", f"convoscope predict {facts.run} NEW-IMAGES")]
    return steps


def leak(facts: Facts) -> Iterator[Step]:
    """Images that were trained on are among the tested ones."""
    if facts.leaked:
        yield (
            f"Do not trust the result yet: {facts.leaked}. Find the copies, and train again on parts without them:",
            f"convoscope data {facts.data}",
        )


def stopped(facts: Facts) -> Iterator[Step]:
    """The training was not finished."""
    if 0 < facts.epochs < facts.planned and not facts.gave_up and not facts.solved:
        yield (
            f"The training was stopped after {facts.epochs} of {counted(facts.planned, 'epoch')}. Let it finish:",
            f"convoscope train --resume {facts.run}",
        )


def hardly_learned(facts: Facts) -> Iterator[Step]:
    """No better than the best constant answer."""
    if facts.interval is not None and facts.interval[0] <= facts.chance < 1:
        yield (
            "It is hardly better than always giving the most frequent answer. See whether the labels suit the images:",
            f"convoscope data {facts.data}",
        )


def small_classes(facts: Facts) -> Iterator[Step]:
    """Classes with few training images."""
    few = {name: count for name, count in facts.training.items() if count < FEW}
    if not few or facts.task == "regression":
        return
    name = min(few, key=lambda name: few[name])
    if len(few) == 1:
        words = f"{printable(name)} has {counted(few[name], 'training image')}."
    else:
        many = counted(len(few), "class", "classes") if facts.task == "classification" else f"{len(few):,} labels"
        words = f"{many} have fewer than {FEW} training images, {printable(name)} only {few[name]:,}."
    if facts.task == "classification" and facts.photographs and not facts.relearned:
        command = f"convoscope relearn imagenet {facts.data}"
        yield f"{words} Add images; a pretrained backbone also needs far fewer:", command
    else:
        yield f"{words} Add images, and look at the set again:", f"convoscope data {facts.data}"


def overfitted(facts: Facts) -> Iterator[Step]:
    """Far better on the training images."""
    if facts.gap is None or facts.gap <= 0.1 or facts.task == "regression":
        return
    words = f"It overfits: training is {100 * facts.gap:.1f} percentage points ahead of validation."
    if facts.photographs and not facts.relearned and facts.task == "classification":
        yield f"{words} A pretrained backbone helps most:", f"convoscope relearn imagenet {facts.data}"
    elif not facts.solved:
        change = "--set rotate=15 --set zoom=0.2 --set shift=0.1"
        yield f"{words} Add images, or augment them more:", f"convoscope train {facts.data} {change}"
    else:
        yield f"{words} More training images help most.", ""


def turned(facts: Facts) -> Iterator[Step]:
    """Trained longer than it helped."""
    if facts.turned and facts.epochs >= facts.turned + 5 and not facts.solved:
        yield (
            f"The validation loss rose from epoch {facts.turned} on. The best weights were kept; fewer would do:",
            f"convoscope train {facts.data} --epochs {facts.turned + 2}",
        )


def confusions(facts: Facts) -> Iterator[Step]:
    """One class answered for many others, or two that are confused."""
    look = f"convoscope look {facts.run} {shell_word(facts.example)} --cam" if facts.example else ""
    if facts.swallowing is not None and facts.swallowing[1] >= 0.15:
        name, share = facts.swallowing
        yield (
            f"{printable(name)} is answered for {percent(share, 0)} of the images of other classes. Is it a mixture, "
            "or has it far more images than the others?",
            f"convoscope data {facts.data}",
        )
    elif facts.confused is not None and facts.confused[2] >= 5 and facts.confused[3] >= 0.15:
        truth, answer, number, share = facts.confused
        yield (
            f"{percent(share, 0)} of the images of {printable(truth)} ({number:,}) are taken for {printable(answer)}. "
            "Could you tell them apart? See which part of an image decides:",
            look,
        )


def doubted_labels(facts: Facts) -> Iterator[Step]:
    """Mistakes that the network is sure of."""
    if facts.sure_mistakes:
        which = "One wrong answer has" if facts.sure_mistakes == 1 else f"{facts.sure_mistakes} wrong answers have"
        yield (
            f"{which} a confidence of at least 95 %. Look at the first of the worst mistakes below: their labels may "
            "be wrong.",
            "",
        )


def refused(facts: Facts) -> Iterator[Step]:
    """Many images of the classes are marked as not known, though their labels are right."""
    if facts.images and facts.not_known_right / facts.images > 0.03:
        yield (
            f"{facts.not_known:,} images of the classes are marked as not known; the label of "
            f"{facts.not_known_right:,} of these is right. A higher target coverage marks fewer:",
            f"convoscope relearn imagenet {facts.data} --coverage 0.995",
        )


def rough_measure(facts: Facts) -> Iterator[Step]:
    """Too few tested images to say much."""
    if facts.interval is not None and facts.interval[1] - facts.interval[0] > 0.15:
        points = 50 * (facts.interval[1] - facts.interval[0])
        yield (
            f"{counted(facts.images, 'image')} measure the accuracy to within about {points:.0f} percentage points "
            "only. Test on more:",
            f"convoscope test {facts.run} MORE-IMAGES",
        )


RULES: tuple[Rule, ...] = (
    leak,
    stopped,
    hardly_learned,
    small_classes,
    overfitted,
    confusions,
    doubted_labels,
    refused,
    rough_measure,
    turned,
)
"""The most important first."""


def swallowing_class(confusion: list[list[int]], classes: tuple[str, ...]) -> tuple[str, float] | None:
    """The class that is answered for the largest share of the other classes' images, and that share; with at least
    three classes.
    """
    if len(classes) < 3:
        return None
    total = sum(map(sum, confusion))
    shares = []
    for k, name in enumerate(classes):
        others = total - sum(confusion[k])
        wrong = sum(row[k] for row in confusion) - confusion[k][k]
        shares.append((wrong / others if others else 0.0, name))
    share, name = max(shares, key=lambda pair: pair[0])
    return (name, share) if share else None
