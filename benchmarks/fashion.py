"""Seconds of training until 91 % of Fashion-MNIST's test images are right: convoscope's default recipe against Keras.

Both train the tutorial's network (421,642 parameters), Keras as in the tutorial: Adam, batches of 32. They alternate
epoch by epoch; only training is timed, not testing. convoscope holds out 5,000 of the training images for validation.

    .venv/bin/python benchmarks/fashion.py ../shared/data/fashion-mnist --keras /tmp/keras/bin/python
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path

from turns import Worker, answer

sys.path.insert(0, str(Path(__file__).parent))

GOAL = 0.91


def keras_worker(folder: Path) -> None:
    import keras
    import numpy as np

    def idx(name: str, header: int) -> np.ndarray:
        with gzip.open(folder / name) as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    images = {
        part: idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1).astype("float32") / 255
        for part in ("train", "t10k")
    }
    labels = {part: idx(f"{part}-labels-idx1-ubyte.gz", 8).astype("int64") for part in ("train", "t10k")}
    keras.utils.set_random_seed(int(os.environ["SEED"]))
    model = keras.Sequential([
        keras.layers.Input((28, 28, 1)),
        keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
    ])  # fmt: skip
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    input()
    while True:
        begin = time.perf_counter()
        model.fit(images["train"], labels["train"], batch_size=32, epochs=1, verbose=0)
        seconds = time.perf_counter() - begin
        accuracy = model.evaluate(images["t10k"], labels["t10k"], batch_size=500, verbose=0)[1]
        answer(seconds=seconds, accuracy=float(accuracy))


def own_worker(folder: Path) -> None:
    from convoscope import data, training
    from convoscope.training.fit import loop
    from convoscope.training.fit.split import Split

    original = loop.evaluate
    state: dict[str, object] = {"untimed": 0.0}

    def also_test(job, network, part, size, signals):  # type: ignore[no-untyped-def]
        begin = time.perf_counter()
        result = original(job, network, part, size, signals)
        dataset = state.setdefault("dataset", data.load(folder, seed=job.seed))
        rows = dataset.indices("test")
        test = Split(pixels=part.pixels, rows=rows, targets=job.objective.targets(dataset.targets[rows]))
        state["accuracy"] = original(job, network, test, size, signals)[1]
        state["untimed"] = time.perf_counter() - begin
        return result

    class Turns(training.Reporter):
        def epoch(self, row, best):  # type: ignore[no-untyped-def]
            # The clock of an epoch runs on while it is validated and tested, so that is taken off.
            answer(seconds=row["seconds"] - state["untimed"], accuracy=state["accuracy"])

    loop.evaluate = also_test
    input()
    with tempfile.TemporaryDirectory() as place:
        training.train(folder, "fashion", seed=int(os.environ["SEED"]), output=Path(place) / "run", reporter=Turns())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keras", default="python3")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--worker", choices=["keras", "own"])
    options = parser.parse_args()
    if options.worker:
        return keras_worker(options.folder) if options.worker == "keras" else own_worker(options.folder)
    ratios = []
    for seed in range(options.seeds):
        allocator = next((str(path) for path in Path("/usr/lib").glob("*/libtcmalloc_minimal.so.4")), "")
        command = [__file__, str(options.folder), "--worker"]
        workers = {
            "keras": Worker([options.keras, *command, "keras"], SEED=str(seed), TF_CPP_MIN_LOG_LEVEL="3"),
            "convoscope": Worker([sys.executable, *command, "own"], SEED=str(seed), LD_PRELOAD=allocator),
        }
        spent = dict.fromkeys(workers, 0.0)
        reached: dict[str, float] = {}
        last = dict.fromkeys(workers, 0.0)
        epochs = dict.fromkeys(workers, 0)
        while len(reached) < 2 or epochs["convoscope"] < 10:
            for name, worker in workers.items():
                if name == "keras" and name in reached:
                    continue
                result = worker.turn()
                if result is None:
                    continue
                spent[name] += result["seconds"]
                epochs[name] += 1
                last[name] = result["accuracy"]
                if result["accuracy"] >= GOAL:
                    reached.setdefault(name, spent[name])
                print(
                    f"seed {seed}  {name:10}  epoch {epochs[name]:2}  {result['seconds']:6.1f} s  "
                    f"test {result['accuracy']:.4f}",
                    flush=True,
                )
        for worker in workers.values():
            worker.stop()
        ratios.append(reached["keras"] / reached["convoscope"])
        print(
            f"seed {seed}: {GOAL:.0%} after {reached['keras']:.1f} s in Keras, "
            f"{reached['convoscope']:.1f} s in convoscope: "
            f"{ratios[-1]:.1f} times as fast; convoscope ends at {last['convoscope']:.4f}",
            flush=True,
        )
    print("ratios:", ", ".join(f"{ratio:.1f}" for ratio in sorted(ratios)))
    return None


if __name__ == "__main__":
    main()
