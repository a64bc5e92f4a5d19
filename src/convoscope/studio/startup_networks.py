"""The networks that the studio brings along: recipes, not weights. They are trained on this machine when the studio
first starts.

Each is made by the command that a user would type, in a process of its own, of the lowest priority and on one thread.
What there is to know of it stands in its run's folder; several studios may look at the same folder, and the run's own
lock decides who trains.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .. import data
from ..children import own_process
from ..errors import ConvoscopeError, InUseError, printable
from ..files import FolderLock
from .child_signals import signal_child
from .drawables import Drawable, epochs_done, test_accuracy
from .errors import without_folders
from .messages.common import PadModel, Refusal
from .state import RequestRefused

NICENESS = 19
"""The lowest priority: whatever else the machine has to do goes first."""
_PATIENCE: Final = 4.0
"""Seconds that a training is given to save its state when the studio stops."""
_AGAIN: Final = 1.0
"""Seconds between two looks at a run that another process is making."""


@dataclass(frozen=True, kw_only=True)
class ReadyMade:
    """A network to be made.

    Attributes:
        name: its identity, and what its folder's name begins with.
        classes: its classes, as in the run.
        architecture: the model's text or a preset's name.
        arguments: more of `convoscope train`, the source first.
        epochs: how many of them.
    """

    name: str
    classes: tuple[str, ...]
    architecture: str
    arguments: tuple[str, ...]
    epochs: int

    @property
    def command(self) -> tuple[str, ...]:
        """What follows `convoscope`."""
        return ("train", *self.arguments, "--model", self.architecture, "--epochs", str(self.epochs))

    @property
    def folder(self) -> str:
        """Another recipe gets another folder, so that what an earlier version made is neither taken for this one nor
        touched.
        """
        text = "\n".join(self.command)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _settings(**values: object) -> tuple[str, ...]:
    return tuple(part for name, value in values.items() for part in ("--set", f"{name}={value}"))


# One thread and a named precision: then nothing is timed, and the same machine makes the same network again.
READY_MADE: Final = (
    ReadyMade(
        name="apple-banana",
        classes=("apple", "banana"),
        architecture="quickdraw",
        arguments=(
            "builtin:drawings/apple,banana", "--test", "0.25", "--seed", "0",
            *_settings(threads=1, precision="float32", flip="true", rotate=35, shear=20, zoom=0.3, shift=0.1),
        ),
        epochs=120,
    ),
    ReadyMade(
        name="twenty",
        classes=data.drawing_classes(),
        architecture="conv(16, 5) norm relu maxpool conv(32, 5) norm relu maxpool flatten dropout(0.4) dense",
        arguments=(
            "builtin:drawings", "--seed", "0",
            *_settings(threads=1, precision="float32", flip="true", rotate=20, shear=12, zoom=0.2, shift=0.07),
        ),
        epochs=60,
    ),
)  # fmt: skip


@dataclass(eq=False)
class _Job:
    """How far one of them is."""

    recipe: ReadyMade
    folder: Path
    state: Literal["ready", "waiting", "making", "stopped", "failed"] = "waiting"
    refusal: Refusal | None = None
    stopping: bool = False
    child: asyncio.subprocess.Process | None = field(default=None, repr=False)


class Making:
    """Makes what is missing, one network at a time, in the order of the recipes. Lives in one event loop.

    Args:
        folder: where the networks' runs lie.
        changed: called whenever a state has changed.
        recipes: what to make.
        on_fault: told of every bug of ours; the network counts as failed then, and the next one is made.
    """

    def __init__(
        self,
        folder: Path,
        changed: Callable[[], None],
        recipes: Sequence[ReadyMade],
        on_fault: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._jobs = {recipe.name: _Job(recipe, folder / recipe.folder) for recipe in recipes}
        self._changed = changed
        self._on_fault = on_fault
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take what is there already, and make the rest in the background."""
        for job in self._jobs.values():
            job.state = "ready" if _is_ready(job) else "waiting"
        self._wanted.set()
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End what is being made, its state saved; the next start goes on with it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def busy(self) -> bool:
        """Whether something is being made, or waits for its turn."""
        return any(job.state in ("waiting", "making") for job in self._jobs.values())

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def drawables(self) -> list[Drawable]:
        """All of them as they stand, in the order of the recipes. Reads files."""
        return [Drawable(job.folder, job.recipe.architecture, _message(job)) for job in self._jobs.values()]

    def make(self, name: str) -> None:
        """Queue the network; nothing changes if it is there, being made or waiting."""
        job = self._jobs[name]
        if job.state in ("ready", "stopped", "failed") and not _is_ready(job):
            job.state, job.refusal = "waiting", None
            self._wanted.set()
            self._changed()

    def halt(self, name: str) -> None:
        """Stop the making, or take the network out of the queue; what was trained is kept.

        Raises:
            RequestRefused: 409 `not-being-made`.
        """
        job = self._jobs[name]
        if job.state not in ("waiting", "making") or _is_ready(job):
            raise RequestRefused(409, "not-being-made", f"The network {name} is not being made.")
        job.stopping = job.state == "making"
        job.state = "stopped"
        if job.child is not None:
            signal_child(job.child, signal.SIGTERM)
        self._changed()

    # --- one after the other ---

    async def _work(self) -> None:
        while True:
            job = next((job for job in self._jobs.values() if job.state == "waiting"), None)
            if job is None:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            job.state, job.stopping = "making", False
            self._changed()
            try:
                await self._make(job)
            except ConvoscopeError as error:
                self._fail(job, error.reason, error.hint)
            except OSError as error:
                self._fail(job, f"the system says: {error.strerror or error}", "")
            except Exception as error:
                self._fail(job, f"the studio failed, which is a bug of its own ({type(error).__name__})", "")
                self._on_fault(error)
            if job.state == "making":
                job.state = "ready"
            self._changed()

    async def _make(self, job: _Job) -> None:
        """Until the network is trained and tested, by this process's child or by another studio's."""
        while job.state == "making" and not await asyncio.to_thread(_is_ready, job):
            arguments = await asyncio.to_thread(_command, job)
            if arguments is None:
                await asyncio.sleep(_AGAIN)
                continue
            code, said = await self._run(job, arguments)
            if job.stopping or code == InUseError.exit_code:
                continue
            if code != 0:
                reason, hint = _last_words(code, said, job)
                self._fail(job, reason, hint)
            elif not await asyncio.to_thread(_is_ready, job):
                self._fail(job, "its training ended without a test", "")

    async def _run(self, job: _Job, arguments: list[str]) -> tuple[int, str]:
        """One child's exit code and the end of what it wrote to standard error."""
        command, environment = own_process("convoscope", *arguments, OMP_NUM_THREADS="1")
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            process_group=0,  # Ctrl-C in the terminal is for the studio, which then stops its children in order
        )  # fmt: skip
        job.child = child
        try:
            with contextlib.suppress(OSError):  # it has ended already
                os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
            if job.stopping:
                signal_child(child, signal.SIGTERM)
            assert child.stderr is not None
            said = b""
            while chunk := await child.stderr.read(4096):
                said = (said + chunk)[-8192:]
            return await child.wait(), said.decode("utf-8", "replace")
        finally:
            job.child = None
            await _end(child)

    def _fail(self, job: _Job, reason: str, hint: str) -> None:
        if job.state == "making":
            job.state = "failed"
            job.refusal = Refusal(
                code="making-failed",
                message=printable(f"The network {job.recipe.name} could not be made: {reason}."),
                hint=printable(hint),
            )


def _message(job: _Job) -> PadModel:
    # Tested, it is ready, though its report may still be written, which nobody has to wait for. Gone, it can be made
    # again.
    accuracy = test_accuracy(job.folder)
    return PadModel(
        id=job.recipe.name,
        title=job.recipe.name,
        ready_made=True,
        classes=list(job.recipe.classes),
        state="ready" if accuracy is not None else "stopped" if job.state == "ready" else job.state,
        epoch=epochs_done(job.folder),
        epochs=job.recipe.epochs,
        test_accuracy=accuracy,
        refusal=job.refusal,
    )


def _is_ready(job: _Job) -> bool:
    """Trained and tested. The test comes last, so a damaged result of it means that only this is done again."""
    return test_accuracy(job.folder) is not None


def _command(job: _Job) -> list[str] | None:
    """What to start: a new training, or the rest of one that was interrupted. None while another process is at it."""
    folder = job.folder
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        try:
            with FolderLock(folder):
                if (folder / "last.safetensors").exists() or (folder / "previous.safetensors").exists():
                    return ["train", "--resume", str(folder)]
                shutil.rmtree(folder)  # killed before its first checkpoint
        except InUseError:
            return None
    return [*job.recipe.command, "--output", str(folder)]


def _last_words(code: int, said: str, job: _Job) -> tuple[str, str]:
    """Reason and hint from what a child wrote."""
    if code < 0:
        return (
            "its training was ended by the system, perhaps for want of memory",
            "Try again with other programs closed.",
        )
    found = dict.fromkeys(("error", "hint"), "")
    for line in without_folders(said, [job.folder]).splitlines():
        key, separator, text = line.partition(": ")
        if separator and key in found:
            found[key] = text.strip()
    return found["error"] or f"its training ended with exit code {code}", found["hint"]


async def _end(child: asyncio.subprocess.Process) -> None:
    """See that a child is gone: first asked, so that it saves its state, then made to."""
    if child.returncode is not None:
        return
    signal_child(child, signal.SIGTERM)
    try:
        await asyncio.wait_for(child.wait(), _PATIENCE)
    except TimeoutError:
        signal_child(child, signal.SIGKILL)
        await child.wait()
