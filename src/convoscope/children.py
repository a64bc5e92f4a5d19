"""Where code is taken from: never from the working folder, in which somebody's pictures may come with somebody's
`torch.py`.

Python itself puts that folder on its path for `-m` and `-c`, and for an empty or relative entry in PYTHONPATH
(`PYTHONPATH=:/opt/x` is a common slip). Here every process of our own is put together, and the command line leaves the
folder before it imports anything large.
"""

from __future__ import annotations

# Until the folder is left, nothing but what Python has imported when it starts is safe to import:
# pathlib is not.
# ruff: noqa: PTH100, PTH117, PTH118, PTH120
import os
import site
import sys

_OWN = os.path.dirname(os.path.dirname(__file__))
"""The folder that convoscope was imported from, which stays, wherever it is."""


def own_process(module: str, *arguments: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of `python -m MODULE`, which has its code from where this process has it, but for
    the working folder.

    Not `-I`, unless this process was started so: it would hide what `pip install --user` and PYTHONPATH bring.
    """
    apart = "-I" if sys.flags.isolated else "-P"
    return [sys.executable, apart, "-m", module, *arguments], os.environ | _python_variables() | variables


def leave_working_folder() -> None:
    """Take no more code from the working folder, in this process and in what it or a library starts.

    For the command line alone: the path of a script that uses the API is the script's business.
    """
    needed = {_OWN, os.path.dirname(os.__file__), *_site_packages()}
    _, here = _python_path()
    os.environ.update(_python_variables())
    sys.path[:] = [entry for entry in sys.path if entry and _place(entry) not in here - needed]
    _load_away_from_here()


def _python_variables() -> dict[str, str]:
    """Python's variables in the environment, without what leads into the working folder. PYTHONSAFEPATH holds for
    grandchildren, too.
    """
    changed = {"PYTHONSAFEPATH": "1"}
    kept, _ = _python_path()
    if _OWN not in {*kept, *_site_packages()}:
        kept.append(_OWN)
    kept = [place for place in kept if os.pathsep not in place]  # which would be read as two
    # To Python what is empty is the same as not set.
    if kept or "PYTHONPATH" in os.environ:
        changed["PYTHONPATH"] = os.pathsep.join(kept)
    for name in ("PYTHONPYCACHEPREFIX", "PYTHONUSERBASE"):
        if not os.path.isabs(os.environ.get(name, os.sep)):
            changed[name] = ""
    return changed


def _python_path() -> tuple[list[str], set[str]]:
    """PYTHONPATH in absolute paths: what to keep; and what not: the working folder, and folders inside that are named
    from there.
    """
    kept, here, folder = [], {_place("")}, _place("")
    for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        place = _place(entry)
        inside = os.path.commonpath([place, folder]) == folder
        if place != _OWN and (place == folder or (inside and not os.path.isabs(entry))):
            here.add(place)
        else:
            kept.append(place)
    return kept, here


def _place(entry: str) -> str:
    """An entry of a search path as an absolute path."""
    try:
        return os.path.abspath(entry)
    except FileNotFoundError:  # the working folder was removed: nothing is in it
        return os.path.join(os.devnull, entry)


def _site_packages() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()]


def _load_away_from_here() -> None:
    """Load NVIDIA's libcusparseLt from another folder: it comes with torch, and runs a `libcuda.so.1` found in the
    working folder.

    Its RUNPATH, `$ORIGIN:`, ends in an empty entry, which to the system's loader is the working folder. What is loaded
    is not loaded again.
    """
    if not (sys.platform.startswith("linux") and hasattr(os, "O_PATH")):
        return
    import contextlib
    import ctypes
    from pathlib import Path

    libraries = [library for folder in sys.path for library in Path(folder).glob("nvidia/*/lib/libcusparseLt.so*")]
    with contextlib.suppress(OSError):  # torch may do without; and in a folder that nobody may enter nothing is found
        home = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            os.fchdir(home)
            os.chdir("/")
            for library in libraries:
                ctypes.CDLL(str(library))
        finally:
            os.fchdir(home)
            os.close(home)
