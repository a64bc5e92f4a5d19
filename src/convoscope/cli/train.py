"""`convoscope train`: a new run, or a stopped one continued."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..errors import UsageError, printable
from .finish import evaluate, finish
from .learning_rates import show_learning_rates
from .log_option import tracked
from .module_file import read_module
from .options import SOURCE, Afterwards, ModuleFile, MovedTo, Output, Parts, RecipeOptions, Seed, Strict, read_size
from .output import console, print_json, print_plain

if TYPE_CHECKING:
    from ..training import Reporter


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run begins with, and how images reach its network."""

    model: Annotated[
        str | None,
        Parameter(help="A model text, a preset, torchvision:NAME or timm:NAME; by default chosen to suit the images."),
    ] = None
    module: ModuleFile = None
    output: Output = None
    repeat: Annotated[
        int | None,
        Parameter(
            help="Train this many times on one split, with seeds from --seed on: mean and standard deviation. "
            "The same command with --output FOLDER goes on where it stood."
        ),
    ] = None
    resume: Annotated[Path | None, Parameter(help="Continue this run instead of starting a new one.")] = None
    epochs: Annotated[
        int | None, Parameter(help="How often every training image is shown; with --resume the new total.")
    ] = None
    minutes: Annotated[
        float | None,
        Parameter(help="Choose the number of epochs so that training takes at most about this long."),
    ] = None
    seed: Seed = None

    size: Annotated[
        str | None,
        Parameter(help="The network's input in pixels, such as 96 or 96x128; by default chosen to suit the images."),
    ] = None
    channels: Annotated[int | None, Parameter(help="1 for grey, 3 for colour; by default the same as the images.")] = (
        None
    )
    resize: Annotated[
        Literal["fit", "crop", "stretch"] | None,
        Parameter(help="The whole image with a border, cropped to fill, or stretched."),
    ] = None


def train(
    source: Annotated[str | None, SOURCE] = None,
    /,
    *,
    options: RunOptions = RunOptions(),
    parts: Parts = Parts(),
    recipe: RecipeOptions = RecipeOptions(),
    config: Annotated[
        Path | None, Parameter(help="A TOML file with any of these options, such as a run's run.toml.")
    ] = None,
    strict: Strict = False,
    accept_data_change: Annotated[
        bool, Parameter(show_default=False, help="With --resume: continue even if images have changed.")
    ] = False,
    moved_to: MovedTo = None,
    find_learning_rate: Annotated[
        bool,
        Parameter(
            show_default=False,
            negative=(),
            help="Only measure at which learning rate the loss falls fastest.",
        ),
    ] = False,
    afterwards: Afterwards = Afterwards(),
) -> None:
    """Train a network on SOURCE, test it on images it has not seen, and write a report, all into the run's folder.

    Anything you leave out is chosen to suit the images, and printed. Ctrl-C saves and stops; --resume RUN continues to
    the very same weights.

    Settings for --set: epochs, batch_size, optimizer, learning_rate, muon_learning_rate, momentum, beta2, weight_decay,
    schedule, warmup, label_smoothing, class_weights, sampling, flip, rotate, shift, shear, zoom, crop, erase, colour,
    mixup, cutmix, randaugment, start_size, end_size, trained_blocks, block_decay, freeze_norm, ema, patience,
    save_every, device, precision, memory_format, threads.
    """
    from ..terminal import TerminalReporter

    reporter = tracked(TerminalReporter(console(error=True)), afterwards.log)
    given = _given(source, options, strict) | parts.given()
    settings = recipe.read(options.epochs)
    if options.resume is not None:
        typed = ["SOURCE" if key == "source" else f"--{key.replace('_', '-')}" for key in given]
        others = (("--config", config), ("--device", recipe.device), ("--repeat", options.repeat))
        for option, value in (("--output", options.output), *others):
            typed += [option] * (value is not None)
        with_option = {"epochs", "device" if recipe.device is not None else ""}
        typed += [f"--set {key}" for key in settings if key not in with_option]
        typed += ["--find-learning-rate"] * find_learning_rate
        _check_resumed(typed)
        from ..training import resume

        epochs = settings.get("epochs")
        run = resume(
            options.resume,
            epochs=epochs,
            accept_data_change=accept_data_change,
            source=moved_to,
            model=read_module(options.module),
            reporter=reporter,
        )
    else:
        if moved_to is not None:
            raise UsageError(
                "--source",
                "says where a run's images are now; it goes with --resume",
                hint="name the images of a new run without it: convoscope train SOURCE",
                code="option-without-resume",
            )
        if accept_data_change:
            raise UsageError(
                "--accept-data-change",
                "only goes with --resume: a new run takes the images as they are",
                hint="leave it out, or name the run: --resume RUN",
                code="option-without-resume",
            )
        if options.module is not None:
            given["model"] = read_module(options.module)
        begin = _begun_with(given, settings, config, reporter)
        if find_learning_rate:
            show_learning_rates(*begin, reporter, as_json=afterwards.json)
            return
        if options.repeat is not None:
            _repeat(options.repeat, *begin, options.output, reporter, afterwards)
            return
        from ..training import train as start

        source, model, asked = begin
        run = start(source, model, output=options.output, reporter=reporter, **asked)
    finish(run, reporter, afterwards)


def _given(source: str | None, options: RunOptions, strict: bool) -> dict[str, Any]:
    """The options of a new run by name, without those that were left out."""
    if options.module is not None and options.model is not None:
        raise UsageError(
            "--module", "is a model of its own; --model was given as well", hint="leave one out", code="option-twice"
        )
    given = {
        "source": source, "model": options.model, "seed": options.seed, "size": options.size,
        "channels": options.channels, "resize": options.resize, "minutes": options.minutes,
        "strict": strict or None,
    }  # fmt: skip
    return {key: value for key, value in given.items() if value is not None}


def _check_resumed(typed: list[str]) -> None:
    """Refuse what contradicts `--resume`."""
    if typed:
        raise UsageError(
            "--resume",
            f"a resumed run keeps its settings; received {', '.join(typed)} as well",
            hint="only --epochs, --source, --module, --accept-data-change, --no-test and --json go with --resume",
            code="resume-with-settings",
        )


def _repeat(
    times: int,
    source: str,
    model: Any,
    asked: dict[str, Any],
    output: Path | None,
    reporter: Reporter,
    afterwards: Afterwards,
) -> None:
    """Train several times, test each, and print how far they differ."""
    from ..evaluation import Spread
    from ..training import repeat

    if afterwards.no_test:
        raise UsageError(
            "--no-test", "repeated runs are tested, to compare them", hint="leave it out", code="option-twice"
        )
    runs = repeat(
        source, model, times=times, output=output, reporter=reporter, **asked,
        after=lambda run: evaluate(run, reporter, quiet=True),
    )  # fmt: skip
    spread, folder = Spread.of(runs), Path(runs[0].folder).parent
    report = spread.write(folder)
    if afterwards.json:
        print_json(spread.to_json() | {"folder": str(folder)})
    else:
        print_plain(console(), f"{spread.sentence}\nruns: {printable(folder)}\nreport: {printable(report)}")


def _begun_with(
    given: dict[str, Any], settings: dict[str, Any], config: Path | None, reporter: Reporter
) -> tuple[str, Any, dict[str, Any]]:
    """Source, model and options of a new run. What was typed overrides the configuration file."""
    if config is not None:
        from ..config import read_config

        options, recipe = read_config(config)
        for key in options.keys() & given.keys() | {f"recipe.{key}" for key in recipe.keys() & settings.keys()}:
            reporter.say(f"{key}: the command line overrides {printable(config)}")
        given, settings = options | given, recipe | settings
    if "source" not in given:
        raise UsageError(
            "SOURCE",
            "missing: a folder, a file or a name of images",
            hint="convoscope train --help",
            code="source-missing",
        )
    if "size" in given:
        given["size"] = read_size(str(given["size"]))
    return given.pop("source"), given.pop("model", "auto"), given | settings
