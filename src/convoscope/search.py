"""A search over settings of the recipe within a time budget: every trial is a run, chosen by validation alone.

Optuna proposes settings (its tree-structured Parzen estimator, https://proceedings.mlr.press/v28/bergstra13.html) and
ends trials early that fall behind the median. Its journal in the search's folder is what a search goes on from.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from .errors import DataError, Interrupted, InUseError, MachineError, UsageError, printable, shell_word
from .evaluation import Scores, percent, read_scores, test
from .files import machine_error, write_json, write_text
from .parsing import read_json
from .suggestions import did_you_mean
from .training import (
    EpochMetrics,
    Listening,
    Recipe,
    Reporter,
    Run,
    best_epoch,
    one_reporter,
    read_history,
    read_summary,
    train,
)

TRIALS = 8
"""A trial takes at most this part of the budget: fewer could not be told from luck."""


class _Range(NamedTuple):
    """Where a setting is searched: between two numbers, evenly or on a logarithmic scale; or one of some values."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    values: tuple[Any, ...] = ()


SPACE: Mapping[str, _Range] = {
    "learning_rate": _Range(3e-4, 3e-2, log=True),
    "muon_learning_rate": _Range(1e-3, 0.1, log=True),
    "weight_decay": _Range(1e-4, 0.5, log=True),
    "batch_size": _Range(values=(16, 32, 64, 128)),
    "optimizer": _Range(values=("sgd", "adam", "adamw", "muon")),
    "schedule": _Range(values=("linear", "cosine")),
    "label_smoothing": _Range(0.0, 0.2),
    "warmup": _Range(0.0, 0.3),
    "beta2": _Range(0.95, 0.999),
    "ema": _Range(0.0, 0.9),
    "mixup": _Range(0.0, 1.0),
    "crop": _Range(0.2, 1.0),
    "rotate": _Range(0.0, 30.0),
    "shift": _Range(0.0, 0.15),
    "shear": _Range(0.0, 20.0),
    "zoom": _Range(0.0, 0.3),
    "colour": _Range(0.0, 0.6),
    "erase": _Range(0.0, 0.5),
    "flip": _Range(values=(False, True)),
    "sampling": _Range(values=("all", "balanced")),
    "class_weights": _Range(values=("none", "balanced")),
}
KEYS = ("learning_rate", "weight_decay", "batch_size", "label_smoothing", "rotate", "shift", "zoom", "erase")
"""What is searched if nothing is named."""


@dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        run: its folder; that of a trial that was ended early has no weights.
        settings: what was varied; empty for the first, which is the recipe that `train` chooses.
        value: validation accuracy of its best epoch (R2 for numbers); None if none was done.
        loss: validation loss there.
        epochs: how many were done.
        state: `complete`, `pruned` (it fell behind, or the time was over) or `failed` (the loss was not finite).
    """

    run: Path
    settings: dict[str, Any]
    value: float | None
    loss: float | None
    epochs: int
    state: str


@dataclass(frozen=True, repr=False)
class Search:
    """What a search found.

    Attributes:
        folder: where it is; `search(folder, minutes=10)` goes on.
        trials: in the order in which they were made.
        scores: the test of the best one; None where the images have no test part.
        tests: how often the test part has been looked at by this search, this time included.
    """

    folder: Path
    trials: tuple[Trial, ...]
    scores: Scores | None
    tests: int

    @property
    def best(self) -> Trial:
        """The complete trial with the highest validation accuracy; of equals the one with less loss."""
        return _best(self.trials)

    @property
    def run(self) -> Run:
        """The best trial's run."""
        return Run.open(self.best.run)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known to read the figures, one plain sentence each."""
        done = sum(trial.state == "complete" for trial in self.trials)
        notes = [f"the best of {done} on the validation part: that figure is too good by the choice, the test's is not"]
        if self.tests > 1:
            notes.append(f"the test part has judged {self.tests} choices of this search: it is no longer quite unseen")
        return tuple(notes)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Header and rows as text, the best trial first."""
        names = tuple(dict.fromkeys(name for trial in self.trials for name in trial.settings))
        ranked = sorted(self.trials, key=_rank)
        rows = [
            (
                trial.run.name,
                "–" if trial.value is None else f"{trial.value:.4f}",
                "–" if trial.loss is None else f"{trial.loss:.4f}",
                str(trial.epochs),
                trial.state,
                *(_written(trial.settings.get(name, "")) for name in names),
            )
            for trial in ranked
        ]
        return ("trial", "validation", "loss", "epochs", "state", *names), rows

    def __repr__(self) -> str:
        tested = "" if self.scores is None else f", test {percent(self.scores.accuracy)}"
        return f"<Search {self.folder}: {len(self.trials)} trials, best {self.best.run.name}{tested}>"

    def _repr_html_(self) -> str:
        from .render import calls, grid, heading, notebook

        header, rows = self.rows()
        tested = "" if self.scores is None else f"the best one's test: {self.scores.headline}"
        title = f"Search {printable(self.folder)}: {len(self.trials)} trials"
        return notebook(
            heading(title, tested, *self.notes),
            grid(header, rows[:30], more=len(rows) - 30),
            calls("found.run", f"convoscope.search({str(self.folder)!r}, minutes=10)"),
        )


def _written(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rank(trial: Trial) -> tuple[bool, float, float]:
    return trial.state != "complete", -(trial.value or 0.0), trial.loss or 0.0


def _best(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=_rank)


class _Ended(BaseException):
    """Ends a trial; no `except Exception` on its way holds it up. `epochs`: it begins again with this many."""

    def __init__(self, state: str, epochs: int = 0) -> None:
        super().__init__()
        self.state = state
        self.epochs = epochs


class _Watch(Reporter):
    """Listens to a trial: passes its epochs to Optuna, and ends it where it falls behind or there is no time left.

    `trial`: Optuna's; None for the first, which is only asked whether it fits into `seconds`.
    """

    def __init__(self, trial: Any, seconds: float, deadline: float) -> None:
        self._trial, self._seconds, self._deadline = trial, seconds, deadline
        self._epochs = 0

    def start(self, folder: Path, epochs: int) -> None:
        self._epochs = epochs

    def step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        if self._trial is not None and time.monotonic() > self._deadline:
            raise _Ended("pruned")

    def epoch(self, row: EpochMetrics, best: bool) -> None:
        each = row["seconds"]
        if self._trial is None:
            # The first epoch is slower than those behind it, so that the second one tells, if there is time for it.
            late = row["epoch"] == 2 or (row["epoch"] == 1 and 2 * each > self._seconds)
            if late and each * self._epochs > self._seconds:
                fit = max(1, int(self._seconds / max(each, 1e-9)))
                if fit < self._epochs:
                    raise _Ended("too long", fit)
        elif row["val_accuracy"] is not None:
            self._trial.report(row["val_accuracy"], row["epoch"])
            if row["epoch"] < self._epochs and self._trial.should_prune():
                raise _Ended("pruned")


def search(
    source: str | os.PathLike[str],
    model: str | None = None,
    *,
    minutes: float = 20.0,
    keys: Sequence[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    reporter: Listening = None,
    **options: Any,
) -> Search:
    """Search the settings of the recipe that suit these images best, as far as the time allows.

    The first trial is the recipe that `train` chooses; its epochs are cut so that a trial takes at most an eighth of
    the time. All trials share the split and the seed. The validation part alone decides; the best trial is then tested.

    Args:
        source: images as for `train`; or the folder of a search, which goes on, with nothing else than `minutes` given.
        model: as for `train`; by default one chosen to suit the images.
        minutes: how long, in all. The trial that runs at its end is ended.
        keys: which settings of the recipe are searched, by default `KEYS`.
        output: the search's folder; by default a new one in `runs/`.
        seed: of the trials and of the search.
        reporter: hears of each trial.
        **options: those of `train`; settings of the recipe among them are the same in every trial.

    Returns:
        All trials, and the best one's test. `FOLDER/best.toml` is its recipe, for `train --config`.

    Raises:
        UsageError: a key cannot be searched (`search-key`), options together with a search that goes on
            (`search-with-settings`), or minutes that are none (`search-minutes`).
        DataError: there is no validation part (`search-validation`).
        MachineError: Optuna is not installed (`search-missing`).
        Interrupted: a signal came; the trials that are done are kept (`interrupted-search`).
    """
    if not 0 < minutes < 1e6:
        raise UsageError("minutes", f"expected a time above 0; received {minutes:g}", code="search-minutes")
    told = one_reporter(reporter)
    place = Path(source)
    if (place / "search.json").is_file():
        given = {"model": model, "keys": keys, "output": output, **options}
        if typed := [name for name, value in given.items() if value is not None]:
            reason = f"a search that goes on keeps its settings; received {', '.join(typed)} as well"
            raise UsageError(place, reason, hint="only minutes may be given", code="search-with-settings")
        asked = read_json(place / "search.json")
    else:
        asked = {"source": _absolute(source), "model": model or "auto", "keys": list(keys or KEYS), "seed": seed,
                 "options": options, "tests": 0}  # fmt: skip
        _check_keys(asked)
        place = _new_place(output, source)
    study = _study(place, asked)
    write_json(place / "search.json", asked)
    deadline = time.monotonic() + 60 * minutes
    try:
        if not study.trials:
            _first_trial(study, place, asked, 60 * minutes / TRIALS, told)
        while time.monotonic() < deadline:
            _next_trial(study, place, asked, deadline, told)
    except Interrupted as error:
        hint = f"go on with: convoscope search {shell_word(place)}"
        reason = "stopped; the trials that are done are kept"
        raise Interrupted(place, reason, hint=hint, code="interrupted-search", signal=error.exit_code - 128) from None
    return _result(study, place, asked, told)


def _absolute(source: str | os.PathLike[str]) -> str:
    return str(Path(source).absolute()) if Path(source).exists() else str(source)


def _check_keys(asked: Mapping[str, Any]) -> None:
    for key in asked["keys"]:
        if key not in SPACE or key in asked["options"]:
            reason = "is given, and cannot be searched as well" if key in SPACE else "is not a setting that is searched"
            hint = did_you_mean(key, SPACE) or "one of " + ", ".join(SPACE)
            raise UsageError(printable(key), reason, hint=hint, code="search-key")


def _new_place(output: str | os.PathLike[str] | None, source: str | os.PathLike[str]) -> Path:
    """The search's folder, made."""
    stem = re.sub(r"[^\w-]+", "-", Path(source).name or "images").strip("-")[:40]
    number = 1
    while output is None and (Path("runs") / f"{stem}-search-{number}").exists():
        number += 1
    place = Path("runs") / f"{stem}-search-{number}" if output is None else Path(output)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            hint = "name a new one, or go on with a search by its folder in place of the images"
            raise InUseError(place, "is not empty", hint=hint, code="search-exists")
    except OSError as error:
        raise machine_error(place, error) from error
    return place


def _study(place: Path, asked: Mapping[str, Any]) -> Any:
    """Optuna's study, with the trials that are in its journal."""
    try:
        optuna = import_module("optuna")
    except ModuleNotFoundError:
        hint = "pip install 'convoscope[search]'"
        raise MachineError("optuna", "is not installed", hint=hint, code="search-missing") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal
    storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(place / "trials.log")))
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
    )
    # Another seed each time it goes on, or it would propose the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=asked["seed"] + len(study.trials), n_startup_trials=4)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # of a process that was killed
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _train(
    place: Path, asked: Mapping[str, Any], number: int, settings: Mapping[str, Any], watch: Reporter, told: Reporter
) -> tuple[str, Path]:
    """One trial: how it ended, and its run's folder."""
    folder = place / f"trial-{number:03}"
    while folder.exists():  # what a killed process left
        folder = folder.with_name(folder.name + "b")
    options = {**asked["options"], **({"epochs": asked["epochs"]} if "epochs" in asked else {}), **settings}
    try:
        train(asked["source"], asked["model"], output=folder, seed=asked["seed"], reporter=[watch, told], **options)
    except _Ended as ended:
        told.end()
        if ended.epochs:
            raise
        return ended.state, folder
    except DataError as error:
        if error.code != "loss-not-finite" or not number:
            raise
        told.warn(str(error))
        return "failed", folder
    return "complete", folder


def _first_trial(study: Any, place: Path, asked: dict[str, Any], seconds: float, told: Reporter) -> None:
    """The recipe that `train` chooses, with as many epochs as fit."""
    optuna = import_module("optuna")
    try:
        state, folder = _train(place, asked, 0, {}, _Watch(None, seconds, 0.0), told)
    except _Ended as ended:
        told.say(f"a whole training takes too long for this search: every trial has {ended.epochs} epochs")
        asked["epochs"] = ended.epochs
        shutil.rmtree(place / "trial-000")
        state, folder = _train(place, asked, 0, {}, _Watch(None, math.inf, 0.0), told)
    settings, history = read_summary(folder)
    if any(row["val_accuracy"] is None for row in history):
        hint = "give it one: --validation 0.1"
        raise DataError(place, "there is no validation part to choose by", hint=hint, code="search-validation")
    asked["model"] = settings.model
    write_json(place / "search.json", asked)
    found = _facts(folder)
    study.add_trial(
        optuna.trial.create_trial(
            value=found["value"],
            user_attrs={**found, "state": state, "run": folder.name, "settings": {}},
            intermediate_values={row["epoch"]: row["val_accuracy"] for row in history},
        )
    )
    told.say(f"trial 0, the recipe that train chooses: validation accuracy {found['value']:.4f}")


def _next_trial(study: Any, place: Path, asked: Mapping[str, Any], deadline: float, told: Reporter) -> None:
    optuna = import_module("optuna")
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    trial = study.ask()
    settings = {key: _suggested(trial, key, SPACE[key]) for key in asked["keys"]}
    told.say(f"trial {trial.number}: " + ", ".join(f"{key} {_written(value)}" for key, value in settings.items()))
    state, folder = _train(place, asked, trial.number, settings, _Watch(trial, math.inf, deadline), told)
    found = _facts(folder)
    for name, value in {**found, "state": state, "run": folder.name, "settings": settings}.items():
        trial.set_user_attr(name, value)
    value = found["value"] if state == "complete" else None
    study.tell(trial, value, state=getattr(optuna.trial.TrialState, states[state]))
    best = _best(_trials(study, place)).run
    for other in sorted(place.glob("trial-*")):
        if other != best:  # its figures stay
            for weights in other.glob("*.safetensors"):
                weights.unlink()
    if value is not None:
        told.say(
            f"trial {trial.number}: validation accuracy {value:.4f}{', the best so far' if best == folder else ''}"
        )


def _suggested(trial: Any, key: str, space: _Range) -> Any:
    if space.values:
        return trial.suggest_categorical(key, space.values)
    # Three significant digits, so that what is shown and written is what was used.
    return float(f"{trial.suggest_float(key, space.low, space.high, log=space.log):.3g}")


def _facts(folder: Path) -> dict[str, Any]:
    """What a trial reached: validation figures of its best epoch, and how many were done."""
    history = read_history(folder / "metrics.csv") if (folder / "metrics.csv").is_file() else []
    if not history:
        return {"value": None, "loss": None, "epochs": 0}
    row = history[best_epoch(history) - 1]
    return {"value": row["val_accuracy"], "loss": row["val_loss"], "epochs": len(history)}


def _trials(study: Any, place: Path) -> tuple[Trial, ...]:
    found = []
    for trial in study.trials:
        facts = trial.user_attrs
        if "run" in facts:  # else a killed process had it
            found.append(
                Trial(
                    place / facts["run"],
                    facts["settings"],
                    facts["value"],
                    facts["loss"],
                    facts["epochs"],
                    facts["state"],
                )
            )
    return tuple(found)


def _result(study: Any, place: Path, asked: dict[str, Any], told: Reporter) -> Search:
    """Write the best recipe, and test the best trial, once for each choice."""
    trials = _trials(study, place)
    best = _best(trials)
    recipe = {name: value for name, value in asked["options"].items() if name in Recipe.model_fields}
    more = {name: value for name, value in asked["options"].items() if name not in Recipe.model_fields}
    content = {"source": asked["source"], "model": asked["model"], "seed": asked["seed"], **more}
    # Without the trials' few epochs: a training has as many as suit the images.
    write_text(place / "best.toml", tomli_w.dumps({**content, "recipe": {**recipe, **best.settings}}))
    run, scores = Run.open(best.run), read_scores(best.run)
    if scores is None and run.settings.images.get("test"):
        scores = test(run, invariance=False, progress=lambda done, total: told.progress("testing", done, total))
        told.end()
        told.tested(run.folder, scores.split, scores.figures())
        asked["tests"] += 1
        write_json(place / "search.json", asked)
    return Search(place, trials, scores, asked["tests"])
