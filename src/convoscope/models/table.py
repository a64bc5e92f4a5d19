"""A model's table: for each layer the shape that comes out, its parameters as a product, its work and its receptive
field.

For a text everything follows from the shape rules; for other networks `measure` watches one image go through.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .arguments import size_text
from .check import check
from .grammar import parse
from .library import sketch_from_library
from .names import library_name, model_text
from .plan import Plan, PlannedLayer, check_input, make_plan
from .rows import LayerRow, formula, side

if TYPE_CHECKING:
    from torch import nn

_MOST_SHOWN = 60
"""Layers in a notebook; `layers` has all."""


@dataclass(frozen=True, repr=False)
class ModelTable:
    """Every layer in the order of execution, and the totals.

    Attributes:
        model: the text, or the name, or the class of a ready module.
        input: (height, width, channels).
        outputs: scores for each image.
        parameters, trainable: learned numbers, and those of them that training changes.
        multiply_adds: for one image.
    """

    model: str
    input: tuple[int, int, int]
    outputs: int
    layers: tuple[LayerRow, ...]
    parameters: int
    trainable: int
    multiply_adds: int

    def to_json(self) -> dict[str, Any]:
        """The table as plain JSON values."""
        result = asdict(self)
        result["input"] = list(self.input)
        result["layers"] = [
            {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(row).items()}
            for row in self.layers
        ]
        return result

    def __repr__(self) -> str:
        size = "x".join(map(str, self.input))
        numbers = f"{len(self.layers):,} layers, {self.parameters:,} parameters, {self.multiply_adds:,} multiply-adds"
        return f"<ModelTable {self.model[:200]!r} on {size}: {numbers}>"

    def _repr_html_(self) -> str:
        from ..render import grid, heading, notebook, shorten

        header = ("layer", "kind", "output", "parameters", "as products", "multiply-adds", "receptive field")
        rows = [
            (
                row.name,
                row.kind,
                size_text(row.output),
                f"{row.parameters:,}",
                row.formula,
                f"{row.multiply_adds:,}",
                "" if row.receptive_field is None else _side_text(row.receptive_field),
            )
            for row in self.layers[:_MOST_SHOWN]
        ]
        total = f"input {size_text(self.input)}; {self.parameters:,} parameters; {self.multiply_adds:,} multiply-adds"
        learned = "" if self.trainable == self.parameters else f"{self.trainable:,} parameters are trained"
        return notebook(
            heading(shorten(self.model, 300), total, learned),
            grid(header, rows, texts=(0, 1), more=len(self.layers) - len(rows)),
        )


def _side_text(field: int | tuple[int, int]) -> str:
    return f"{field}x{field}" if isinstance(field, int) else size_text(field)


def table(model: str | nn.Module, input: tuple[int, int, int], outputs: int) -> ModelTable:
    """The table of a text, a preset's name, `torchvision:NAME`, `timm:NAME` or a ready module.

    For a text this takes milliseconds and needs no torch.

    Args:
        model: as in `build`.
        input: (height, width, channels) of the images.
        outputs: scores for each image.

    Raises:
        UsageError: as in `build`.
    """
    check_input(input, outputs)
    if isinstance(model, str):
        named = library_name(model)
        if named is None:
            return _table_of_plan(make_plan(parse(model_text(model)), input, outputs), model_text(model))
        module = sketch_from_library(named, input, outputs)
        label = f"{named.library}:{named.name} {named.layers}".rstrip()
    else:
        module, label = model, type(model).__name__
    from .measure import measure

    scores = check(module, input, outputs)
    rows = measure(module, input)
    parameters = list(module.parameters())
    return ModelTable(
        model=label,
        input=input,
        outputs=scores,
        layers=rows,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        multiply_adds=sum(row.multiply_adds for row in rows),
    )


def _table_of_plan(plan: Plan, text: str) -> ModelTable:
    rows = tuple(_row(step) for step in plan.rows())
    parameters = sum(row.parameters for row in rows)
    return ModelTable(
        model=text,
        input=plan.input,
        outputs=plan.outputs,
        layers=rows,
        parameters=parameters,
        trainable=parameters,
        multiply_adds=sum(row.multiply_adds for row in rows),
    )


def _row(step: PlannedLayer) -> LayerRow:
    return LayerRow(
        name=step.name,
        kind=step.layer.kind,
        output=step.output,
        parameters=step.parameters,
        formula=formula(step.weights),
        multiply_adds=step.multiply_adds,
        receptive_field=side(step.field.size),
    )
