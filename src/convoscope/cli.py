"""The command line: arguments to calls, results to text. Heavy imports stand inside the commands, so that --help is quick."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from .errors import ConvoscopeError, Interrupted, MachineError, UsageError, printable

if TYPE_CHECKING:
    from rich.console import Console

app = App(
    name="convoscope",
    help="Train an image classifier on your own pictures, and see every number in it.",
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
)

JsonFlag = Annotated[bool, Parameter(name="--json", help="Print one JSON value and nothing else.")]
Layout = Annotated[
    str, Parameter(help="How to read SOURCE, if the guess is wrong; `convoscope data --help` lists the layouts.")
]


def main() -> NoReturn:
    """Run one command and leave with its exit code: 0 done, 2 usage, 3 data, 4 model file, 5 machine, 6 in use,
    130/143 interrupted with the state saved, 1 a bug of ours.
    """
    # Closed streams (`>&-`) are None in Python; whoever closed them does not want to read, which is no reason to fail.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    arguments = sys.argv[1:]
    if arguments[:1] == ["train"]:
        _use_quick_allocator()
    code = run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _complain(_unwritable(error))
        # Python would flush once more on its way out, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or MachineError.exit_code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """One command, its faults printed to standard error. Returns the exit code."""
    try:
        # A lone "-" would be taken for an option.
        plain = ["/dev/stdin" if argument == "-" else argument for argument in arguments]
        app(plain, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        words = " ".join(str(error).split())
        _complain(UsageError("", words, hint=f"convoscope {_command_of(arguments)}--help", code="usage"))
        return 2
    except ConvoscopeError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain(Interrupted("", "interrupted; nothing was lost", code="interrupted"))
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): not our fault, and nothing more can be said.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except OSError as error:
        _complain(_unwritable(error))
        return MachineError.exit_code
    except Exception:
        return _own_fault()
    return 0


def _complain(error: ConvoscopeError) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)


def _unwritable(error: OSError) -> MachineError:
    """Standard output that cannot take any more."""
    reason = f"cannot be written to: {error.strerror or error}"
    return MachineError("standard output", reason, hint="nothing else was lost", code="output-unwritable")


def _own_fault() -> int:
    """A bug of ours: the traceback goes into a file whose path is printed."""
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="convoscope-", suffix=".log", delete=False) as log:
        traceback.print_exc(file=log)
    last = traceback.format_exc().strip().splitlines()[-1]
    with contextlib.suppress(OSError, ValueError):
        print(f"error: convoscope failed, which is a bug of its own: {printable(last)}", file=sys.stderr)
        print(f"hint: please report it with the file {log.name}", file=sys.stderr)
    return 1


def _command_of(arguments: list[str]) -> str:
    first = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    return f"{first} " if first in set(app) else ""


def _use_quick_allocator() -> None:
    """Start again with tcmalloc where the system has it: training is 1.2 to 1.7 times as fast. It must be there from the start."""
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ or os.environ.get("CONVOSCOPE_ALLOCATOR"):
        return
    for pattern in (
        "lib/*-linux-gnu/libtcmalloc_minimal.so.4",
        "lib64/libtcmalloc_minimal.so.4",
        "lib/*-linux-gnu/libtcmalloc.so.4",
    ):
        for library in Path("/usr").glob(pattern):
            environment = os.environ | {"LD_PRELOAD": str(library), "CONVOSCOPE_ALLOCATOR": "tcmalloc"}
            os.execve(sys.executable, [sys.executable, "-m", "convoscope", *sys.argv[1:]], environment)


def _console(*, error: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 120)


def _print_json(value: Any) -> None:
    text = jsonlib.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


@app.command
def data(
    source: str,
    /,
    *,
    layout: Layout = "auto",
    seed: int = 0,
    sheet: Annotated[
        Path | None, Parameter(help="Where the contact sheet goes; by default contact-sheets/NAME.png.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Say what is in SOURCE: classes, counts, sizes, files that cannot be read, duplicates, leaks; and draw a contact sheet.

    SOURCE is a folder, a file or a name. Layouts: class-folders (one folder a class, with or without train, val and test
    folders around them), flat (cat.0.jpg), idx (MNIST's files), arrays (.npy, .npz), quickdraw (one .npy a class),
    csv (path and label, labels or numbers). Names: builtin:lines, builtin:shapes, builtin:fruits, builtin:drawings,
    builtin:drawings/apple,banana, mnist, fashion-mnist, quickdraw:apple,banana.
    """
    from . import data as room
    from .terminal import TerminalReporter

    reporter = TerminalReporter(_console(error=True))
    dataset = room.load(source, layout=layout, seed=seed)
    inspection = room.inspect(dataset, progress=lambda done, total: reporter.progress("reading", done, total))
    reporter.end()
    path = sheet or Path("contact-sheets") / f"{_file_stem(source)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    form, _ = room.suggest_format(dataset)
    room.contact_sheet(room.prepare(dataset, form), path)
    if json:
        _print_json(inspection.to_json() | {"contact_sheet": str(path)})
        return
    from .tables import print_inspection

    console = _console()
    print_inspection(console, inspection)
    console.print(f"contact sheet: {printable(path)}", markup=False, highlight=False)


@app.command
def model(
    text: str,
    /,
    *,
    input: Annotated[
        str,
        Parameter(name="--input", help="Height x width x channels; by default what a preset was made for, or 28x28x1."),
    ] = "",
    classes: Annotated[int, Parameter(help="Outputs of the last layer.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Show a network layer by layer: output shape, parameters as a product, multiply-adds, receptive field.

    TEXT is a model text such as "conv(32) relu maxpool(2) flatten dense", a preset's name (tiny, mlp, mnist-mlp,
    fashion-mlp, fashion, quickdraw, catsdogs, lenet, vgg-small, resnet-small, inception-small), torchvision:NAME or timm:NAME.
    """
    from . import models

    preset = models.PRESETS.get(text)
    shape = _input_shape(input) if input else (preset.input if preset and preset.input else (28, 28, 1))
    outputs = classes or (2 if text in ("tiny", "catsdogs") else 10)
    table = models.table(text, shape, outputs)
    if json:
        _print_json(table.to_json())
        return
    from .tables import print_model

    print_model(_console(), text, preset.text if preset else None, shape, outputs, table)


@app.command
def train(
    source: str | None = None,
    /,
    *,
    model: Annotated[
        str | None, Parameter(help="A model text, a preset, torchvision:NAME or timm:NAME; by default chosen to suit.")
    ] = None,
    output: Annotated[Path | None, Parameter(help="The run's folder; by default a new one in runs/.")] = None,
    resume: Annotated[Path | None, Parameter(help="Go on with this run instead of starting one.")] = None,
    epochs: Annotated[
        int | None, Parameter(help="How often every training image is shown; on --resume a new total.")
    ] = None,
    seed: Annotated[
        int | None, Parameter(help="Decides split, first weights, order and augmentation; 0 if not given.")
    ] = None,
    size: Annotated[
        str | None, Parameter(help="The network's input, such as 96 or 96x128; by default chosen to suit.")
    ] = None,
    channels: Annotated[int | None, Parameter(help="1 for grey, 3 for colour; by default as the images are.")] = None,
    resize: Annotated[
        Literal["fit", "crop", "stretch"] | None,
        Parameter(help="Whole image with a border, cut to fill, or stretched."),
    ] = None,
    layout: Annotated[str | None, Parameter(help="How to read SOURCE, if the guess is wrong.")] = None,
    validation: Annotated[
        float | None, Parameter(help="Share of the images for validation, if SOURCE has no such part.")
    ] = None,
    test: Annotated[
        float | None, Parameter(help="Share of the images for the test, if SOURCE has no such part.")
    ] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    set: Annotated[
        list[str] | None, Parameter(name="--set", help="key=value for any setting of the recipe, see docs/training.md.")
    ] = None,
    config: Annotated[
        Path | None, Parameter(help="A TOML file with any of these options; a run's run.toml is one.")
    ] = None,
    strict: Annotated[bool, Parameter(help="An image that cannot be read is an error.")] = False,
    accept_data_change: Annotated[bool, Parameter(help="With --resume: go on although images have changed.")] = False,
    no_test: Annotated[bool, Parameter(help="Stop after training: no test, no report.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train a network on SOURCE, test it on images it has not seen, and write a report. All of it lies in the run's folder.

    Ctrl-C saves and stops; --resume RUN goes on to the very same weights.
    """
    from .config import read_assignments, read_config
    from .terminal import TerminalReporter

    reporter = TerminalReporter(_console(error=True))
    given: dict[str, Any] = {
        "source": source, "model": model, "seed": seed, "size": size, "channels": channels, "resize": resize,
        "layout": layout, "validation": validation, "test": test, "strict": strict or None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    recipe = read_assignments(set or [])
    for key, value in (("epochs", epochs), ("device", device)):
        if value is not None:
            if key in recipe:
                raise UsageError(
                    f"--{key}", f"given twice: --{key} {value} and --set {key}={recipe[key]}", code="option-twice"
                )
            recipe[key] = value
    if resume is not None:
        extra = [f"--{key}" for key in given] + [f"--set {key}" for key in recipe if key != "epochs"]
        extra += ["--output"] * (output is not None) + ["--config"] * (config is not None)
        if extra:
            raise UsageError(
                "--resume",
                f"a resumed run keeps its settings; received {', '.join(extra)} as well",
                hint="only --epochs, --accept-data-change, --no-test and --json go with --resume",
                code="resume-with-settings",
            )
        from .training import resume as go_on

        finished = go_on(resume, epochs=recipe.get("epochs"), accept_data_change=accept_data_change, reporter=reporter)
    else:
        if config is not None:
            from_file, recipe_from_file = read_config(config)
            for key in from_file.keys() & given.keys() | {
                f"recipe.{key}" for key in recipe_from_file.keys() & recipe.keys()
            }:
                reporter.say(f"{key}: the command line overrules {printable(config)}")
            given, recipe = from_file | given, recipe_from_file | recipe
        if "source" not in given:
            raise UsageError(
                "SOURCE",
                "missing: a folder, a file or a name of images",
                hint="convoscope train --help",
                code="source-missing",
            )
        if "size" in given:
            given["size"] = _size(str(given["size"]))
        from .training import train as start

        place = given.pop("source")
        finished = start(place, given.pop("model", "auto"), output=output, reporter=reporter, **given, **recipe)
    row = finished.history[finished.best_epoch - 1]
    if not no_test:
        _test_and_report(finished, reporter, quiet=json)
    if json:
        _print_json({
            "run": str(finished.folder),
            "best_epoch": finished.best_epoch,
            "val_accuracy": row["val_accuracy"],
            "seconds": finished.seconds,
        })  # fmt: skip
    elif no_test:
        _console().print(f"run: {printable(finished.folder)}", markup=False, highlight=False)


@app.command
def test(
    run: Path,
    source: str | None = None,
    /,
    *,
    split: Annotated[
        Literal["test", "validation", "train"], Parameter(help="The part of the run's own images.")
    ] = "test",
    json: JsonFlag = False,
) -> None:
    """Test RUN on its unseen part, or on SOURCE: accuracy, per class, confusion, calibration, worst mistakes, invariance."""
    from . import evaluation
    from .tables import print_scores
    from .terminal import TerminalReporter
    from .training import Run

    reporter = TerminalReporter(_console(error=True))
    opened = Run.open(run)
    scores = evaluation.test(
        opened, source, split=split, progress=lambda done, total: reporter.progress("testing", done, total)
    )
    reporter.end()
    report = evaluation.write_report(opened)
    if json:
        _print_json(scores.to_json())
        return
    print_scores(_console(), scores)
    _console().print(f"report: {printable(report)}", markup=False, highlight=False)


def _test_and_report(finished: Any, reporter: Any, *, quiet: bool) -> None:
    from . import evaluation
    from .tables import print_scores

    split: Literal["test", "validation"] = "test" if finished.settings.images.get("test") else "validation"
    scores = None
    if finished.settings.images.get(split):
        scores = evaluation.test(
            finished, split=split, progress=lambda done, total: reporter.progress("testing", done, total)
        )
        reporter.end()
    report = evaluation.write_report(finished)
    if not quiet:
        console = _console()
        if scores is not None:
            print_scores(console, scores)
        console.print(f"run: {printable(finished.folder)}\nreport: {printable(report)}", markup=False, highlight=False)


@app.command
def predict(
    run: Path,
    paths: Annotated[
        list[str], Parameter(help="Images, folders, patterns such as 'new/*.jpg', or - for a list on standard input.")
    ],
    /,
    *,
    format: Annotated[Literal["table", "csv", "json"], Parameter(help="How to print.")] = "table",
    json: JsonFlag = False,
) -> None:
    """Label images with RUN: the label, its confidence and the scores of all classes."""
    from .predicting import collect, print_predictions
    from .training import Run

    opened = Run.open(run)
    images, skipped = collect(paths)
    predictions = opened.predict(images, skipped=skipped)
    print_predictions(_console(), _console(error=True), opened, predictions, skipped, "json" if json else format)
    if not predictions:
        from .errors import DataError

        raise DataError(
            "",
            f"none of {len(skipped)} images could be read",
            hint="the reasons stand above",
            code="nothing-to-predict",
        )


@app.command
def compare(
    runs: list[Path],
    /,
    *,
    html: Annotated[Path | None, Parameter(help="Write the comparison with its curves as one HTML file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Put tested runs side by side: scores, parameters, seconds, and how far images may be shifted, turned and scaled."""
    from . import evaluation
    from .tables import print_comparison
    from .training import Run

    comparison = evaluation.compare([Run.open(run) for run in runs])
    if html is not None:
        evaluation.write_comparison(comparison, html)
    if json:
        _print_json(comparison.to_json())
    else:
        print_comparison(_console(), comparison)
        if html is not None:
            _console().print(f"page: {printable(html)}", markup=False, highlight=False)


def _file_stem(source: str) -> str:
    import re

    name = Path(source).resolve().name if Path(source).exists() else source
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:80] or "images"


def _input_shape(text: str) -> tuple[int, int, int]:
    """`28x28x1`, `96x96` (colour) or `28`."""
    parts = _whole_numbers(text, "--input", "height x width x channels, such as 28x28x1")
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    height, width = _size(text)
    return height, width, 3


def _size(text: str) -> tuple[int, int]:
    parts = _whole_numbers(text, "--size", "pixels such as 96 or 96x128 (height x width)")
    if len(parts) > 2:
        raise UsageError(
            "--size", f"expected pixels such as 96 or 96x128; received {printable(text)}", code="size-malformed"
        )
    return (parts[0], parts[0]) if len(parts) == 1 else (parts[0], parts[1])


def _whole_numbers(text: str, option: str, expected: str) -> list[int]:
    parts = text.lower().replace("×", "x").split("x")
    if not 1 <= len(parts) <= 3 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise UsageError(option, f"expected {expected}; received {printable(text)}", code="size-malformed")
    return [int(part) for part in parts]
