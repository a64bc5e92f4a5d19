"""Whether a photograph has the same pixels by every way of handing it over; and what decoding costs.

    python benchmarks/pixels.py FOLDER            # photographs: path = bytes = Pillow = array, bit for bit
    python benchmarks/pixels.py FOLDER --seconds  # processor time for one JPEG of 12 megapixels made of them

To compare with another version, run both alternately: `PYTHONPATH=OTHER/src python benchmarks/pixels.py ...`.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from convoscope.data import InputFormat, open_image


def compare(files: list[Path]) -> None:
    """Count the photographs whose pixels differ between any two ways."""
    for resize in ("fit", "crop", "stretch"):
        for channels in (3, 1):
            form = InputFormat(height=96, width=96, channels=channels, resize=resize)
            different = 0
            for file in files:
                data = file.read_bytes()
                loaded = Image.open(io.BytesIO(data))
                loaded.load()
                array = np.asarray(ImageOps.exif_transpose(loaded))
                ways = (
                    data,
                    Image.open(io.BytesIO(data)),
                    loaded,
                    loaded.convert("RGB"),
                    array,
                    array / np.float32(255),
                )
                expected = open_image(file, form)
                different += not all(np.array_equal(open_image(way, form), expected) for way in ways)
            print(f"{resize:8} {'grey' if channels == 1 else 'colour':7} {len(files)} photographs, {different} differ")


def measure(files: list[Path]) -> None:
    """The median of 15 rounds, in processor time, so that other programs count little."""
    sheet = Image.new("RGB", (4000, 3000))
    for place, file in enumerate(files[:80]):
        with Image.open(file) as picture:
            sheet.paste(picture.convert("RGB").resize((400, 375)), (place % 10 * 400, place // 10 * 375))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90)
    for side in (96, 224):
        form = InputFormat(height=side, width=side, channels=3, resize="stretch")
        taken = []
        for _ in range(15):
            start = time.process_time()
            open_image(buffer.getvalue(), form)
            taken.append(time.process_time() - start)
        print(f"{side} px: {1000 * float(np.median(taken)):.1f} ms for {len(buffer.getvalue()) / 1e6:.1f} MB of JPEG")


def main() -> None:
    files = sorted(Path(sys.argv[1]).rglob("*.jpg"))[:500]
    if "--seconds" in sys.argv:
        measure(files)
    else:
        compare(files)


if __name__ == "__main__":
    main()
