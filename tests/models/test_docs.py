"""The handbook's page on models: every example on it runs, and its tables say what the catalogue says."""

import doctest
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from convoscope.errors import UsageError
from convoscope.models import KERNELS, LAYERS, PRESETS, Preset, Value, build, parse, table

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    found = [text for name, text in BLOCKS if name == language]
    assert found
    return found


def shown(value: Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def layer_lines() -> Iterator[str]:
    """The table of layers as the page must have it."""
    for layer in LAYERS.values():
        yield f"| `{layer.kind}` | {layer.meaning} |"


def argument_lines() -> Iterator[str]:
    """The table of arguments as the page must have it."""
    for layer in LAYERS.values():
        for argument in layer.arguments:
            default = (
                "required"
                if argument.required
                else f"`{shown(argument.default)}`"
                if argument.default is not None
                else ""
            )
            yield f"| `{layer.kind}` | `{argument.name}` | {default} | {argument.expected} | {argument.meaning} |"


def preset_lines() -> Iterator[str]:
    """The table of presets as the page must have it."""
    for preset in PRESETS.values():
        height, width, channels = preset.input or (96, 96, 3)
        outputs = 2 if preset.name in ("tiny", "catsdogs") else 10
        made = table(preset.name, (height, width, channels), outputs)
        size = f"{height}x{width}x{channels}" if preset.input else f"any ({height}x{width}x{channels})"
        yield f"| `{preset.name}` | {preset.about} | {size} | {outputs} | {made.parameters:,} | {made.multiply_adds:,} |"


def kernel_lines() -> Iterator[str]:
    """The table of kernels as the page must have it."""
    for kernel in KERNELS.values():
        fractions = [Fraction(value).limit_denominator(1000) for value in kernel.values]
        whole = math.lcm(*(fraction.denominator for fraction in fractions))
        side = len(kernel.rows)
        rows = [" ".join(str(f * whole) for f in fractions[n * side : (n + 1) * side]) for n in range(side)]
        over = f", over {whole}" if whole > 1 else ""
        yield f"| `{kernel.name}` | {' / '.join(rows)}{over} | {kernel.about} |"


@pytest.mark.parametrize("lines", [layer_lines, argument_lines, preset_lines, kernel_lines])
def test_tables_say_what_the_code_says(lines: Callable[[], Iterator[str]]) -> None:
    wanted = "\n".join(lines())
    assert wanted in PAGE, f"docs/models.md should have these lines:\n{wanted}"


@pytest.mark.parametrize("text", blocks("model"))
def test_every_model_on_the_page_builds(text: str) -> None:
    assert parse(text)
    size = (150, 150, 3) if "dense(1)" in text else (32, 32, 3)
    build(text, size, 2 if "dense(1)" in text else 10)


def test_the_sessions_on_the_page_give_what_they_say() -> None:
    session = doctest.DocTestParser().get_doctest("\n".join(blocks("pycon")), {}, "docs/models.md", "docs/models.md", 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(session, out=report.append)
    assert session.examples and not runner.failures, "".join(report)


@pytest.mark.parametrize("text", blocks("error"))
def test_every_error_on_the_page_is_raised_as_it_says(text: str) -> None:
    """The first line is the model, the rest what the command line prints for an image of 16x16x1 and 10 classes."""
    model, _, message = text.partition("\n")
    with pytest.raises(UsageError) as caught:
        build(model, (16, 16, 1), 10)
    assert message.strip() == f"error: {caught.value}\nhint: {caught.value.hint}".strip()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_presets_have_a_line_of_description(preset: Preset) -> None:
    assert preset.about and "\n" not in preset.about
