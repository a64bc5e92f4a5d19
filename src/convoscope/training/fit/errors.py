"""The errors that end a training early, with what is saved of it."""

from __future__ import annotations

from ...errors import DataError, Interrupted, MachineError, shell_word
from .job import Job
from .state import Progress


def stopped(job: Job, signal: int, *, ended: bool = False) -> Interrupted:
    """The error that ends a training on request; `ended`: it was done already."""
    hint = f"go on with: convoscope train --resume {shell_word(job.folder)}"
    if ended:
        hint = f"test it with: convoscope test {shell_word(job.folder)}"
    if job.settings.in_memory:
        hint = "its images were handed over in memory: what is saved can be used, but not resumed"
    return Interrupted(
        job.folder,
        "stopped; the training is done and saved" if ended else "stopped; the state is saved",
        hint=hint,
        code="interrupted",
        signal=signal,
    )


def lost_machine(job: Job, error: MachineError, saved: Progress | None) -> MachineError:
    """The error of a disk, a share or a right that went away in the middle, with what is saved of the training."""
    if saved is None:
        state, hint = "nothing of the training is saved yet", "fix that, then start again"
    else:
        state = f"the training is saved up to epoch {saved.epoch + 1}, step {saved.step}"
        hint = f"fix that, then go on with: convoscope train --resume {shell_word(job.folder)}"
        if job.settings.in_memory:
            hint = "fix that; what is saved can be used, but not resumed, because its images were handed over in memory"
    return MachineError(error.path, f"{error.reason}; {state}", hint=hint, code=error.code)


def not_finite(job: Job, progress: Progress) -> DataError:
    """The error of a loss that is NaN or infinite."""
    kept = "last.safetensors" if (job.folder / "last.safetensors").exists() else "no checkpoint yet"
    return DataError(
        job.folder,
        f"the loss is not finite in epoch {progress.epoch + 1}, step {progress.step + 1}; "
        f"the last finite state is kept ({kept})",
        hint=f"train again with a lower rate: --set learning_rate={job.recipe.learning_rate / 10:g}",
        code="loss-not-finite",
    )
