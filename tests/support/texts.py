"""Hypothesis strategies: any items of the grammar, and small models whose layers fit together."""

from hypothesis import strategies as st

from convoscope.models import KERNELS, LAYERS, Argument, Item, Value, kinds_of

sides = st.integers(1, 9)


def normal(size: tuple[int, int]) -> Value:
    return size[0] if size[0] == size[1] else size


def value_of(argument: Argument) -> st.SearchStrategy[Value]:
    """A value that the argument accepts, in its normal form."""
    low, high = int(argument.minimum), int(min(argument.maximum, 1000))
    by_kind: st.SearchStrategy[Value] = {
        "count": st.integers(low, high),
        "size": st.one_of(
            st.integers(low, high), st.tuples(st.integers(low, high), st.integers(low, high)).map(normal)
        ),
        "number": st.floats(argument.minimum, argument.maximum),
        "numbers": st.integers(1, 4).flatmap(
            lambda side: st.lists(
                st.floats(argument.minimum, argument.maximum), min_size=side**2, max_size=side**2
            ).map(lambda numbers: tuple(number + 0.0 for number in numbers))
        ),
        "flag": st.booleans(),
        "word": st.nothing(),
    }[argument.kind]
    return st.one_of(by_kind, st.sampled_from(argument.words)) if argument.words else by_kind


@st.composite
def any_item(draw: st.DrawFn, inside: st.SearchStrategy[Item]) -> Item:
    kind = draw(st.sampled_from(list(LAYERS)))
    layer = LAYERS[kind]
    given = tuple((a.name, draw(value_of(a))) for a in layer.arguments if a.required or draw(st.booleans()))
    least, most = layer.branches
    chains = st.lists(inside, min_size=1 if kind != "parallel" else 0, max_size=3).map(tuple)
    branches = draw(st.lists(chains, min_size=least, max_size=min(most, 3)).map(tuple)) if most else ()
    if kind == "repeat":
        given = (("n", draw(st.integers(1, 5))),)
    return Item(kind, given, branches)


leaf = st.sampled_from(
    [kind for kind, layer in LAYERS.items() if not any(a.required for a in layer.arguments) and not layer.branches[1]]
)


def any_items() -> st.SearchStrategy[tuple[Item, ...]]:
    """Items that may not fit together: for the grammar."""
    inner = st.recursive(leaf.map(Item), any_item, max_leaves=4)
    return st.lists(any_item(inner), max_size=4).map(tuple)


@st.composite
def convolution(draw: st.DrawFn, *, keep_size: bool = False) -> str:
    arguments = [str(draw(st.sampled_from([2, 4, 6])))]
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    arguments.append(f"{height}x{width}")
    if not keep_size:
        arguments.append(f"stride={draw(st.integers(1, 2))}x{draw(st.integers(1, 3))}")
        arguments.append(draw(st.sampled_from(["padding=same", "padding=valid", "padding=1", "padding=0x2"])))
    arguments.append(f"dilation={draw(st.integers(1, 2))}")
    arguments.append(f"border={draw(st.sampled_from(['zeros', 'replicate']))}")
    arguments.append(f"bias={draw(st.sampled_from(['true', 'false']))}")
    return f"conv({', '.join(arguments)})"


@st.composite
def kernel(draw: st.DrawFn, *, keep_size: bool = False) -> str:
    side = draw(st.integers(1, 4))
    numbers = draw(st.lists(st.integers(-3, 3).map(lambda n: n / 2), min_size=side**2, max_size=side**2))
    arguments = [draw(st.sampled_from([*KERNELS, ", ".join(map(str, numbers))]))]
    if not keep_size:
        arguments.append(f"stride={draw(st.integers(1, 2))}x{draw(st.integers(1, 3))}")
        arguments.append(draw(st.sampled_from(["padding=same", "padding=valid", "padding=1", "padding=0x2"])))
    arguments.append(f"border={draw(st.sampled_from(['zeros', 'replicate', 'reflect']))}")
    return f"kernel({', '.join(arguments)})"


@st.composite
def pooling(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["maxpool", "avgpool", "sumpool"]))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.sampled_from(["", ", stride=1", ", stride=2", ", stride=1x2"]))
    padding = draw(st.sampled_from(["", ", padding=1"])) if height > 1 and width > 1 else ""
    return f"{kind}({height}x{width}{stride}{padding})"


plain = st.sampled_from([*sorted(kinds_of("activation")), "leakyrelu(0.2)", "norm", "dropout(0.3)"])


@st.composite
def model_texts(draw: st.DrawFn) -> str:
    """Texts of models that mostly fit images of 12 to 24 pixels."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(
            st.sampled_from(["conv", "conv", "kernel", "pool", "plain", "residual", "strided", "parallel", "repeat"])
        )
        inside = st.one_of(convolution(keep_size=True), kernel(keep_size=True), plain)
        same = " ".join(draw(st.lists(inside, min_size=1, max_size=3)))
        if kind == "conv":
            parts.append(draw(convolution()))
        elif kind == "kernel":
            parts.append(draw(kernel()))
        elif kind == "pool":
            parts.append(draw(pooling()))
        elif kind == "plain":
            parts.append(draw(plain))
        elif kind == "residual":
            parts.append(f"residual({same})")
        elif kind == "strided":
            parts.append(f"residual(conv(6, stride={draw(st.sampled_from(['2', '1x2']))}) norm {same})")
        elif kind == "parallel":
            parts.append(
                f"parallel({same} | {draw(st.sampled_from(['', 'conv(3, 1)', 'maxpool(3, stride=1, padding=1)']))})"
            )
        else:
            parts.append(f"repeat({draw(st.integers(1, 3))}, {same})")
    parts.append(
        draw(st.sampled_from(["globalavg", "flatten", "flatten dense(8) relu", "flatten norm residual(dense(5) relu)"]))
    )
    return " ".join([*parts, "dense"])
