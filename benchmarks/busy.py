"""Milliseconds of a training step while other programs are busy in the background, with torch's own waiting and with
convoscope's.

    .venv/bin/python benchmarks/busy.py

The threads of one step wait for each other dozens of times. Measured in turn: an idle machine; one busy program; and
all threads on one core, where the system's scheduler puts them for a while when other programs are busy; each with
either way of waiting.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 4
BUSY = [sys.executable, "-c", "while True: pass"]
LOADS = ("idle", "one busy", "one core")


def step_time(load: str) -> float:
    """The median of 40 steps of the tutorial's network for Fashion-MNIST, bfloat16, batches of 128."""
    import torch

    from convoscope import models

    torch.set_num_threads(2)
    if load == "one core":
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    torch.manual_seed(0)
    network = models.build("fashion", (28, 28, 1), 10).to(memory_format=torch.channels_last)
    models.pool_first(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.randn(128, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 10, (128,))
    times = []
    for _ in range(45):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(images)
        torch.nn.functional.cross_entropy(scores.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[5:])


def measured(spin: str, load: str) -> float:
    environment = {**os.environ, "GOMP_SPINCOUNT": spin} if spin else dict(os.environ)
    result = subprocess.run(
        [sys.executable, __file__, "--step", load], env=environment, capture_output=True, text=True, check=True
    )
    return float(result.stdout)


def main() -> None:
    if "--step" in sys.argv:
        print(step_time(sys.argv[2]))
        return
    ways = {"torch's own": "", "convoscope's": "1000"}
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for load in LOADS:
            others = [subprocess.Popen(BUSY)] if load == "one busy" else []
            for name, spin in ways.items():
                found.setdefault((load, name), []).append(measured(spin, load))
            for other in others:
                other.kill()
                other.wait()
    for (load, name), times in found.items():
        print(f"{load:9} {name:13} {statistics.median(times):6.1f} ms  ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    main()
