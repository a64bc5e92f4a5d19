"""What `relearn` was asked for, checked."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ... import data, models
from ...errors import UsageError, printable
from ..backbone.backbone import Backbone
from ..core.engine import pick_device
from ..core.recipe import Recipe
from ..heads.head import HIDDEN
from ..heads.ood import COVERAGE
from ..runs.settings import Relearned

HeadKind = Literal["linear", "mean", "mlp"]
_KINDS = ("linear", "mean", "mlp")
_MOST_VIEWS = 100
_FROZEN = ("class_weights", "device", "precision", "threads")
"""The recipe's settings that matter where the backbone is frozen."""
ALL_BLOCKS = -1


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """What was asked for. What was not asked for has its usual value.

    Attributes:
        head: what kind of head.
        augmented_views: how many versions of each training image the head learns from; None: as suits the images.
        coverage: the share of new images of the classes that are to be known.
        unfreeze: how many of the backbone's blocks learn; `ALL_BLOCKS`: all of them.
        add: whether the images are added to those of a run.
        feature_layer: the layer behind which the backbone ends; None: it is chosen.
        recipe: the recipe, of which the user named `named`.
        seed: decides the split, and chance in heads and training.
        device: where everything is computed.
        given: which of the choices the user made.
    """

    head: HeadKind = "linear"
    augmented_views: int | None = None
    coverage: float = COVERAGE
    unfreeze: int = 0
    add: bool = False
    feature_layer: str | None = None
    recipe: Recipe
    named: frozenset[str]
    seed: int
    device: str
    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, choices: Mapping[str, Any], recipe: dict[str, Any], seed: int) -> TransferOptions:
        """Read the choices, see `TransferChoices`, and the recipe's fields.

        Raises:
            UsageError: one of them is impossible, has no effect, or contradicts another.
        """
        asked = Recipe.read(recipe)
        unfreeze = _blocks(choices.get("unfreeze", 0))
        if unfreeze and asked.epochs >= 100_000:  # the head's epoch comes in addition
            raise UsageError(
                "epochs",
                f"expected less than 100,000 where the backbone learns; received {asked.epochs}",
                code="recipe-invalid",
            )
        given = {
            name: choices[name] for name in ("head", "augmented_views", "coverage") if choices.get(name) is not None
        }
        wish = cls(
            unfreeze=unfreeze,
            add=bool(choices.get("add", False)),
            feature_layer=choices.get("feature_layer"),
            recipe=asked,
            named=frozenset(recipe),
            seed=data.check_seed(seed),
            device=pick_device(asked.device),
            given=frozenset(given),
        )
        wish._check_effects()
        return replace(wish, **_checked(given))

    def like(self, before: Relearned | None) -> TransferOptions:
        """The same, where what was not asked for is as in the run that is added to."""
        if before is None:
            return self
        values = {"head": before.head, "augmented_views": before.augmented_views, "coverage": before.coverage}
        return replace(self, **_checked({name: value for name, value in values.items() if name not in self.given}))

    @property
    def words(self) -> str:
        """What becomes of the backbone."""
        if self.unfreeze == ALL_BLOCKS:
            return "fine-tuned once the head has learned"
        blocks = "block is" if self.unfreeze == 1 else f"{self.unfreeze} blocks are"
        return f"whose last {blocks} fine-tuned once the head has learned" if self.unfreeze else "frozen"

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the head's hidden layers."""
        return (HIDDEN,) if self.head == "mlp" else ()

    def check_blocks(self, backbone: Backbone) -> None:
        """Refuse to let more blocks learn than there are."""
        if self.unfreeze in (0, ALL_BLOCKS):
            return
        heads = len(backbone.layers(self.hidden, 2))
        count = len(models.blocks(backbone.network(self.hidden, 2))) - heads
        if self.unfreeze > count:
            raise UsageError(
                "unfreeze",
                f"the backbone has {count} block{'' if count == 1 else 's'} that can learn; received {self.unfreeze}",
                hint="all of them: --unfreeze all",
                code="relearn-unfreeze",
            )

    def _check_effects(self) -> None:
        """Refuse what would have no effect, or contradicts."""
        idle = sorted(self.named - set(_FROZEN))
        if idle and not self.unfreeze:
            raise UsageError(
                idle[0],
                "has no effect: the backbone is frozen, and its head is not trained in steps",
                hint="let the backbone learn too: --unfreeze all; with a frozen backbone the recipe's "
                f"{', '.join(_FROZEN[:-1])} and {_FROZEN[-1]} can be set",
                code="relearn-idle",
            )
        if self.unfreeze and "trained_blocks" in self.named:
            raise UsageError(
                "trained_blocks", "is what --unfreeze says; both were given", hint="leave one out", code="option-twice"
            )
        if self.add and self.feature_layer is not None:
            raise UsageError(
                "feature_layer",
                "with --add the backbone ends where it does",
                hint="leave --feature-layer or --add out",
                code="relearn-feature-layer",
            )


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Some of head, augmented views and coverage, if they are possible."""
    checked: dict[str, Any] = dict(values)
    if "head" in values and values["head"] not in _KINDS:
        received = printable(values["head"])
        raise UsageError("head", f"expected linear, mean or mlp; received {received!r}", code="relearn-head")
    if "augmented_views" in values:
        views = values["augmented_views"]
        if not _whole(views) or not 1 <= views <= _MOST_VIEWS:
            raise UsageError(
                "augmented_views",
                f"expected a whole number from 1 to {_MOST_VIEWS}; received {views!r}",
                code="relearn-augmented-views",
            )
        checked["augmented_views"] = int(views)
    if "coverage" in values:
        share = values["coverage"]
        if isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 < float(share) <= 1:
            raise UsageError(
                "coverage",
                f"expected a share above 0, at most 1; received {share}",
                hint="0.95 marks one image of the classes in twenty as not known",
                code="relearn-coverage",
            )
        checked["coverage"] = float(share)
    return checked


def _blocks(unfreeze: object) -> int:
    """How many of the backbone's blocks learn; -1: all."""
    if isinstance(unfreeze, str) and unfreeze == "all":
        return ALL_BLOCKS
    if not _whole(unfreeze) or cast(int, unfreeze) < 0:
        raise UsageError(
            "unfreeze",
            f"expected all, or how many of the backbone's last blocks learn; received {printable(unfreeze)!r}",
            code="relearn-unfreeze",
        )
    return int(cast(int, unfreeze))


def _whole(value: object) -> bool:
    """Whether it is a whole number, NumPy's included."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
