"""The networks that come with the studio, as recipes without weights: this machine trains them at the first start.

Each is trained by the command that a user would type, in its own process, on one thread and with the lowest priority.
Its state is in its run's folder. Several studios may use the same folder; the run's lock decides which one trains.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from .. import data
from ..children import own_process
from ..errors import ConvoscopeError, InUseError, printable
from ..files import FolderLock
from ..posix import OPEN_FILES_MOVE, apart_and_patient, be_patient
from .child_signals import ask_to_end, end_at_once
from .drawables import Drawable, epochs_done, test_accuracy
from .errors import RequestRefused, without_folders
from .messages.common import Refusal
from .messages.draw import PadModel

NICENESS = 19
"""The lowest priority: everything else on the machine comes first."""
_SAVE_SECONDS: Final = 4.0
"""Seconds that a training has to save its state when the studio stops."""
_RETRY_SECONDS: Final = 1.0
"""Seconds between two looks at a run that another process is training."""


@dataclass(frozen=True, kw_only=True)
class ReadyMade:
    """The recipe of one network.

    Attributes:
        name: its identity, and the beginning of its folder's name.
        classes: its classes, as in the run.
        architecture: the model's text or a preset's name.
        arguments: the other arguments of `convoscope train`, the source first.
        epochs: the number of epochs.
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
        """Another recipe has another folder, so that a network of an earlier version is neither used nor changed."""
        text = "\n".join(self.command)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _settings(**values: object) -> tuple[str, ...]:
    return tuple(part for name, value in values.items() for part in ("--set", f"{name}={value}"))


# With one thread and a fixed precision nothing depends on timing, so the same machine trains the same network again.
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
    """The state of one network."""

    recipe: ReadyMade
    folder: Path
    state: Literal["ready", "waiting", "making", "stopped", "failed"] = "waiting"
    refusal: Refusal | None = None
    stopping: bool = False
    child: asyncio.subprocess.Process | None = field(default=None, repr=False)


class StartupNetworks:
    """Trains the networks that are missing, one at a time, in the order of the recipes. Belongs to one event loop.

    Args:
        folder: the folder with the networks' runs.
        changed: called whenever a state has changed.
        recipes: the networks.
        on_fault: called with every bug of ours; the network has then failed, and the next one is trained.
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
        """Use the networks that exist already, and train the others in the background."""
        for job in self._jobs.values():
            job.state = "ready" if _is_ready(job) else "waiting"
        self._wanted.set()
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop the training with its state saved; the next start continues it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    @property
    def busy(self) -> bool:
        """Whether a network is being trained or waits for its turn."""
        return any(job.state in ("waiting", "making") for job in self._jobs.values())

    def __contains__(self, name: str) -> bool:
        return name in self._jobs

    def drawables(self) -> list[Drawable]:
        """All of them in their present state, in the order of the recipes. Reads files."""
        return [Drawable(job.folder, job.recipe.architecture, _message(job)) for job in self._jobs.values()]

    def make(self, name: str) -> None:
        """Queue the network; nothing changes if it is ready, being trained or waiting."""
        job = self._jobs[name]
        if job.state in ("ready", "stopped", "failed") and not _is_ready(job):
            job.state, job.refusal = "waiting", None
            self._wanted.set()
            self._changed()

    def halt(self, name: str) -> None:
        """Stop the training, or remove the network from the queue; what was trained is kept.

        Raises:
            RequestRefused: 409 `not-being-made`.
        """
        job = self._jobs[name]
        if job.state not in ("waiting", "making") or _is_ready(job):
            raise RequestRefused(409, "not-being-made", f"The network {name} is not being trained.")
        job.stopping = job.state == "making"
        job.state = "stopped"
        if job.child is not None:
            ask_to_end(job.child)
        self._changed()

    # --- one at a time ---

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
                self._fail(job, f"internal error, a bug in convoscope ({type(error).__name__})", "")
                self._on_fault(error)
            if job.state == "making":
                job.state = "ready"
            self._changed()

    async def _make(self, job: _Job) -> None:
        """Wait until the network is trained and tested, by a child of this process or by another studio."""
        while job.state == "making" and not await asyncio.to_thread(_is_ready, job):
            arguments = await asyncio.to_thread(_command, job)
            if arguments is None:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            code, errors = await self._run(job, arguments)
            if job.stopping or code == InUseError.exit_code:
                continue
            if code != 0:
                reason, hint = _failure(code, errors, job)
                self._fail(job, reason, hint)
            elif not await asyncio.to_thread(_is_ready, job):
                self._fail(job, "the training ended without a test", "")

    async def _run(self, job: _Job, arguments: list[str]) -> tuple[int, str]:
        """Run a child; its exit code and the last part of its standard error."""
        command, environment = own_process("convoscope", *arguments, OMP_NUM_THREADS="1")
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            **apart_and_patient(NICENESS),  # Ctrl-C in the terminal goes to the studio only, which then stops them
        )
        job.child = child
        try:
            with contextlib.suppress(OSError):  # it has ended already
                be_patient(child.pid, NICENESS)
            if job.stopping:
                ask_to_end(child)
            assert child.stderr is not None
            written = b""
            while chunk := await child.stderr.read(4096):
                written = (written + chunk)[-8192:]
            return await child.wait(), written.decode("utf-8", "replace")
        finally:
            job.child = None
            await _end(child)

    def _fail(self, job: _Job, reason: str, hint: str) -> None:
        if job.state == "making":
            job.state = "failed"
            job.refusal = Refusal(
                code="making-failed",
                message=printable(f"The network {job.recipe.name} could not be trained: {reason}."),
                hint=printable(hint),
            )


def _message(job: _Job) -> PadModel:
    # Once tested it is ready; nobody has to wait until its report is written. If its folder is gone it can be trained
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
    """Whether it is trained and tested. The test comes last; if its result is damaged, only the test is done again."""
    return test_accuracy(job.folder) is not None


def _command(job: _Job) -> list[str] | None:
    """The arguments for a new training, or for the rest of an interrupted one. None while another process trains."""
    folder = job.folder
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        try:
            with FolderLock(folder):
                if (folder / "last.safetensors").exists() or (folder / "previous.safetensors").exists():
                    return ["train", "--resume", str(folder)]
                shutil.rmtree(folder, ignore_errors=not OPEN_FILES_MOVE)  # it was killed before its first checkpoint
        except InUseError:
            return None
    return [*job.recipe.command, "--output", str(folder)]


def _failure(code: int, errors: str, job: _Job) -> tuple[str, str]:
    """Reason and hint, from a child's exit code and what it wrote to standard error."""
    if code < 0:
        return (
            "the system ended the training, perhaps because memory ran out",
            "Close other programs and try again.",
        )
    found = dict.fromkeys(("error", "hint"), "")
    for line in without_folders(errors, [job.folder]).splitlines():
        key, separator, text = line.partition(": ")
        if separator and key in found:
            found[key] = text.strip()
    return found["error"] or f"the training ended with exit code {code}", found["hint"]


async def _end(child: asyncio.subprocess.Process) -> None:
    """End a child: first with a request, so that it saves its state, then by force."""
    if child.returncode is not None:
        return
    ask_to_end(child)
    try:
        await asyncio.wait_for(child.wait(), _SAVE_SECONDS)
    except TimeoutError:
        end_at_once(child)
        await child.wait()
