"""RUN/report.html: all that is known about a run on one page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConvoscopeError, printable
from ..files import check_plain, write_text
from ..render import Section, facts, note, page, steps, text
from . import report_on_run, report_on_test
from .advice import LARGE_SIDE, Facts, advice, swallowing_class
from .charts import confused_pairs
from .overfitting import gap_of
from .result_files import read_scores
from .results import Scores
from .run_facts import image_count
from .text import number_text, percent, seconds_text

if TYPE_CHECKING:
    from ..data import Prepared
    from ..training import Run

SURE = 0.95
"""A mistake of at least this confidence makes its label doubtful."""


def write_report(run: Run, *, chapters: Callable[[Run], Sequence[Section]] | None = None, inside: bool = True) -> Path:
    """Write the run's page from its files, its images and, if it was tested, its scores.

    Args:
        run: the run.
        chapters: gives further sections, which follow the first layer's filters.
        inside: whether to show the network itself: its table of layers and first filters. Without them the page is
            written in a moment.

    Returns:
        The path of `report.html` in the run's folder.

    Raises:
        DataError: the result of the test is damaged (`scores-unreadable`). Images that are gone are
            not an error: the page says so.
        MachineError: the run's folder cannot be written to, or something in it is not a plain
            file (`not-a-plain-file`).
    """
    path = Path(run.folder) / "report.html"
    check_plain(path)
    for folder in ("test", "test/worst"):  # whose pictures the page shows
        check_plain(Path(run.folder) / folder, folder=True)
    scores = read_scores(run.folder)
    prepared, missing = _prepared(run)
    sections = report_on_test.tested(run, scores, prepared) if scores is not None else [report_on_test.untested(run)]
    if scores is not None:
        sections.insert(0, Section("next", "What to do next", steps(advice(facts_of(run, scores, prepared)))))
    sections += [
        Section("learning", "Learning", report_on_run.learning(run)),
        Section("data", "Images", report_on_run.images(run, prepared, missing)),
        Section("model", "Model", report_on_run.model(run, inside)),
    ]
    filters = report_on_run.first_filters(run) if inside else ""
    if filters:
        sections.append(Section("filters", "First layer", filters))
    if chapters is not None:
        sections += chapters(run)
    sections += [
        Section(
            "training",
            "How it was made" if run.settings.solved else "How it was trained",
            report_on_run.making(run, None if scores is None else scores.seconds),
        ),
        Section("use", "Use it again", report_on_run.use(run)),
    ]
    version = run.settings.versions.get("convoscope", "")
    markup = page(
        f"{_name(run)} – convoscope",
        _head(run, scores),
        sections,
        f"Made by convoscope{' ' + version if version else ''}. This page fetches nothing and runs nothing.",
    )
    write_text(path, markup)
    return path


def facts_of(run: Run, scores: Scores, prepared: Prepared | None) -> Facts:
    """What the advice is made from."""
    settings, gap = run.settings, gap_of(run)
    training: dict[str, int] = {}
    if prepared is not None and run.task != "regression":
        training = dict(prepared.dataset.counts()["train"])
    confused = confused_pairs(scores.confusion, scores.classes, 1) if scores.task == "classification" else []
    sure = [mistake for mistake in scores.worst if (mistake.confidence or 0) >= SURE]
    done, recipe, unknown = len(run.history), settings.recipe, scores.unknown
    tested = scores.split != "train"
    return Facts(
        folder=printable(run.folder),
        source=settings.source,
        again=not settings.in_memory and not settings.added,
        task=run.task,
        photographs=settings.input.channels == 3 and min(settings.input.height, settings.input.width) >= LARGE_SIDE,
        relearned=settings.relearned is not None,
        solved=settings.solved,
        training=training,
        validation=image_count(run, "validation"),
        images=scores.images,
        accuracy=scores.accuracy,
        interval=scores.interval if scores.task == "classification" and tested else None,
        chance=scores.chance,
        gap=gap.difference if gap is not None else None,
        turned=gap.turned if gap is not None else None,
        epochs=done,
        planned=recipe.epochs,
        gave_up=recipe.patience > 0 and done - run.best_epoch >= recipe.patience,
        leaked=next(
            (sentence.split(":")[0] for sentence in scores.notes if "were used in training: the" in sentence), ""
        ),
        swallowing=swallowing_class(scores.confusion, scores.classes) if scores.task == "classification" else None,
        confused=confused[0] if confused else None,
        sure_mistakes=len(sure) if scores.task != "regression" else 0,
        example=printable(Path(run.folder) / "test" / scores.worst[0].image) if scores.worst else "",
        not_known=unknown.not_known if unknown is not None else 0,
        not_known_right=unknown.not_known_right if unknown is not None else 0,
        coverage=unknown.coverage if unknown is not None else None,
    )


def _prepared(run: Run) -> tuple[Prepared | None, str]:
    try:
        return run.prepared(), ""
    except ConvoscopeError as error:
        return None, str(error)


def _name(run: Run) -> str:
    return " and ".join(map(_short, (run.settings.source, *(source for source, _ in run.settings.added))))


def _short(source: str) -> str:
    parts = Path(source).parts
    # The last folder alone would often read just "train" or "data".
    generic = len(parts) > 1 and parts[-1].lower() in ("train", "training", "data", "images", "dataset")
    return printable("/".join(parts[-2:] if generic else parts[-1:]) or source)


def _kinds(run: Run) -> str:
    count = len(run.classes)
    word = {"classification": "classes", "multi-label": "labels", "regression": "numbers each"}[run.task]
    if count == 1:
        word = {"classification": "class", "multi-label": "label", "regression": "number each"}[run.task]
    return f"{count} {word}"


def _head(run: Run, scores: Scores | None) -> str:
    notes = "".join(
        note(sentence, warn="used in training" in sentence) for sentence in (scores.notes if scores else run.remarks)
    )
    return (
        f'<p class="eyebrow">convoscope report · {text(Path(run.folder).name)}</p>'
        f"<h1>{text(_name(run))}: {text(_kinds(run))}</h1>"
        f'<p class="lead">{text(_lead(run, scores))}</p>{notes}{facts(_facts(run, scores))}'
    )


def _lead(run: Run, scores: Scores | None) -> str:
    """The run and its result in a sentence or two."""
    data = f"{image_count(run, 'train'):,} images {'with' if run.task == 'regression' else 'of'} {_kinds(run)}"
    duration = seconds_text(run.seconds)
    trained = f"A network of {run.parameters:,} parameters, trained on {data} in {duration},"
    if run.settings.solved:
        fitted = f"the {_head_parameters(run):,} of its head fitted to {data} in {duration}"
        trained = f"A network of {run.parameters:,} parameters, {fitted},"
    if scores is None:
        return f"{trained} has not been tested yet."
    images = _tested_images(run, scores)
    interval = f" (95 % interval {scores.interval_text})" if scores.interval else ""
    if scores.accuracy is None:
        return f"{trained} is off by {number_text(scores.mae)} on average on {images}."
    if scores.task == "regression":
        return f"{trained} explains {percent(scores.accuracy)} of the variance (R²) of {images}."
    if scores.task == "classification":
        result = f"correctly classifies {percent(scores.accuracy)} of {images}{interval}"
    else:
        result = f"gets {percent(scores.accuracy)} of the labels right on {images}{interval}"
    chance = (
        f" Always giving the most frequent answer would reach {percent(scores.chance)}." if scores.chance < 1 else ""
    )
    return f"{trained} {result}.{chance}"


def _tested_images(run: Run, scores: Scores) -> str:
    count = "1 image" if scores.images == 1 else f"{scores.images:,} images"
    if scores.split == "all":
        return f"{count} from {printable(scores.source)}"
    if scores.source != run.settings.sources:
        return f"{count} of the {scores.split} part of {printable(scores.source)}"
    if scores.split == "test" and any("were used in training: the" in sentence for sentence in scores.notes):
        return f"{count} of its test part"
    unseen = {
        "test": " that it has not seen",
        "validation": " of its validation part",
        "train": " that it was trained on",
    }
    return count + unseen.get(scores.split, "")


def _facts(run: Run, scores: Scores | None) -> list[tuple[str, str, str]]:
    """The large figures under the lead: name, value and a small remark."""
    result: list[tuple[str, str, str]] = []
    if scores is not None and scores.task == "regression":
        if scores.accuracy is not None:
            result.append(("R²", f"{scores.accuracy:.3f}", "1 is perfect, 0 is the mean"))
        result.append(("Mean absolute error", number_text(scores.mae), "in the numbers' own unit"))
        result.append(("Loss", f"{scores.loss:,.3f}", "squared error"))
    elif scores is not None:
        name = "Accuracy" if scores.split == "all" else f"{scores.split.capitalize()} accuracy"
        result.append((name, percent(scores.accuracy), scores.interval_text))
        if scores.exact_match is not None:
            result.append(("All labels right", percent(scores.exact_match), "of the images"))
        result.append(("Loss", f"{scores.loss:,.3f}", "cross-entropy, nats"))
    gap = gap_of(run)
    if gap is not None and run.task != "regression":
        points = f"{100 * gap.difference:+.1f}".replace("-", "−")
        result.append(("Gap to training", points, "points, training − validation"))
    result.append(("Parameters", f"{run.parameters:,}", ""))
    if run.settings.solved:
        result.append(("Learning", seconds_text(run.seconds), "features included"))
    else:
        remark = f"best epoch {run.best_epoch} of {len(run.history)}"
        result.append(("Training", seconds_text(run.seconds), remark))
    return result


def _head_parameters(run: Run) -> int:
    """How many parameters a relearned run's head has."""
    assert run.settings.relearned is not None
    layers = tuple(f"{name}." for name in run.settings.relearned.layers)
    return sum(value.numel() for name, value in run.weights().items() if name.startswith(layers))
