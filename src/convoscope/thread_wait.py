"""How long torch's threads spin while they wait for one another. `import convoscope` shortens it, for the command line,
scripts and notebooks alike.

By default a waiting thread spins for milliseconds. Where other programs want the processor, too, it keeps the one that
it waits for from running: a step of 25 ms then took 310 ms, with a short spin 45 (`benchmarks/busy.py`).
"""

from __future__ import annotations

# Imported before anything else, so only what costs nothing.
import os
import sys

_SPINS = "1000"
_MOST_HELPERS = 4
_parked: list[object] = []


def shorten_spinning() -> None:
    """Let torch's threads spin only briefly. What the user has set in the environment stays.

    Before torch is imported an environment variable does it, which GNU's OpenMP reads once. Afterwards that library's
    own rule is used: where it has more threads than there are cores, they hardly spin
    (https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html). So a few sleeping ones are added. Where torch uses
    another OpenMP (macOS, Windows) nothing changes then.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        return
    if "torch" not in sys.modules:
        os.environ["GOMP_SPINCOUNT"] = _SPINS
    elif sys.platform.startswith("linux") and not _parked:
        _add_sleeping_threads()


def _add_sleeping_threads() -> None:
    """Each helper asks torch once for a team of threads of its own, and then sleeps with it until the end."""
    import threading

    import torch

    team = torch.get_num_threads()
    cores = os.cpu_count() or 1
    # The main thread's team, and one more thread for each further member of a helper's team.
    needed = 0 if team < 2 else -(-(cores + 1 - team) // (team - 1))
    for _ in range(min(needed, _MOST_HELPERS)):
        ready, never = threading.Event(), threading.Event()

        def sleep(ready: threading.Event = ready, never: threading.Event = never) -> None:
            torch.zeros(1 << 17).add_(1)
            ready.set()
            never.wait()

        helper = threading.Thread(target=sleep, name="convoscope: a team of threads that sleeps", daemon=True)
        helper.start()
        ready.wait()
        _parked.append(helper)
