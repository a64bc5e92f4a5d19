"""A command's images, decoded, with everything said that is to be said about them."""

from __future__ import annotations

from pathlib import Path

from ... import data
from ...data import Dataset, InputFormat, Prepared
from ...errors import ModelFileError, printable
from ..core.reporter import Reporter


def prepare_images(dataset: Dataset, form: InputFormat, reporter: Reporter, *, strict: bool = False) -> Prepared:
    """Decode the images into this form.

    Raises:
        DataError: with `strict`, an image that cannot be read; see `prepare`.
    """
    prepared = data.prepare(
        dataset, form, strict=strict, progress=lambda done, total: reporter.progress("decoding", done, total)
    )
    for note in filter(None, [data.white_note(form)]):
        reporter.say(note)
    for note in prepared.dataset.notes[len(dataset.notes) :]:
        reporter.say(note)
    skipped = prepared.dataset.skipped
    if skipped:
        examples = "; ".join(f"{printable(item.path)}: {item.reason}" for item in skipped[:5])
        more = f"; and {len(skipped) - 5} more, all in skipped.csv" if len(skipped) > 5 else ""
        reporter.warn(f"{len(skipped)} of {len(skipped) + len(prepared.dataset)} images skipped: {examples}{more}")
    return prepared


def warn_of_concerns(prepared: Prepared, reporter: Reporter) -> None:
    """Warn of what makes the images a poor set to learn from."""
    for concern in data.concerns(prepared):
        reporter.warn(concern)


def check_unchanged(folder: Path, prepared: Prepared, accept: bool, reporter: Reporter) -> None:
    """Compare the images with those the run began with."""
    new, missing, altered = data.changed(prepared, folder / "split.csv")
    if not (new or missing or altered):
        return
    words = f"{len(new)} new, {len(missing)} missing, {len(altered)} altered"
    if not accept:
        example = printable((altered or missing or new)[0])
        raise ModelFileError(
            folder,
            f"the images have changed since the run began: {words} (such as {example})",
            hint="bring them back, or go on with --accept-data-change",
            code="data-changed",
        )
    reporter.warn(f"the images have changed since the run began: {words}; going on as asked")
