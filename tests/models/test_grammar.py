"""Reading a model's text, writing it, and the same tree as JSON."""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from convoscope.errors import UsageError
from convoscope.models import LAYERS, PRESETS, Item, Preset, from_json, kernel_text, parse, to_json, to_text
from convoscope.models.grammar import LONGEST_TEXT
from convoscope.models.items import DEEPEST, MOST_LAYERS
from tests.support.texts import any_items


def test_arguments_by_place_and_by_name() -> None:
    assert parse("conv(32, 5, stride=2)") == parse("conv(filters=32, size=5, stride=2)")
    assert parse("conv(32, 5, stride=2)")[0].given == (("filters", 32), ("size", 5), ("stride", 2))
    assert parse("conv(stride=2, filters=32)") == parse("conv(32, stride=2)")
    assert parse("conv(8)")[0].arguments()["padding"] == "same"
    assert parse("conv(8, 3, 1, valid)") == parse("conv(8, 3, 1, padding=valid)")
    assert parse("leakyrelu(1e-3)")[0].arguments() == {"slope": 0.001}
    assert parse("dense(10, bias=false)")[0].arguments() == {"n": 10, "bias": False}


def test_sizes_of_two_sides_are_height_and_width() -> None:
    assert parse("conv(4, 3x5)")[0].arguments()["size"] == (3, 5)
    assert parse("conv(4, 3x3)") == parse("conv(4, 3)")


def test_white_space_lines_and_comments_do_not_matter() -> None:
    text = """
    conv( 8 ,3 )relu   # the first layer: conv(99) |
    # only a comment
    residual(
        conv(8) norm   # inside
    )
    flatten dense"""
    assert parse(text) == parse("conv(8,3) relu residual(conv(8) norm) flatten dense")
    assert parse("") == () == parse("  # nothing")


def test_places_are_kept_and_do_not_count_in_comparisons() -> None:
    items = parse("relu\n  residual(\n   conv(3))")
    assert [(item.line, item.column) for item in (*items, items[1].branches[0][0])] == [(1, 1), (2, 3), (3, 4)]
    assert Item("relu", line=7) == Item("relu")


def test_kernels_by_name_and_by_numbers() -> None:
    assert parse("kernel(sobel_x)")[0].given == (("values", "sobel_x"),)
    item = parse("kernel(1, 0, -1, 2, 0, -2, 1.5, -0, -1e-3, stride=2, padding=valid, border=reflect)")[0]
    assert item.arguments() == {
        "values": (1, 0, -1, 2, 0, -2, 1.5, 0, -0.001),
        "stride": 2,
        "padding": "valid",
        "border": "reflect",
    }
    assert to_text([item]) == "kernel(1, 0, -1, 2, 0, -2, 1.5, 0, -0.001, stride=2, padding=valid, border=reflect)"
    assert to_json([item])[0]["arguments"]["values"] == [1, 0, -1, 2, 0, -2, 1.5, 0, -0.001]
    assert parse("kernel(blur, 2, valid)") == parse("kernel(stride=2, padding=valid, values=blur)")
    assert parse("kernel(values=2)") == parse("kernel(2)") and parse("kernel(2)")[0].given == (("values", (2.0,)),)
    # Nothing is left of the sign of zero, so that text and JSON give the same bits.
    assert str(parse("kernel(-0.0)")[0].given[0][1]) == "(0.0,)"


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([np.float32, np.float64]), st.data())
def test_kernel_text_gives_the_same_numbers_back(
    height: int, width: int, dtype: type[np.floating[Any]], data: st.DataObject
) -> None:
    floats = st.floats(-1e6, 1e6, width=32 if dtype == np.float32 else 64)
    rows = st.lists(floats, min_size=width, max_size=width)
    kernel = np.array(data.draw(st.lists(rows, min_size=height, max_size=height)), dtype)
    text = kernel_text(kernel)
    ((_, values),) = parse(text)[0].given
    side = max(height, width)
    top, left = ((side - 1) // 2 - (cells - 1) // 2 for cells in (height, width))
    square = np.array(values, dtype).reshape(side, side)
    assert (square[top : top + height, left : left + width] == kernel).all()
    assert np.count_nonzero(square) == np.count_nonzero(kernel)
    assert to_text(parse(text)) == text


def test_kernel_text_is_short_and_takes_tensors() -> None:
    import torch

    assert kernel_text(np.array([[0.1, 1e-5], [-3, 0]], np.float32)) == "kernel(0.1, 1e-05, -3, 0)"
    assert kernel_text([[1, 2, 3]]) == "kernel(0, 0, 0, 1, 2, 3, 0, 0, 0)"
    weight = torch.nn.Parameter(torch.tensor([[0.1]]))
    assert kernel_text(weight) == kernel_text(weight.double().float()) == "kernel(0.1)"
    assert kernel_text(weight.bfloat16()) == "kernel(0.100097656)"


@pytest.mark.parametrize(
    ("values", "message", "code"),
    [
        ([1, 2], "expected rows and columns, from 1 to 31 of each, got shape (2,)", "kernel-shape"),
        (np.zeros((3, 3, 1)), "got shape (3, 3, 1)", "kernel-shape"),
        (np.zeros((0, 3)), "got shape (0, 3)", "kernel-shape"),
        (np.zeros((3, 32)), "got shape (3, 32)", "kernel-shape"),
        ([["a"]], "expected real numbers, got <U1", "kernel-numbers"),
        ([[1j]], "expected real numbers, got complex128", "kernel-numbers"),
        ([[1, float("nan")]], "expected numbers from -1,000,000 to 1,000,000, got nan", "kernel-numbers"),
        ([[-2e6, 0]], "got -2e+06", "kernel-numbers"),
    ],
)
def test_what_kernel_text_refuses(values: ArrayLike, message: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        kernel_text(values)
    assert message in str(caught.value) and caught.value.code == code


def test_layers_that_hold_others() -> None:
    assert parse("parallel(conv(8) relu | | maxpool(3, stride=1, padding=1))")[0].branches == (
        parse("conv(8) relu"),
        (),
        parse("maxpool(3, stride=1, padding=1)"),
    )
    repeated = parse("repeat(3, conv(8) relu)")[0]
    assert repeated.arguments() == {"n": 3} and repeated.branches == (parse("conv(8) relu"),)
    assert parse("repeat(n=3, conv(8) relu)") == (repeated,)


@given(any_items())
def test_text_and_json_give_the_same_items_back(items: tuple[Item, ...]) -> None:
    assert parse(to_text(items)) == items
    tree = to_json(items)
    assert from_json(json.loads(json.dumps(tree))) == items
    assert to_json(from_json(tree)) == tree


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_presets_survive_the_round_trip(preset: Preset) -> None:
    items = parse(preset.text)
    assert parse(to_text(items)) == items == from_json(to_json(items))


def test_json_of_a_tree() -> None:
    assert to_json(parse("conv(8, 3x5) parallel(relu | ) dense")) == [
        {"kind": "conv", "arguments": {"filters": 8, "size": [3, 5]}},
        {"kind": "parallel", "branches": [[{"kind": "relu"}], []]},
        {"kind": "dense"},
    ]


@pytest.mark.parametrize(
    ("text", "place", "expected", "got", "code"),
    [
        ("conv(32) rleu", (1, 10), "a layer (conv, dense,", "`rleu`", "model-unknown-layer"),
        ("conv(8)\n  maxpol(2)", (2, 3), "a layer (", "`maxpol`", "model-unknown-layer"),
        ("residual(conv(8) Relu)", (1, 18), "a layer (", "`Relu`", "model-unknown-layer"),
        ("conv(32", (1, 8), "`)`, `,` or `|`", "the end of the text", "model-syntax"),
        ("conv(32))", (1, 9), "a layer or the end of the text", "`)`", "model-syntax"),
        ("conv(32) relu 3", (1, 15), "a layer, `(` or the end of the text", "`3`", "model-syntax"),
        ("conv[32]", (1, 5), "a layer, `(` or the end of the text", "`[`", "model-syntax"),
        ("conv(3 3)", (1, 8), "`)`, `,` or `|`", "`3`", "model-syntax"),
        ("conv(3,)", (1, 8), "a layer, a number or a size", "`)`", "model-syntax"),
        ("conv(3, size=)", (1, 14), "a layer, a number or a size", "`)`", "model-syntax"),
        ("conv", (1, 1), "conv with filters (number of output maps)", "conv without it", "model-argument"),
        ("conv(3, siez=3)", (1, 9), "an argument of conv (filters, size,", "`siez`", "model-argument"),
        ("relu(slope=3)", (1, 6), "an argument of relu, which has none", "`slope`", "model-argument"),
        ("relu(3)", (1, 6), "`relu` without arguments", "`3`", "model-argument"),
        ("dropout(0.5, 0.5)", (1, 14), "at most 1 argument of dropout", "`0.5`", "model-argument"),
        ("conv(3, filters=3)", (1, 9), "each argument of conv once", "`filters` again", "model-argument"),
        ("conv(size=3, 4)", (1, 14), "arguments without a name before those with one", "`4`", "model-argument"),
        ("conv(0)", (1, 6), "filters to be a whole number from 1 to 65,536", "`0`", "model-argument"),
        ("conv(1.5)", (1, 6), "filters to be a whole number from 1 to 65,536", "`1.5`", "model-argument"),
        ("conv(-3)", (1, 6), "filters to be a whole number from 1 to 65,536", "`-3`", "model-argument"),
        ("conv(" + "9" * 5000 + ")", (1, 6), "filters to be a whole number", "`99999", "model-argument"),
        ("conv(3x3)", (1, 6), "filters to be a whole number", "`3x3`", "model-argument"),
        (
            "conv(8, 0x3)",
            (1, 9),
            "size to be a size such as 3 or 3x5 (sides from 1 to 1,000)",
            "`0x3`",
            "model-argument",
        ),
        ("conv(8, border=foo)", (1, 16), "border to be zeros or reflect or replicate", "`foo`", "model-argument"),
        ("conv(8, bias=1)", (1, 14), "bias to be true or false", "`1`", "model-argument"),
        ("conv(8, padding=full)", (1, 17), "or same or valid", "`full`", "model-argument"),
        ("kernel", (1, 1), "kernel with values (the kernel's numbers, or", "kernel without", "model-argument"),
        (
            "kernel(sobel)",
            (1, 8),
            "values to be the numbers of a square, row by row (1, 4, 9, ... or 961 of them, from -1,000,000 to 1,000,000) or "
            "identity or blur or",
            "`sobel`",
            "model-argument",
        ),
        ("relu\nkernel( 1, 2,\n3)", (2, 9), "values to be the numbers of a square", "3 numbers", "model-argument"),
        ("kernel(" + "0, " * 1023 + "0)", (1, 8), "values to be", "1024 numbers", "model-argument"),
        ("kernel(1, 2, 3, 1e7)", (1, 17), "values to be", "`1e7`", "model-argument"),
        ("kernel(1, 2e999, 3, 4)", (1, 11), "values to be", "`2e999`", "model-argument"),
        ("kernel(1, 0, 0, -1, 2x3)", (1, 21), "values to be", "`2x3`", "model-argument"),
        ("kernel(3x3)", (1, 8), "values to be", "`3x3`", "model-argument"),
        ("kernel(1, 2 | 3, 4)", (1, 1), "no `|` inside kernel", "2 branches", "model-syntax"),
        ("kernel(1, 2, 3, 4, 5)", (1, 8), "values to be", "5 numbers", "model-argument"),
        ("kernel(blur, blur)", (1, 14), "stride to be a size", "`blur`", "model-argument"),
        ("kernel(1, stride=2, values=1)", (1, 21), "each argument of kernel once", "`values` again", "model-argument"),
        ("kernel(blur, padding=1.5)", (1, 22), "padding to be a size", "`1.5`", "model-argument"),
        ("dropout(1)", (1, 9), "p to be a number from 0 to 0.999", "`1`", "model-argument"),
        ("dropout(nan)", (1, 9), "p to be a number from 0 to 0.999", "`nan`", "model-argument"),
        ("dropout(1e999)", (1, 9), "p to be a number from 0 to 0.999", "`1e999`", "model-argument"),
        ("conv(8, conv(3))", (1, 9), "size=a size", "`conv ( 3 )`", "model-argument"),
        ("conv(8 | 9)", (1, 1), "no `|` inside conv", "2 branches", "model-syntax"),
        ("residual()", (1, 1), "layers inside residual", "none", "model-syntax"),
        ("residual", (1, 1), "layers inside residual", "none", "model-syntax"),
        ("residual(relu | relu)", (1, 1), "no `|` inside residual", "2 branches", "model-syntax"),
        ("residual(conv(3), relu)", (1, 19), "layers inside residual with white space between", "`,`", "model-syntax"),
        ("residual(3)", (1, 10), "a layer", "`3`", "model-syntax"),
        ("parallel(conv(3))", (1, 1), "from 2 to 64 branches with `|` between them", "1", "model-syntax"),
        ("repeat(conv(3))", (1, 8), "n=a whole number from 1 to 1,000", "`conv ( 3 )`", "model-argument"),
        ("repeat(2)", (1, 1), "layers inside repeat", "none", "model-syntax"),
        ("repeat(1001, relu)", (1, 8), "n to be a whole number from 1 to 1,000", "`1001`", "model-argument"),
        (
            "residual(" * 51 + "relu" + ")" * 51,
            (1, 459),
            "at most 50 brackets inside each other",
            "one more",
            "model-too-big",
        ),
    ],
)
def test_errors_say_where_what_was_expected_and_what_came(
    text: str, place: tuple[int, int], expected: str, got: str, code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    error = caught.value
    line_number, column = place
    assert str(error).startswith(f"model, line {line_number}, column {column}: expected ")
    assert expected in error.reason.split(", got ")[0] and error.reason.split(", got ")[-1].startswith(got)
    assert (error.code, error.exit_code) == (code, 2)
    # The hint ends with the line and a caret under the place.
    line, caret = error.hint.split("\n")[-2:]
    assert caret.strip() == "^"
    if column < 40:
        assert len(caret) - 3 == column - 1 and line[2:].rstrip() in text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("conv(32) rleu", "did you mean relu?"),
        ("globalaverage", "did you mean globalavg?"),
        ("Conv(3)", "did you mean conv?"),
        ("conv(3, siez=3)", "did you mean size?"),
        ("relu\nresidual(conv(3)", "the `(` of line 2, column 9 is not closed"),
        ("kernel(Sobel_XX)", "did you mean sobel_x?"),
        ("kernel(1, 2, 3)", "1x1 has 1 and 2x2 has 4 numbers"),
        ("kernel(" + "0, " * 1023 + "0)", "the largest kernel is 31x31"),
        ("kernel", "write for instance kernel(sobel_x), or kernel(1, 0, -1,"),
        ("conv", "write for instance conv(filters, size=3, stride=1, padding=same,"),
        ("parallel(conv(3))", "parallel(conv(16, 1) | conv(16, 3))"),
        ("repeat(2)", "repeat(2, conv(32) relu)"),
        ("residual()", "residual(conv(32) relu conv(32))"),
    ],
)
def test_hints(text: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.hint.startswith(advice)


def test_hints_show_no_control_characters() -> None:
    with pytest.raises(UsageError) as caught:
        parse("conv(3) \x1b[31m")
    assert "\x1b" not in str(caught.value) + caught.value.hint and "`\\x1b`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("relu " * 5000, f"a model's text may have {LONGEST_TEXT:,} characters; this one has 25,000"),
        ("(" * LONGEST_TEXT, f"expected at most {DEEPEST} brackets inside each other"),
        (
            "repeat(1000, repeat(1000, repeat(1000, relu)))",
            f"a model may have {MOST_LAYERS:,} layers; this one has 1,000,000,000",
        ),
    ],
)
def test_hostile_texts_are_refused_early(text: str, message: str) -> None:
    with pytest.raises(UsageError, match="model") as caught:
        parse(text)
    assert message in str(caught.value) and caught.value.code == "model-too-big"


@given(st.text(alphabet="conv(32)relu parallel|=,xX#\n.-e0_é\0\t", max_size=60))
def test_any_text_parses_or_is_refused_with_a_usage_error(text: str) -> None:
    try:
        items = parse(text)
    except UsageError as error:
        assert error.reason.startswith("expected ") and error.code.startswith("model-")
    else:
        assert parse(to_text(items)) == items


@given(
    st.lists(
        st.sampled_from(["conv(3", "relu", ")", "(", "|", ",", "residual(", "n=3", "repeat(2,", "3x4", "true"]),
        max_size=12,
    )
)
def test_any_sequence_of_words_parses_or_is_refused_with_a_usage_error(words: list[str]) -> None:
    try:
        items = parse(" ".join(words))
    except UsageError as error:
        assert error.reason.startswith("expected ")
    else:
        assert from_json(to_json(items)) == items


def deep_tree(levels: int) -> list[dict[str, Any]]:
    tree: list[dict[str, Any]] = [{"kind": "relu"}]
    for _ in range(levels):
        tree = [{"kind": "residual", "branches": [tree]}]
    return tree


@pytest.mark.parametrize(
    ("tree", "message", "code"),
    [
        ({"kind": "relu"}, "model: expected a list of layers, got {'kind': 'relu'}", "model-json"),
        (["relu"], "model[0]: expected a layer with kind, arguments and branches, got 'relu'", "model-json"),
        ([{"kind": "relu", "x": 1}], "model[0]: expected a layer with kind", "model-json"),
        ([{"kind": "rleu"}], "model[0].kind: expected a layer, got 'rleu'", "model-json"),
        ([{"kind": 3}], "model[0].kind: expected a layer, got 3", "model-json"),
        ([{"kind": "conv"}], "model[0].arguments: expected conv with filters, got []", "model-json"),
        ([{"kind": "conv", "arguments": [3]}], "model[0].arguments: expected names and values, got [3]", "model-json"),
        (
            [{"kind": "conv", "arguments": {"filters": True}}],
            "model[0].arguments.filters: expected a whole number",
            "model-json",
        ),
        (
            [{"kind": "conv", "arguments": {"filters": 3, "size": [3, 0]}}],
            "model[0].arguments.size: expected a size",
            "model-json",
        ),
        (
            [{"kind": "dropout", "arguments": {"p": float("nan")}}],
            "model[0].arguments.p: expected a number",
            "model-json",
        ),
        (
            [{"kind": "kernel", "arguments": {"values": [1, 2, 3]}}],
            "model[0].arguments.values: expected the numbers of a square",
            "model-json",
        ),
        ([{"kind": "kernel", "arguments": {"values": [[1]]}}], "arguments.values: expected the numbers", "model-json"),
        ([{"kind": "kernel", "arguments": {"values": [True]}}], "arguments.values: expected the numbers", "model-json"),
        ([{"kind": "kernel", "arguments": {"values": [float("nan")]}}], "values: expected the numbers", "model-json"),
        ([{"kind": "kernel", "arguments": {"values": "sobel"}}], "or emboss, got 'sobel'", "model-json"),
        ([{"kind": "kernel"}], "model[0].arguments: expected kernel with values, got []", "model-json"),
        ([{"kind": "conv", "arguments": {"filter": 3}}], "expected arguments of conv (filters, size", "model-json"),
        ([{"kind": "relu", "branches": [[]]}], "model[0].branches: expected relu without branches", "model-json"),
        ([{"kind": "relu", "branches": 3}], "model[0].branches: expected a list of chains, got 3", "model-json"),
        ([{"kind": "residual"}], "model[0].branches: expected layers inside residual, got 'none'", "model-json"),
        (
            [{"kind": "parallel", "branches": [[], 3]}],
            "model[0].branches[1]: expected a list of layers, got 3",
            "model-json",
        ),
        (deep_tree(60), "a model may have 5,000 layers and 50 levels", "model-too-big"),
        ([{"kind": "relu"}] * 6000, "a model may have 5,000 layers and 50 levels", "model-too-big"),
        (
            [{"kind": "repeat", "arguments": {"n": 1000}, "branches": [[{"kind": "relu"}] * 6]}],
            "a model may have 5,000 layers; this one has 6,000",
            "model-too-big",
        ),
    ],
)
def test_json_is_checked_as_a_text_is(tree: object, message: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_json(tree)
    assert message in str(caught.value) and caught.value.code == code


def test_catalogue_describes_every_layer() -> None:
    for kind, layer in LAYERS.items():
        assert layer.kind == kind and layer.meaning
        for argument in layer.arguments:
            assert argument.meaning and argument.expected
            if argument.default is not None:
                assert argument.accept(argument.default) == argument.default


def test_reading_a_text_and_its_table_imports_no_torch() -> None:
    code = (
        "import sys; from convoscope.models import parse, table, to_json, PRESETS\n"
        "to_json(parse(PRESETS['catsdogs'].text)); table('resnet-small', (96, 96, 3), 10)\n"
        "print([name for name in ('torch', 'torchvision', 'timm') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ('conv(8, padding="valid")', "conv(8, padding=valid)"),
        ("conv(8, padding='valid')", "conv(8, padding=valid)"),
        ("conv(8, padding=VALID, border='Reflect')", "conv(8, padding=valid, border=reflect)"),
        ('conv(8, 3, 1, "SAME")', "conv(8, 3, 1, same)"),
        ("conv(8, bias=False)", "conv(8, bias=false)"),
        ('kernel("sobel_x")', "kernel(sobel_x)"),
        ("kernel(Sobel_X)", "kernel(sobel_x)"),
    ],
)
def test_words_may_be_written_as_other_libraries_write_them(text: str, same: str) -> None:
    assert to_text(parse(text)) == to_text(parse(same))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('conv("8")', "filters to be a whole number"),
        ('conv(8, padding="vald")', "padding to be"),
        ('conv(8, padding="valid)', 'got `"`'),
        ('conv(8, padding="")', "padding to be"),
        ('"conv"(8)', 'got `"conv"`'),
    ],
)
def test_what_is_in_quotes_is_a_word_that_the_argument_takes(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert reason in caught.value.reason
    assert caught.value.path.startswith("model, line 1, column ")
