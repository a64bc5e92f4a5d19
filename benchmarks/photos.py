"""Images a second through the tutorial's network for cats and dogs (150x150, batches of 32), with augmentation:
convoscope against Keras.

Keras reads with `image_dataset_from_directory`, caches the decoded images, and augments with its own layers: flip,
rotation, zoom, shift. convoscope trains the same network with the same batch size and the same augmentations. They
alternate epoch by epoch; the first epoch of each, which prepares the images, is not counted.

    .venv/bin/python benchmarks/photos.py ../shared/data/cats_dogs/train --keras /tmp/keras/bin/python
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from turns import Worker, answer

EPOCHS = 4


def keras_worker(folder: Path) -> None:
    import keras

    layers = keras.layers
    with tempfile.TemporaryDirectory() as place:
        for path in sorted(folder.iterdir()):  # one folder a class, as image_dataset_from_directory wants it
            target = Path(place) / path.name.split(".")[0]
            target.mkdir(exist_ok=True)
            shutil.copy(path, target)
        images = keras.utils.image_dataset_from_directory(
            place,
            image_size=(150, 150),
            batch_size=32,
            label_mode="binary",
            validation_split=0.2,
            subset="training",
            seed=0,
        )
        count = int(images.cardinality()) * 32
        images = images.cache().prefetch(2)
        model = keras.Sequential([
            layers.Input((150, 150, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(15 / 360),
            layers.RandomZoom(0.2),
            layers.RandomTranslation(0.1, 0.1),
            *(
                layer for filters in (32, 64, 128)
                for layer in (layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2))
            ),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ])  # fmt: skip
        model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
        input()
        while True:
            begin = time.perf_counter()
            model.fit(images, epochs=1, verbose=0)
            answer(images_per_second=count / (time.perf_counter() - begin))


def own_worker(folder: Path) -> None:
    from convoscope import training

    class Turns(training.Reporter):
        begin = 0.0
        count = 0

        def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
            if step == steps:
                answer(images_per_second=steps * 32 / (time.perf_counter() - self.begin))
                self.begin = time.perf_counter()

        def start(self, folder: Path, epochs: int) -> None:
            self.begin = time.perf_counter()

    input()
    with tempfile.TemporaryDirectory() as place:
        training.train(
            folder, "catsdogs", output=Path(place) / "run", reporter=Turns(),
            epochs=50, batch_size=32, optimizer="adam", learning_rate=1e-3,
            flip=True, rotate=15.0, zoom=0.2, shift=0.1, crop=1.0, colour=0.0, erase=0.0, validation=0.1, test=0.1,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keras", default="python3")
    parser.add_argument("--worker", choices=["keras", "own"])
    options = parser.parse_args()
    if options.worker:
        return keras_worker(options.folder) if options.worker == "keras" else own_worker(options.folder)
    allocator = next((str(path) for path in Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4")), "")
    command = [__file__, str(options.folder), "--worker"]
    workers = {
        "keras": Worker([options.keras, *command, "keras"], TF_CPP_MIN_LOG_LEVEL="3"),
        "convoscope": Worker([sys.executable, *command, "own"], LD_PRELOAD=allocator),
    }
    rates: dict[str, list[float]] = {name: [] for name in workers}
    for epoch in range(EPOCHS + 1):
        for name, worker in workers.items():
            result = worker.turn()
            if result is None:
                sys.exit(f"{name} ended early")
            if epoch:
                rates[name].append(result["images_per_second"])
            print(f"{name:10}  epoch {epoch + 1}  {result['images_per_second']:6.1f} images/s", flush=True)
    for worker in workers.values():
        worker.stop()
    ratios = sorted(own / keras for own, keras in zip(rates["convoscope"], rates["keras"], strict=True))
    print(f"convoscope / keras: median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}")
    return None


if __name__ == "__main__":
    main()
