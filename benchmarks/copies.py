"""1,000 pictures in 250 groups of copies and near copies: is a group ever in two parts?

    python benchmarks/copies.py [--pictures 1000]

Each group has four pictures of one scene: saved again, scaled, a little brighter, cropped by a pixel, a copy of the
file. They lie in class folders. In a table with a column of groups, and in folders whose names show the group, the
pictures of a group are of different scenes: only column and names tell. Prints for each kind how many groups are in two
parts, how large the parts are, and the seconds of the first and the second reading.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from convoscope.data import InputFormat, load, prepare

FORM = InputFormat(height=64, width=64, channels=3)


def scene(seed: int) -> Image.Image:
    """A smooth picture of its own for each seed, with some grain."""
    random = np.random.default_rng(seed)
    rough = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    pixels = np.asarray(rough.resize((200, 150), Image.Resampling.BICUBIC)).astype(float) + random.normal(
        0, 6, (150, 200, 1)
    )
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def copies(seed: int) -> list[bytes]:
    """A scene four times: as it is, its file again, and two of the usual changes."""
    image = scene(seed)
    changes = [
        (image, 60),
        (image.resize((100, 75)), 90),
        (image.resize((340, 255), Image.Resampling.LANCZOS), 85),
        (Image.fromarray(np.clip(np.asarray(image).astype(int) + 2, 0, 255).astype(np.uint8)), 92),
        (image.crop((1, 1, 200, 150)), 92),
        (ImageEnhance.Contrast(image).enhance(0.8), 80),
    ]
    one, other = np.random.default_rng(seed).choice(len(changes), 2, replace=False)
    first = saved(image, 95)
    return [first, first, saved(*changes[one]), saved(*changes[other])]


def saved(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    groups = parser.parse_args().pictures // 4
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        group_of: dict[str, int] = {}
        rows = ["path,label,patient"]
        for group in range(groups):
            for number, content in enumerate(copies(group)):
                label = ("cat", "dog", "owl", "hen")[group % 4]
                # Names say nothing of the group.
                name = f"{label}/{(group * 4 + number) * 7919 % 1_000_003:07d}.jpg"
                (folder / "copies" / label).mkdir(parents=True, exist_ok=True)
                (folder / "copies" / name).write_bytes(content)
                group_of[name] = group
            for number in range(4):
                label = ("cat", "dog", "owl", "hen")[(group + number // 2) % 4]
                name = f"{label}/P{group:04d}_{number}.jpg"
                (folder / "named" / label).mkdir(parents=True, exist_ok=True)
                (folder / "named" / name).write_bytes(saved(scene(100_000 + 4 * group + number), 85))
                rows.append(f"{name},{label},P{group:04d}")
        (folder / "named.csv").write_text("\n".join(rows) + "\n")
        named = {name.partition(",")[0]: name.rpartition(",")[2] for name in rows[1:]}
        show("folders", folder / "copies", group_of, folder / "cache")
        show("pattern", folder / "named", named, folder / "cache", group_pattern=r"/(P\d+)_")
        show("table", folder / "named.csv", named, folder / "cache", group="patient", root=str(folder / "named"))


def show(kind: str, source: Path, group_of: dict[str, object], cache: Path, **options: str) -> None:
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        dataset = prepare(load(source, **options), FORM, cache=cache).dataset  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - begin)
    parts: dict[object, set[int]] = {}
    for name, part in zip(dataset.names, dataset.splits.tolist(), strict=True):
        parts.setdefault(group_of[name], set()).add(part)
    torn = sum(len(each) > 1 for each in parts.values())
    sizes = np.bincount(dataset.splits, minlength=3).tolist()
    print(f"{kind:8} groups in two parts: {torn} of {len(parts)}; training, validation, test: {sizes};", end=" ")
    print(f"{seconds[0]:.2f} s, then {seconds[1]:.2f} s")


if __name__ == "__main__":
    main()
