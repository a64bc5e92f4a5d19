"""What a run of one image leaves to be asked about: its steps, plain data without pictures or words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from ...errors import UsageError, printable
from ...models import kinds_of
from ...suggestions import the_nearest
from .step_axes import axes_of_steps

if TYPE_CHECKING:
    from ...models import Axes

IMAGE = "image"
"""The name of what goes into the network."""
PIXELS = "pixels"
"""The name of the image's pixels, 0..255, where the trace knows how they were normalised."""
PASSING = kinds_of("reshape", "dropout") | {"reshape", "transpose", "slice", "output"}
"""Kinds of steps that only pass numbers on: not worth a sheet or a row of their own."""

_AXES = -1
"""In a recording's cache, which is by the number of a step: what the axes of all steps mean."""


@dataclass(frozen=True)
class Ref:
    """In a step's arguments: the output of an earlier step."""

    step: int


@dataclass(eq=False)
class Step:
    """One operation on one image.

    Attributes:
        name: unique; a module's path (`layer1.0.conv2`) where the module does just this, else the path and the kind
            (`layer1.0.add`), with `#2` and so on where it comes again.
        kind: `conv`, `dense`, `norm`, `maxpool`, `avgpool`, `sumpool`, `relu`, `add`, `concat`, ...; torch's own name
            of the operation where the catalogue has none.
        module: the path of the innermost module that was running; empty for the network itself.
        output: what came out, as it was computed, batch axis included.
        inputs: the names of the steps whose outputs went in.
        opaque: why its arithmetic cannot be opened, or an empty text.
    """

    number: int
    kind: str
    module: str
    output: Tensor
    operation: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    name: str = ""
    inputs: tuple[str, ...] = ()
    opaque: str = ""
    written: tuple[tuple[Tensor, int], ...] = ()
    """The step's output and the network's own numbers in it, each with how often torch had written to it."""
    piece: int = 0
    """Which of several outputs this is."""
    function: Any = None
    """The operation itself, to be run again on other numbers."""
    _meaning: Callable[[], Axes] | None = None

    @property
    def axes(self) -> Axes | None:
        """What the axes of `output` mean; None of a step that is in no recording."""
        return None if self._meaning is None else self._meaning()

    @property
    def maps(self) -> Tensor | None:
        """The output as maps `(channels, height, width)`, however its axes are ordered; None where it is none.

        Tokens are maps too, without the class token and what else belongs to no place of the image.
        """
        grid = None if self.axes is None else self.axes.grid
        return None if grid is None else grid.maps(self.output)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The axes of a unit's position: `(channels, height, width)` of maps, `(n,)` of a vector; no batch axis."""
        return unit_axes(self.output)

    def value(self, index: Sequence[int]) -> float:
        """The recorded number of one unit.

        Raises:
            UsageError: it is complex (`number-complex`).
        """
        number = self.output.reshape(self.shape)[tuple(index)]
        if number.is_complex():
            raise UsageError(
                self.name,
                f"its numbers are complex and are not opened; this one is {complex(number.item()):.9g}",
                code="number-complex",
                hint="layers whose numbers are real open",
            )
        return float(number)

    def references(self) -> list[int]:
        """The numbers of the steps that went in, in the order of the arguments."""
        return [leaf.step for leaf in tree_leaves((self.arguments, self.keywords)) if isinstance(leaf, Ref)]


def unit_axes(tensor: Tensor) -> tuple[int, ...]:
    """A tensor's shape without a leading batch axis of one."""
    return tuple(tensor.shape[1:]) if tensor.ndim > 1 and tensor.shape[0] == 1 else tuple(tensor.shape)


@dataclass(frozen=True, eq=False)
class Recording:
    """All steps of one image through one network: the plain record behind a `Trace`.

    Attributes:
        steps: in the order of execution; the first is the image (`image`; before it `pixels`, where the run's
            normalisation is known).
        notes: what could not be followed, one plain sentence each.
        classes: names of the scores, if known.
    """

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    cache: dict[int, Any] = field(default_factory=dict, repr=False)
    """Step number to what a rule has found out about it once."""
    _numbers: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._numbers.update({step.name: step.number for step in self.steps})
        for step in self.steps:
            step._meaning = partial(self._axes_of, step.number)

    def _axes_of(self, number: int) -> Axes:
        if _AXES not in self.cache:  # found when they are first asked for: a trace need not wait for them
            self.cache[_AXES] = axes_of_steps(self.steps)
        found: Axes = self.cache[_AXES][number]
        return found

    def check_unchanged(self, step: Step) -> None:
        """Whether what the step was computed from is still what it was.

        Raises:
            UsageError: it is not (`trace-outdated`).
        """
        for other in (step, *(self.steps[number] for number in step.references())):
            if any(version_of(tensor) != version for tensor, version in other.written):
                raise UsageError(
                    step.name,
                    "the network's numbers have changed since this trace was made",
                    code="trace-outdated",
                    hint="trace the image again",
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The steps' names in the order of execution."""
        return tuple(self._numbers)

    @property
    def output(self) -> Tensor:
        """The network's scores, raw, `(1, K)` for classifiers."""
        return self.steps[-1].output

    def __getitem__(self, name: str) -> Step:
        """The step of that name.

        Raises:
            UsageError: there is none (`layer-unknown`); the nearest names are listed.
        """
        number = self._numbers.get(name)
        if number is not None:
            return self.steps[number]
        some = [step.name for step in self.steps if step.kind in ("conv", "dense")][:5]
        raise UsageError(
            "layer",
            f"this network has no layer {printable(name)!r}",
            hint=the_nearest(name, self._numbers) or "it has " + ", ".join(some),
            code="layer-unknown",
        )


def version_of(tensor: Tensor) -> int:
    """How often torch has written to a tensor's memory; 0 for tensors that do not count it."""
    return 0 if tensor.is_inference() else int(tensor._version)
