"""Files with impossible content: values of the wrong kind put into well-formed files, and bytes changed at random. All by seed."""

import copy
import hashlib
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from convoscope.training.core import checkpoint

DEEP = "@deep@"
"""Stands for 100,000 nested lists, which no library would write."""
_LISTS = "[" * 100_000 + "]" * 100_000

VALUES: tuple[Any, ...] = (
    None, "", "²", "x", "\0", "\ud800", "../../x", "3", "9" * 40, "a" * 100_000, True, False, -1, 0, 1, 2, 7, 1_000_000,
    10**9, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, [], {}, [[]], [None], ["a", "a"],
    [0, 0], [1.5], {"": {}}, {"a": [1]}, [{}] * 3, [[0.1, 0.2]] * 3, list(range(1000)), ["a"] * 20_000, DEEP,
)  # fmt: skip
"""What is put in place of any value."""


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where anything stands in JSON: a way of keys and positions. Of long lists only the first places."""
    yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*path, key))
    elif isinstance(content, list):
        for position, value in enumerate(content[:3]):
            yield from places(value, (*path, position))


def mutated(content: Any, rng: random.Random, *, top: bool = True) -> Any:
    """The content with one or two changes: a value replaced, scaled, left out or doubled, a key added. `top`: or all of it."""
    content = copy.deepcopy(content)
    for _ in range(rng.choice((1, 1, 1, 2))):
        path = rng.choice(list(places(content))[0 if top else 1 :])
        if not path:
            return copy.deepcopy(rng.choice(VALUES))
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        key, kind = path[-1], rng.random()
        if kind < 0.65:
            parent[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind < 0.8:
            del parent[key]
        elif isinstance(parent, dict) and kind < 0.85:
            parent["more"] = copy.deepcopy(rng.choice(VALUES))
        elif isinstance(parent, list):
            parent.extend(copy.deepcopy(parent[:3]))
        elif isinstance(parent[key], (int, float)):
            parent[key] = parent[key] * rng.choice((-1, 2, 1000))
        elif isinstance(parent[key], str):
            parent[key] = parent[key] * 2
        if not isinstance(content, (dict, list)) or not content:
            return content
    return content


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes with a few changes: some replaced, cut out, doubled, or put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        if not data:
            break
        place = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[place : place + rng.choice((1, 8, 100))]
        elif kind == 2:
            data[place:place] = data[place : place + rng.choice((1, 8, 100))]
        elif kind == 3:
            data[place:place] = rng.choice(
                (b"\0", b"\xff", b"\xc2\xb2", b"[" * 100_000, b'"', b"\n", b"-", b"9" * 5000, b"1e999", b"nan", b"\\ud800", b",", b"a." * 20_000, b"=")
            )  # fmt: skip
        else:
            digits = [found.span() for found in re.finditer(rb"[\d.]+", data)]
            if digits:
                begin, end = rng.choice(digits)
                data[begin:end] = rng.choice((b"", b"-1", b"0", b"1e999", b"nan", b"9" * 30, b"0x10", b"'3'", b"1_0"))
    return bytes(data)


def json_text(content: Any) -> str:
    """As JSON, with what stands for depth made deep."""
    return json.dumps(content).replace(json.dumps(DEEP), _LISTS)


def toml_text(content: Any) -> str | None:
    """As TOML, or None where TOML cannot say it."""
    import tomli_w

    try:
        return tomli_w.dumps(content).replace(json.dumps(DEEP), "[" * 5_000 + "]" * 5_000)
    except (TypeError, ValueError, AttributeError):
        return None


def seal(tensors: dict[str, Tensor], state: str, **metadata: str) -> bytes:
    """A checkpoint as convoscope seals it, which anybody can."""
    zeros = "0" * 64
    told = {"convoscope": str(checkpoint.FORMAT), "state": state, "sha256": zeros} | metadata
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    content = bytearray(safetensors.torch.save(plain, told))
    start = content.index(b'"sha256":"' + zeros.encode()) + len(b'"sha256":"')
    content[start : start + 64] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def other_tensors(tensors: dict[str, Tensor], rng: random.Random) -> dict[str, Tensor]:
    """The tensors with one missing, one more, or one of another shape, type or content."""
    import torch

    result = dict(tensors)
    name = rng.choice(sorted(result))
    value = result.pop(name)
    kind = rng.randrange(9)
    if kind == 0:
        return result
    if kind == 1:
        result[name] = value
        part = name.rpartition(".")[0]
        result[
            rng.choice(
                ("more", "model.more", f"{part}.more", "optimizer.0.x.exp_avg", "optimizer.0.0", "optimizer.9.0.step")
            )
        ] = value
    elif kind == 2:
        result[name] = value.to(
            rng.choice((torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.complex64))
        )
    elif kind == 3:
        result[name] = value.reshape(-1)[: rng.randrange(3)].clone()
    elif kind == 4:
        result[name] = torch.stack([value, value])
    elif kind == 5:
        result[name] = torch.full_like(value, -1)
    elif kind == 6 and value.is_floating_point():
        result[name] = torch.full_like(
            value, rng.choice((math.nan, math.inf, 1e38)) if value.dtype != torch.float16 else math.nan
        )
    elif kind == 7:
        result[f"{name}²"] = value
    else:
        prefix = name.split(".")[0]
        return {other: kept for other, kept in tensors.items() if not other.startswith(prefix)}
    return result


# --- .npy headers --------------------------------------------------------------------------------------------------------

DTYPES = (
    "'|u1'", "'<f4'", "'<i8'", "'<f2'", "'|b1'", "'<U3'", "'|S3'", "'<f16'", "'<c16'", "'|O'", "'<M8'", "'<M8[ns]'", "'<m8'", "'|S0'", "'<U0'",
    "'|V4'", "'V'", "'<u9'", "'|u1,|u1'", "[('a', '<f4')]", "[('a', '<f4', (1000000, 1000000))]", "'object'", "'float'", "''", "None", "7", "'(2,3)f4'",
    "'<U999999999'", "{'names': ['a'], 'formats': ['u1']}", "'\\udc80'", "'²'",
)  # fmt: skip
SHAPES = (
    "(8, 4, 4)", "(8, 16)", "(8,)", "()", "(0,)", "(0, 4, 4)", "(8, 0, 4)", "(-1, 4, 4)", "(8, -4, -4)", "(1000000000000, 4, 4)",
    "(1000000000000, 0, 0)", "(4294967296, 4294967296, 4294967296)", "(9223372036854775807, 2, 2)", "(" + "9" * 5000 + ",)", "(8, 4, 4, 1, 1, 1)", "8",
    "[8, 4, 4]", "(8.0, 4, 4)", "(True, 4, 4)", "('8', 4, 4)", "None", "(" * 3000 + ")" * 3000, "(2, 2, 4, 4)", "(" + "1," * 70 + ")", "(-" + "-" * 4000 + "1,)",
)  # fmt: skip


def npy(rng: random.Random, values: bytes) -> bytes:
    """An array file whose header says something that may not be so."""
    dtype = "'|u1'" if rng.random() < 0.4 else rng.choice(DTYPES)
    shape = "(8, 4, 4)" if rng.random() < 0.4 else rng.choice(SHAPES)
    order = "False" if rng.random() < 0.7 else rng.choice(("True", "1", "None", "'C'", "[]"))
    parts = [f"'descr': {dtype}", f"'fortran_order': {order}", f"'shape': {shape}"]
    if rng.random() < 0.15:
        rng.shuffle(parts)
        if rng.random() < 0.5:
            parts.pop()
        else:
            parts.append(rng.choice(("'more': 1", "'shape': (1,)", "[" * 200 + "]" * 200, "__import__('os')", "1+1")))
    header = ("{" + ", ".join(parts) + ", }").encode("utf-8", "surrogatepass") + b"\n"
    version = (1, 0) if rng.random() < 0.7 else rng.choice(((2, 0), (3, 0), (9, 0), (0, 0), (1, 1)))
    size = 2 if version == (1, 0) else 4
    length = (
        len(header)
        if rng.random() < 0.85
        else rng.choice((0, 1, len(header) - 3, len(header) + 50, 2**16 - 1, 2**32 - 1))
    )
    magic = b"\x93NUMPY" if rng.random() < 0.97 else b"\x93NUMPZ"
    content: bytes = (
        magic
        + bytes(version)
        + (length % (1 << 8 * size)).to_bytes(size, "little")
        + header
        + values[: rng.choice((len(values), len(values), 3, 0))]
    )
    return content


def write(path: Path, content: bytes | str) -> Path:
    """The content in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path
