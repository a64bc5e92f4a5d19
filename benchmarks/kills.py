"""kill -9 at random moments of training and transfer learning: the result must be that of an uninterrupted run, bit for
bit.

    python benchmarks/kills.py --train 50
    python benchmarks/kills.py --relearn 24 PHOTOS                 # relearn imagenet, each time with an empty cache
    python benchmarks/kills.py --relearn 8 --unfreeze PHOTOS

A trial starts the command that a user would type and kills it up to three times, each time at a random moment after one
of its milestones (its first output, its first decoded image, its n-th checkpoint). Then it lets the command finish:
`train --resume` if there is a run.toml, otherwise the same command again. The SHA-256 of every tensor of
best.safetensors and last.safetensors is compared. Training is given its precision and threads, since otherwise a timed
probe chooses them.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from convoscope.training.core import checkpoint

FIXED = ("--set", "precision=float32", "--set", "threads=1")
TRAIN = ("builtin:drawings/apple,banana,cat", "--model", "quickdraw", "--epochs", "6", "--set", "save_every=0", *FIXED)
UNFREEZE = ("--unfreeze", "1", "--epochs", "3", "--set", "save_every=0", *FIXED)
MOST_KILLS = 3
MOST_WAIT = 0.3
"""Seconds between an event and the kill."""


def start(arguments: Sequence[str], cache: Path, log: Path, *, threads: str = "1") -> subprocess.Popen[bytes]:
    environment = os.environ | {"CONVOSCOPE_CACHE": str(cache)} | ({"OMP_NUM_THREADS": threads} if threads else {})
    with open(log, "wb") as out:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "convoscope", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment,
        )  # fmt: skip


def next_command(first: Sequence[str], folder: Path) -> list[str]:
    """What a user would do: go on where something was begun."""
    if (folder / "run.toml").exists():
        return ["train", "--resume", str(folder)]
    return [*first, "--output", str(folder)]


def fingerprint(folder: Path) -> str:
    """One hash of all tensors of both checkpoints."""
    hasher = hashlib.sha256()
    for name in ("best", "last"):
        tensors, _ = checkpoint.load(folder / f"{name}.safetensors")
        for key in sorted(tensors):
            value = tensors[key].contiguous()
            hasher.update(f"{name} {key} {value.dtype} {tuple(value.shape)}\0".encode() + value.numpy().tobytes())
    return hasher.hexdigest()


class Watch:
    """What a command has reached since it was started, seen from its files. Independent of the machine's speed."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.saves = 0
        self._last = self._seen()
        self.ahead = [name for name, reached in self._events().items() if not reached()]

    def _events(self) -> dict[str, Callable[[], bool]]:
        run, cache = self.place / "run", self.place / "cache"
        return {
            "first word": lambda: (self.place / "log").stat().st_size > 0,
            "backbone": lambda: any((cache / "backbones").glob("*")),
            "pixels": lambda: any((cache / "pixels").glob("*")),
            "features": lambda: any((cache / "features").glob("*")),
            "run": run.exists,
            "checkpoint": (run / "last.safetensors").exists,
        }

    def _seen(self) -> int:
        try:
            return (self.place / "run" / "last.safetensors").stat().st_mtime_ns
        except OSError:
            return 0

    def look(self) -> None:
        """Count a checkpoint that is new."""
        seen = self._seen()
        self.saves += seen != self._last
        self._last = seen

    def reached(self, event: str, saves: int) -> bool:
        """Whether the event has come, or this many checkpoints were written."""
        self.look()
        return self.saves >= saves if event == "saves" else self._events()[event]()

    def tested(self) -> bool:
        """Whether the training is over."""
        return (self.place / "run" / "test").exists()


def undisturbed(first: Sequence[str], place: Path) -> tuple[str, int, list[str]]:
    """The hash, how many checkpoints were seen, and the events on the way."""
    process = start(next_command(first, place / "run"), place / "cache", place / "log")
    watch = Watch(place)
    while process.poll() is None:
        watch.look()
        time.sleep(0.002)
    if process.returncode:
        sys.exit(f"without any kill it ends with {process.returncode}:\n{(place / 'log').read_text()}")
    return fingerprint(place / "run"), watch.saves, [name for name in watch.ahead if watch.reached(name, 0)]


def trial(
    first: Sequence[str], place: Path, rng: random.Random, saves: int, events: Sequence[str]
) -> tuple[str, list[str]]:
    """The hash at the end, and what each kill came after."""
    killed = []
    for _ in range(rng.randint(1, MOST_KILLS)):
        (place / "log").unlink(missing_ok=True)
        process = start(next_command(first, place / "run"), place / "cache", place / "log")
        watch = Watch(place)
        chosen = rng.choice([name for name in events if name in watch.ahead] + ["saves"] * (4 if saves > 2 else 1))
        number, wait = rng.randint(1, saves), rng.uniform(0, MOST_WAIT)
        while process.poll() is None and not watch.reached(chosen, number):
            time.sleep(0.001)
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            after = f"{number} saves" if chosen == "saves" else chosen
            killed.append(f"{after} + {1000 * wait:.0f} ms{' (testing)' if watch.tested() else ''}")
    process = start(next_command(first, place / "run"), place / "cache", place / "log")
    watch = Watch(place)
    while process.poll() is None and not watch.tested():
        time.sleep(0.005)
    if process.poll():
        return f"exit code {process.returncode}: {(place / 'log').read_text()[-500:]}", killed
    process.kill()  # the weights are made; the test is nothing to wait for
    process.wait()
    left = [path.name for path in (place / "run").glob(".*.tmp")]
    return f"leftovers: {left}" if left else fingerprint(place / "run"), killed


def trials(name: str, count: int, first: Sequence[str], seed: int) -> int:
    """Run this many and say how many ended otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "undisturbed"
        place.mkdir()
        wanted, saves, events = undisturbed(first, place)
        print(f"{name}: undisturbed {wanted[:12]}, {saves} checkpoints seen, events: {', '.join(events)}", flush=True)
        shutil.rmtree(place)
        other = kills = 0
        for number in range(count):
            place = Path(folder) / str(number)
            place.mkdir()
            found, killed = trial(first, place, random.Random(f"{seed} {number}"), saves, events)
            other += found != wanted
            kills += len(killed)
            result = "equal" if found == wanted else found
            print(f"{number:3} {result}  killed after: {', '.join(killed) or 'not'}", flush=True)
            shutil.rmtree(place)
    print(f"{name}: {count} trials, {kills} kills, {count - other} with equal weights, {other} with others", flush=True)
    return other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="?", help="a folder of some forty photographs, a folder a class, for --relearn")
    parser.add_argument("--train", type=int, default=0, metavar="N")
    parser.add_argument("--relearn", type=int, default=0, metavar="N")
    parser.add_argument("--unfreeze", action="store_true", help="with --relearn: the backbone's last block learns too")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.relearn and not asked.photos:
        parser.error("--relearn needs PHOTOS")
    other = trials("train", asked.train, ("train", *TRAIN), asked.seed) if asked.train else 0
    if asked.relearn:
        more = UNFREEZE if asked.unfreeze else ()
        other += trials("relearn", asked.relearn, ("relearn", "imagenet", asked.photos, *more), asked.seed)
    sys.exit(1 if other else 0)


if __name__ == "__main__":
    main()
