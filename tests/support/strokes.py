"""From a small drawing back to the pen strokes that could have made it, so that tests can replay real drawings on the pad."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convoscope.data.builtin import _thinned

Point = tuple[float, float]
Pixel = tuple[int, int]

ENLARGED = 6
SPUR = 1.5  # pixels of the bitmap: shorter branches come from the thinning and not from a hand


def strokes(bitmap: NDArray[np.uint8]) -> list[list[Point]]:
    """The middle lines of a drawing (0 paper, 255 ink) as polylines of (x, y), each 0..1 over the sheet; a dot is a line of one point."""
    height, width = bitmap.shape
    large = Image.fromarray(bitmap).resize((width * ENLARGED, height * ENLARGED), Image.Resampling.BICUBIC)
    # With paper all around, so that a stroke along the edge is thinned from both sides.
    ink = np.pad(np.asarray(large) >= 110, ENLARGED)
    graph = _graph(_thinned(ink))
    lines = list(_lines(graph))
    lines = [line for line in lines if not _is_spur(line, graph)] or lines
    return [
        [
            ((x - ENLARGED + 0.5) / (width * ENLARGED), (y - ENLARGED + 0.5) / (height * ENLARGED))
            for y, x in _smooth(line)
        ]
        for line in lines
    ]


def drawn(lines: list[list[Point]], *, side: int = 256, pen: float = 10) -> NDArray[np.uint8]:
    """The strokes as the page's pad draws them: a round pen, antialiased, uint8 `(side, side)`."""
    scale = 4
    sheet = Image.new("L", (side * scale, side * scale))
    draw = ImageDraw.Draw(sheet)
    radius = pen * scale / 2
    for line in lines:
        points = [(x * side * scale, y * side * scale) for x, y in line]
        if len(points) > 1:
            draw.line(points, fill=255, width=round(2 * radius))
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(sheet.resize((side, side), Image.Resampling.BOX))


def _graph(lines: NDArray[np.bool_]) -> dict[Pixel, list[Pixel]]:
    """Each pixel's neighbours; a diagonal one only where no way around the corner leads to it."""
    pixels = {(int(y), int(x)) for y, x in np.argwhere(lines)}
    graph = {}
    for y, x in pixels:
        straight = [(y + down, x + right) for down, right in ((-1, 0), (0, 1), (1, 0), (0, -1))]
        near = [pixel for pixel in straight if pixel in pixels]
        for down in (-1, 1):
            for right in (-1, 1):
                corner = (y + down, x + right)
                if corner in pixels and not {(y + down, x), (y, x + right)} & pixels:
                    near.append(corner)
        graph[y, x] = near
    return graph


def _lines(graph: dict[Pixel, list[Pixel]]) -> Iterator[list[Pixel]]:
    """From ends and crossings to the next ones; then what is left, which is rings."""
    walked: set[frozenset[Pixel]] = set()

    def walk(start: Pixel, following: Pixel) -> list[Pixel]:
        line = [start]
        while frozenset((line[-1], following)) not in walked:
            walked.add(frozenset((line[-1], following)))
            line.append(following)
            onward = [pixel for pixel in graph[following] if frozenset((following, pixel)) not in walked]
            if len(graph[following]) != 2 or not onward:
                break
            following = onward[0]
        return line

    for rings in (False, True):
        for pixel, near in sorted(graph.items()):
            if not near:
                if not rings:
                    yield [pixel]
                continue
            if len(near) != 2 or rings:
                for following in near:
                    if frozenset((pixel, following)) not in walked:
                        yield walk(pixel, following)


def _is_spur(line: list[Pixel], graph: dict[Pixel, list[Pixel]]) -> bool:
    ends = sorted(len(graph[pixel]) for pixel in (line[0], line[-1]))
    return len(line) < SPUR * ENLARGED and ends[0] == 1 and ends[1] > 2


def _smooth(line: list[Pixel]) -> list[Point]:
    """The steps of the pixels ironed out, the ends kept; every third point is enough."""
    points = np.array(line, dtype=float)
    if len(points) < 3:
        return [(float(y), float(x)) for y, x in points]
    padded = np.concatenate([points[:1].repeat(2, 0), points, points[-1:].repeat(2, 0)])
    mean = np.stack([padded[k : k + len(points)] for k in range(5)]).mean(0)
    mean[0], mean[-1] = points[0], points[-1]
    chosen = [*range(0, len(mean) - 1, 3), len(mean) - 1]
    return [(float(y), float(x)) for y, x in mean[chosen]]
