"""Make src/convoscope/data/builtin/drawings.npz from a file of Quick, Draw! drawings.

    python tools/make_drawings.py quickdraw345.npz

The source holds `images` uint8 (N, 28, 28), `labels` (N,) and `names` (K,). 20 classes are taken as they are; nothing
is chosen within a class. The result is the same, byte for byte, each time.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[1] / "src" / "convoscope" / "data" / "builtin" / "drawings.npz"

# Things that a child knows and draws, that look different from each other, and that a small network tells apart.
CLASSES = (
    *("apple", "banana", "bicycle", "butterfly", "cactus", "cat", "envelope", "eyeglasses", "fish", "flower", "house"),
    *("ice cream", "sailboat", "snail", "snowman", "star", "street light", "sun", "tree", "umbrella"),
)
SOURCE_NAMES = {"street light": "streetlight"}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("source", type=Path, help="the .npz with images, labels and names")
    with np.load(arguments.parse_args().source, allow_pickle=False) as source:
        images, labels, names = source["images"], source["labels"], [str(name) for name in source["names"]]
    classes = sorted(CLASSES)
    chosen = [images[labels == names.index(SOURCE_NAMES.get(name, name))] for name in classes]
    arrays = {
        "images": np.concatenate(chosen).astype(np.uint8),
        "labels": np.repeat(np.arange(len(classes)), [len(part) for part in chosen]).astype(np.uint8),
        "names": np.array(classes),
    }
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())
    print(f"{TARGET}: {len(arrays['images'])} drawings, {TARGET.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
