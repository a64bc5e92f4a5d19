"""The command line: arguments to calls, results to text. Heavy imports stand inside the commands, so that --help is
quick.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnknownOptionError, UnusedCliTokensError

from ..children import leave_working_folder, own_process
from ..errors import (
    ConvoscopeError,
    DataError,
    Interrupted,
    MachineError,
    ModelFileError,
    UsageError,
    printable,
    shell_word,
)
from ..files import check_plain, json_bytes, lies_in, machine_error, tell_lost_pages
from ..free_memory import free_memory, ran_out, refused

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from rich.console import Console

    from ..training import Prediction

app = App(
    name="convoscope",
    help="""Train an image classifier on your own pictures, and see every number in it.

    For instance, with one folder of pictures for each class in photos/:

    convoscope data photos/

    convoscope train photos/

    convoscope predict runs/photos-small-1 new.jpg

    Without pictures of your own, begin with: convoscope train builtin:drawings/apple,banana
    """,
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)

JsonFlag = Annotated[bool, Parameter(name="--json", show_default=False, help="Print one JSON value and nothing else.")]
_SOURCE = "A folder, a file or a name of images; `convoscope data --help` says what can be read."
_RUN = "A run's folder, or one of its .safetensors files."
_LAYOUT = (
    "How to read SOURCE, if the guess is wrong, such as folders or csv:labels. A name that is none lists all of them."
)


def main() -> NoReturn:
    """Run one command and leave with its exit code: 0 done, 2 usage, 3 data, 4 model file, 5 machine, 6 in use,
    130/143 interrupted with the state saved, 1 a bug of ours.
    """
    leave_working_folder()
    _open_streams()
    warnings.showwarning = _warn
    arguments = sys.argv[1:]
    _wait_quietly()
    if arguments[:1] in (["train"], ["relearn"]):
        _use_quick_allocator()
    tell_lost_pages()
    code = run(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        _complain(_unwritable(error))
        # Python would flush once more on its way out, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or MachineError.exit_code
    # The system takes all memory back at once; looking through every object first, as Python does, takes half a second
    # after torch.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """One command, its faults printed to standard error. Returns the exit code."""
    free = free_memory()
    try:
        # A lone "-" would be taken for an option.
        plain = ["/dev/stdin" if argument == "-" else argument for argument in arguments]
        app(plain, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(_usage(error, arguments))
        return UsageError.exit_code
    except ConvoscopeError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain(Interrupted("", "interrupted; nothing was lost", code="interrupted"))
        return 130
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        if ran_out(error):
            _complain(refused(error, free))
            return MachineError.exit_code
        if isinstance(error, OSError):
            _complain(_unwritable(error) if error.filename is None else machine_error(error.filename, error))
            return MachineError.exit_code
        return _own_fault()
    return 0


class _Stream(io.FileIO):
    """Standard output or standard error. When its reader goes away (`| head`), what is still said to it falls silent.

    A standard output that cannot be written to for another reason, such as a full disk, is a fault; a standard error
    never is.
    """

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            # EIO: a terminal that was closed.
            gone = isinstance(error, ConnectionError) or (error.errno == errno.EIO and not self._is_file())
            if not gone and self.fileno() == 1:
                raise
            return memoryview(content).nbytes

    def _is_file(self) -> bool:
        return stat.S_ISREG(os.fstat(self.fileno()).st_mode)


def _open_streams() -> None:
    """Standard streams that outlive their readers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Whoever closed a stream (`2>&-`) does not want to read. Left closed, the next file would get its number,
            # and the messages.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _stream(1, sys.stdout), _stream(2, sys.stderr)


def _stream(descriptor: int, before: TextIO | None) -> io.TextIOWrapper:
    """With the encoding that Python found for it."""
    buffer = io.BufferedWriter(_Stream(descriptor, "w", closefd=False))
    if not isinstance(before, io.TextIOWrapper):
        return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)
    by_line = before.line_buffering or before.write_through
    return io.TextIOWrapper(buffer, before.encoding, before.errors, line_buffering=by_line)


def _complain(error: ConvoscopeError) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning in one line, without the place in our code that Python prints."""
    with contextlib.suppress(OSError, ValueError):
        print(f"warning: {printable(message)}", file=sys.stderr)


def _usage(error: CycloptsError, arguments: list[str]) -> UsageError:
    """What was typed and cannot be understood, in our own rhythm."""
    path, reason, hint = "", " ".join(str(error).split()), f"convoscope {_command_of(arguments)}--help"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        path, more = error.unused_tokens[0], len(error.unused_tokens) - 1
        reason = "one argument too many" + (f", and {more} more" if more else "")
    elif isinstance(error, MissingArgumentError) and error.argument is not None:
        path = error.argument.name
        reason = "expected a value behind it" if path.startswith("-") else "missing"
    elif isinstance(error, UnknownOptionError):
        from ..training import Recipe

        option = (error.token.keyword or error.token.value).partition("=")[0]
        setting = option.lstrip("-").replace("-", "_")
        if setting in Recipe.model_fields:
            path, reason = option, "no option, but a setting of the recipe"
            hint = f"convoscope train ... --set {setting}=VALUE"
    return UsageError(path, reason, hint=hint, code="usage")


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


def _wait_quietly() -> None:
    """Let torch's threads spin only briefly while they wait for one another; it must be said before torch is imported.

    By default a waiting thread spins for milliseconds. Where other programs push all threads onto one core, it keeps
    the one that
    it waits for from running: a step of 25 ms then took 310 ms, with a short spin 45 (`benchmarks/busy.py`).
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"


def _use_quick_allocator() -> None:
    """Start again with tcmalloc where the system has it: training is 1.2 to 1.7 times as fast. It must be there from
    the start.
    """
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ or os.environ.get("CONVOSCOPE_ALLOCATOR"):
        return
    for library in _quick_allocators():
        command, environment = own_process(
            "convoscope", *sys.argv[1:], LD_PRELOAD=str(library), CONVOSCOPE_ALLOCATOR="tcmalloc"
        )
        os.execve(command[0], command, environment)


def _quick_allocators() -> Iterator[Path]:
    for pattern in (
        "lib/*-linux-gnu/libtcmalloc_minimal.so.4",
        "lib64/libtcmalloc_minimal.so.4",
        "lib/*-linux-gnu/libtcmalloc.so.4",
    ):
        yield from Path("/usr").glob(pattern)


def _console(*, error: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 120)


def _print_json(value: Any) -> None:
    sys.stdout.buffer.write(json_bytes(value))


@app.command(sort_key=1)
def data(
    source: Annotated[str, Parameter(help="A folder, a file or a name of images.")],
    /,
    *,
    layout: Annotated[str, Parameter(help=_LAYOUT)] = "auto",
    seed: Annotated[int, Parameter(help="Draws the split, where SOURCE does not give one.")] = 0,
    sheet: Annotated[
        Path | None, Parameter(help="Where the contact sheet goes; by default contact-sheets/NAME.png.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Say what is in SOURCE: classes, counts, sizes, files that cannot be read, duplicates, leaks; and draw a contact
    sheet.

    Nothing of yours is changed. Layouts that are told by themselves: folders (one folder a class, with or without
    train, val and test folders around them), flat (cat.0.jpg), idx (MNIST's files), arrays (.npy, .npz), quickdraw (one
    .npy a
    class), csv (path and label, labels or numbers). Names: builtin:lines, builtin:shapes, builtin:fruits,
    builtin:drawings, builtin:drawings/apple,banana, mnist, fashion-mnist, quickdraw:apple,banana.
    """
    from .. import data as room
    from ..terminal import TerminalReporter

    reporter = TerminalReporter(_console(error=True))
    dataset = room.load(source, layout=layout, seed=seed)
    inspection = room.inspect(dataset, progress=lambda done, total: reporter.progress("reading", done, total))
    reporter.end()
    path = sheet or Path("contact-sheets") / f"{_file_stem(source)}.png"
    drawn: str | None = None
    trouble: DataError | None = None
    told = "no contact sheet: it would lie among the images; --sheet FILE.png says where else"
    if sheet is not None or not lies_in(path, source):
        try:
            form, _ = room.suggest_format(dataset)
            prepared = room.prepare(dataset, form)
            if sheet is None:  # the working folder may have come with the images
                check_plain(path.parent, folder=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            room.contact_sheet(prepared, path)
            drawn, told = str(path), f"contact sheet: {printable(path)}"
        except DataError as error:  # too many bad images: now above all they are to be listed
            told, trouble = "no contact sheet: too few good images", error
    if json:
        _print_json(inspection.to_json() | {"contact_sheet": drawn})
    else:
        from .tables import print_inspection

        console = _console()
        print_inspection(console, inspection)
        console.print(told, markup=False, highlight=False)
    if trouble is not None:
        sys.stdout.flush()
        raise trouble


@app.command(sort_key=2)
def model(
    text: Annotated[str, Parameter(help="A model text, a preset's name, torchvision:NAME or timm:NAME.")],
    /,
    *,
    input: Annotated[
        str,
        Parameter(
            name="--input",
            show_default=False,
            help="Height x width x channels; by default what a preset was made for, or 28x28x1.",
        ),
    ] = "",
    classes: Annotated[
        int, Parameter(show_default=False, help="Outputs of the last layer; by default 10, for tiny and catsdogs 2.")
    ] = 0,
    json: JsonFlag = False,
) -> None:
    """Show a network layer by layer: output shape, parameters as a product, multiply-adds, receptive field.

    TEXT is a model text such as "conv(32) relu maxpool(2) flatten dense", a preset's name (tiny, mlp, mnist-mlp,
    fashion-mlp, fashion, quickdraw, lenet, catsdogs, small, vgg-small, resnet-small, inception-small), torchvision:NAME
    or timm:NAME.
    """
    from .. import models

    preset = models.PRESETS.get(text)
    shape = _input_shape(input) if input else (preset.input if preset and preset.input else (28, 28, 1))
    outputs = classes or (2 if text in ("tiny", "catsdogs") else 10)
    table = models.table(text, shape, outputs)
    if json:
        _print_json(table.to_json())
        return
    from .tables import print_model

    print_model(_console(), text, preset.text if preset else None, shape, outputs, table)


@app.command(
    sort_key=3,
    usage="Usage: convoscope train SOURCE [OPTIONS]\n       convoscope train --resume RUN [--epochs N]",
)
def train(
    source: Annotated[str | None, Parameter(help=_SOURCE)] = None,
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
    layout: Annotated[str | None, Parameter(help=_LAYOUT)] = None,
    validation: Annotated[
        float | None, Parameter(help="Share of the images for validation, such as 0.1, if SOURCE has no such part.")
    ] = None,
    test: Annotated[
        float | None, Parameter(help="Share of the images for the test, such as 0.1, if SOURCE has no such part.")
    ] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    set: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            help="key=value, such as flip=true, for a setting of the recipe; may be repeated. Settings: "
            "epochs, batch_size, optimizer, learning_rate, muon_learning_rate, momentum, beta2, weight_decay, schedule, warmup, "
            "label_smoothing, class_weights, sampling, flip, rotate, shift, shear, zoom, crop, erase, colour, mixup, start_size, "
            "end_size, trained_blocks, block_decay, freeze_norm, ema, patience, save_every, device, precision, memory_format, threads.",
        ),
    ] = None,
    config: Annotated[
        Path | None, Parameter(help="A TOML file with any of these options; a run's run.toml is one.")
    ] = None,
    strict: Annotated[bool, Parameter(show_default=False, help="An image that cannot be read is an error.")] = False,
    accept_data_change: Annotated[
        bool, Parameter(show_default=False, help="With --resume: go on although images have changed.")
    ] = False,
    no_test: Annotated[bool, Parameter(show_default=False, help="Stop after training: no test, no report.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train a network on SOURCE, test it on images it has not seen, and write a report. All of it lies in the run's
    folder.

    Ctrl-C saves and stops; --resume RUN goes on to the very same weights.
    """
    from ..config import read_assignments, read_config
    from ..terminal import TerminalReporter

    reporter = TerminalReporter(_console(error=True))
    given: dict[str, Any] = {
        "source": source, "model": model, "seed": seed, "size": size, "channels": channels, "resize": resize,
        "layout": layout, "validation": validation, "test": test, "strict": strict or None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    typed = ["SOURCE" if key == "source" else f"--{key}" for key in given]
    typed += (
        ["--output"] * (output is not None) + ["--config"] * (config is not None) + ["--device"] * (device is not None)
    )
    recipe = read_assignments(set or [])
    typed += [f"--set {key}" for key in recipe if key != "epochs"]
    for key, value in (("epochs", epochs), ("device", device)):
        if value is not None:
            if key in recipe:
                raise UsageError(
                    f"--{key}", f"given twice: --{key} {value} and --set {key}={recipe[key]}", code="option-twice"
                )
            recipe[key] = value
    if resume is not None:
        if typed:
            raise UsageError(
                "--resume",
                f"a resumed run keeps its settings; received {', '.join(typed)} as well",
                hint="only --epochs, --accept-data-change, --no-test and --json go with --resume",
                code="resume-with-settings",
            )
        from ..training import resume as go_on

        finished = go_on(resume, epochs=recipe.get("epochs"), accept_data_change=accept_data_change, reporter=reporter)
    else:
        if accept_data_change:
            raise UsageError(
                "--accept-data-change",
                "only goes with --resume: a new run takes the images as they are",
                hint="leave it out, or name the run: --resume RUN",
                code="option-without-resume",
            )
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
        from ..training import train as start

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


@app.command(
    sort_key=3.5,
    usage="Usage: convoscope relearn BACKBONE SOURCE [OPTIONS]\n       convoscope relearn RUN SOURCE --add [OPTIONS]",
)
def relearn(
    backbone: Annotated[
        str,
        Parameter(help="imagenet, timm:NAME, torchvision:NAME, a run's folder, or a .safetensors file."),
    ],
    source: Annotated[str, Parameter(help=_SOURCE)],
    /,
    *,
    output: Annotated[Path | None, Parameter(help="The run's folder; by default a new one in runs/.")] = None,
    head: Annotated[
        Literal["linear", "mean", "mlp"] | None,
        Parameter(
            help="linear: logistic regression; mean: the nearest class mean; mlp: one hidden layer. Linear if not given."
        ),
    ] = None,
    augmented_views: Annotated[
        int | None,
        Parameter(
            help="Show each training image to the backbone this many times, each time augmented a little differently; if not given, 8 for few small images, else 1."
        ),
    ] = None,
    feature_layer: Annotated[
        str | None,
        Parameter(
            help="A run's layer behind which the backbone ends; if not given, the one that does best in cross-validation."
        ),
    ] = None,
    unfreeze: Annotated[
        str | None, Parameter(help="all, or how many of BACKBONE's last blocks learn too once the head has.")
    ] = None,
    epochs: Annotated[
        int | None, Parameter(help="With --unfreeze: how often every training image is shown to the backbone.")
    ] = None,
    coverage: Annotated[
        float | None,
        Parameter(help="Share of known images that shall not be called unknown; 0.95 if not given."),
    ] = None,
    add: Annotated[
        bool, Parameter(show_default=False, help="Add SOURCE's classes and images to those of the run BACKBONE.")
    ] = False,
    model: Annotated[
        str | None,
        Parameter(help="For a .safetensors file from elsewhere: its network, timm:NAME or torchvision:NAME."),
    ] = None,
    seed: Annotated[int, Parameter(help="Decides the split, and chance in training.")] = 0,
    layout: Annotated[str, Parameter(help=_LAYOUT)] = "auto",
    validation: Annotated[
        float | None, Parameter(help="Share of the images for validation, such as 0.1, if SOURCE has no such part.")
    ] = None,
    test: Annotated[
        float | None, Parameter(help="Share of the images for the test, such as 0.1, if SOURCE has no such part.")
    ] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    set: Annotated[
        list[str] | None,
        Parameter(name="--set", help="key=value for a setting of the recipe; see `convoscope train --help`."),
    ] = None,
    strict: Annotated[bool, Parameter(show_default=False, help="An image that cannot be read is an error.")] = False,
    no_test: Annotated[bool, Parameter(show_default=False, help="Stop after learning: no test, no report.")] = False,
    json: JsonFlag = False,
) -> None:
    """Teach a network that has learned already new classes: the backbone is kept, a new head learns SOURCE's classes in
    seconds.

    For instance: convoscope relearn imagenet photos/

    What the backbone makes of each image is kept in the cache, so another head or another class takes seconds. Ctrl-C
    loses nothing.
    """
    from ..config import read_assignments
    from ..terminal import TerminalReporter
    from ..training import relearn as start

    reporter = TerminalReporter(_console(error=True))
    recipe = read_assignments(set or [])
    for key, value in (("epochs", epochs), ("device", device)):
        if value is not None:
            if key in recipe:
                raise UsageError(
                    f"--{key}", f"given twice: --{key} {value} and --set {key}={recipe[key]}", code="option-twice"
                )
            recipe[key] = value
    blocks: Any = int(unfreeze) if unfreeze is not None and unfreeze.isascii() and unfreeze.isdigit() else unfreeze or 0
    finished = start(
        backbone,
        source,
        output=output,
        head=head,
        augmented_views=augmented_views,
        feature_layer=feature_layer,
        unfreeze=blocks,
        coverage=coverage,
        add=add,
        model=model,
        layout=layout,
        seed=seed,
        validation=validation,
        test=test,
        strict=strict,
        reporter=reporter,
        **recipe,
    )
    row = finished.history[finished.best_epoch - 1]
    if not no_test:
        _test_and_report(finished, reporter, quiet=json, quick=True)
    if json:
        _print_json({
            "run": str(finished.folder),
            "best_epoch": finished.best_epoch,
            "val_accuracy": row["val_accuracy"],
            "seconds": finished.seconds,
        })  # fmt: skip
    elif no_test:
        _console().print(f"run: {printable(finished.folder)}", markup=False, highlight=False)


@app.command(sort_key=4, usage="Usage: convoscope test RUN [SOURCE] [OPTIONS]")
def test(
    run: Annotated[Path, Parameter(help=_RUN)],
    source: Annotated[str | None, Parameter(help="Other images of the same classes; by default the run's own.")] = None,
    /,
    *,
    split: Annotated[
        Literal["test", "validation", "train"], Parameter(help="The part of the run's own images.")
    ] = "test",
    json: JsonFlag = False,
) -> None:
    """Test RUN on its unseen part, or on SOURCE: accuracy, per class, confusion, calibration, worst mistakes,
    invariance.
    """
    from .. import evaluation
    from ..terminal import TerminalReporter
    from ..training import Run
    from .tables import print_scores

    reporter = TerminalReporter(_console(error=True))
    opened = Run.open(run)
    scores = evaluation.test(
        opened, source, split=split, progress=lambda done, total: reporter.progress("testing", done, total)
    )
    reporter.end()
    from ..explain import chapters

    report = evaluation.write_report(opened, chapters=chapters)
    if json:
        _print_json(scores.to_json())
        return
    print_scores(_console(), scores)
    _console().print(f"report: {printable(report)}", markup=False, highlight=False)


def _test_and_report(finished: Any, reporter: Any, *, quiet: bool, quick: bool = False) -> None:
    """Test and report; `quick`: what the kept features tell, without another run of the network."""
    try:
        _told_by_a_test(finished, reporter, quiet=quiet, quick=quick)
    except (DataError, ModelFileError, MachineError) as error:
        if error.code == "scores-not-finite":
            raise
        # All could be read a moment ago: a share or a disk has gone since.
        raise MachineError(
            finished.folder,
            f"the training is done and saved, its test or its report is not: {error}",
            hint=f"mend that, then test it with: convoscope test {shell_word(finished.folder)}",
            code="untested",
        ) from error


def _told_by_a_test(finished: Any, reporter: Any, *, quiet: bool, quick: bool) -> None:
    from .. import evaluation
    from .tables import print_scores

    split: Literal["test", "validation"] = "test" if finished.settings.images.get("test") else "validation"
    scores = None
    if finished.settings.images.get(split):
        scores = evaluation.test(
            finished,
            split=split,
            invariance=not quick,
            progress=lambda done, total: reporter.progress("testing", done, total),
        )
        reporter.end()
    if quick:
        report = evaluation.write_report(finished, inside=False)
    else:
        from ..explain import chapters

        report = evaluation.write_report(finished, chapters=chapters)
    if not quiet:
        console = _console()
        if scores is not None:
            print_scores(console, scores)
        console.print(f"run: {printable(finished.folder)}\nreport: {printable(report)}", markup=False, highlight=False)
        if quick:
            own = "" if finished.settings.images.get(split) else " SOURCE"
            more = f"shift, turn, scale and a look inside: convoscope test {shell_word(finished.folder)}{own}"
            console.print(more, markup=False, highlight=False)


@app.command(sort_key=5, usage="Usage: convoscope predict RUN IMAGES... [OPTIONS]")
def predict(
    run: Annotated[Path, Parameter(help=_RUN)],
    images: Annotated[
        list[str], Parameter(help="Images, folders, patterns such as 'new/*.jpg', or - for a list on standard input.")
    ],
    /,
    *,
    format: Annotated[
        Literal["table", "csv", "json"] | None, Parameter(help="How to print; by default as a table.")
    ] = None,
    json: Annotated[bool, Parameter(name="--json", show_default=False, help="The same as --format json.")] = False,
) -> None:
    """Label images with RUN: the label, its confidence and the scores of all classes."""
    if json and format not in (None, "json"):
        raise UsageError("--json", f"contradicts --format {format}", hint="leave one of them out", code="option-twice")
    from ..training import Run
    from .predictions import collect, print_predictions

    opened = Run.open(run)
    found, skipped = collect(images)
    predictions: list[Prediction] = []
    form = "json" if json else format or "table"
    trouble: MachineError | None = None
    try:
        opened.predict(found, skipped=skipped, done=predictions)
    except MachineError as error:  # what was answered before is still given out
        trouble = error
    print_predictions(_console(), _console(error=True), opened, predictions, skipped, form)
    if trouble is not None:
        raise trouble
    if not predictions:
        raise DataError(
            "",
            f"none of {len(skipped)} images could be read",
            hint="the reasons stand above",
            code="nothing-to-predict",
        )


@app.command(sort_key=6, usage="Usage: convoscope compare RUN RUN... [OPTIONS]")
def compare(
    runs: Annotated[list[Path], Parameter(help="Folders of tested runs.")],
    /,
    *,
    html: Annotated[Path | None, Parameter(help="Write the comparison with its curves as one HTML file.")] = None,
    json: JsonFlag = False,
) -> None:
    """Put tested runs side by side: scores, parameters, seconds, and how far images may be shifted, turned and scaled."""
    from .. import evaluation
    from ..training import Run
    from .tables import print_comparison

    comparison = evaluation.compare([Run.open(run) for run in runs])
    if html is not None:
        evaluation.write_comparison(comparison, html)
    if json:
        _print_json(comparison.to_json())
    else:
        print_comparison(_console(), comparison)
        if html is not None:
            _console().print(f"page: {printable(html)}", markup=False, highlight=False)


@app.command
def look(
    run: Annotated[Path, Parameter(help=_RUN)],
    picture: Annotated[
        str | None, Parameter(help="An image of any size. Left out: the run's own filters and what excites them.")
    ] = None,
    /,
    *,
    layer: Annotated[str | None, Parameter(help="Only this layer's feature maps.")] = None,
    why: Annotated[
        str | None,
        Parameter(
            help="The arithmetic of one number, as LAYER:CHANNEL,Y,X, such as conv2:5,3,4; of a dense layer LAYER:UNIT."
        ),
    ] = None,
    all: Annotated[bool, Parameter(help="With --why: every product, in full precision.")] = False,
    cam: Annotated[
        bool, Parameter(help="Which part decides: Grad-CAM and its kin, each beside the same from shuffled weights.")
    ] = False,
    filters: Annotated[bool, Parameter(help="The filters of every convolution.")] = False,
    out: Annotated[Path | None, Parameter(help="Where the images go; by default looks/RUN-PICTURE/.")] = None,
    json: JsonFlag = False,
) -> None:
    """Look inside RUN at one image: every layer's feature maps as images, and any number opened into its arithmetic.

    Without an image: filters, the patches that excite them most, and how the classes lie in the last layer.
    """
    from .. import explain
    from ..training import Run
    from .sheets import print_look, print_why, save_sheets

    opened = Run.open(run)
    folder = out or Path("looks") / "-".join(filter(None, (run.resolve().name, Path(picture).stem if picture else "")))
    for place in () if out is not None else (folder.parent, folder):  # as with `data`
        check_plain(place, folder=True)
    if picture is None:
        if why is not None or layer is not None or cam:
            raise UsageError(
                "PICTURE",
                "missing: these options look at one image",
                hint="convoscope look --help",
                code="picture-missing",
            )
        inside = explain.RunInspection.of(opened)
        sheets = explain.filter_sheets(opened.network()) if inside is None else inside.sheets()
        files = save_sheets(sheets, folder)
        if json:
            _print_json({"files": [str(path) for path in files]})
        else:
            _console().print(f"images: {printable(folder)} ({len(files)})", markup=False, highlight=False)
        return
    seen = explain.look(opened, picture)
    if why is not None:
        found = seen.why(*explain.read_unit(why))
        files = save_sheets([("why.png", found.figure())], folder) if out is not None else []
        if json:
            _print_json(found.to_json())
        else:
            print_why(_console(), _console(error=True), seen, found, all=all, files=files)
        return
    files = save_sheets(seen.sheets(layer=layer, cam=cam, filters=filters), folder)
    if json:
        _print_json(seen.to_json() | {"files": [str(path) for path in files]})
    else:
        print_look(_console(), _console(error=True), seen, folder, files)


@app.command(sort_key=9)
def studio(
    *,
    runs: Annotated[Path, Parameter(help="The folder whose runs are shown.")] = Path("runs"),
    port: Annotated[int, Parameter(show_default=False, help="Where to listen; by default a free port.")] = 0,
    no_browser: Annotated[bool, Parameter(show_default=False, help="Only print the address.")] = False,
    lan: Annotated[
        bool, Parameter(show_default=False, help="Let others on this network look on and try, as students.")
    ] = False,
    allow_root: Annotated[bool, Parameter(show_default=False, help="With --lan: start although you are root.")] = False,
) -> None:
    """Open the browser studio: Tiny, Convolve and Draw. Nothing leaves this machine.

    The address holds a token; without it the page does not open. Only this machine can reach it, unless you say --lan:
    then the class's address and its QR code are printed too. Students see no files and no runs, and change nothing.

    Ctrl-C stops it.
    """
    from ..data.cache import cache_folder
    from ..studio import Studio, serve

    def say(line: str) -> None:
        # Whoever reads may have read enough; and a QR code is no reason to fail where it cannot be printed.
        with contextlib.suppress(OSError, ValueError):
            print(line, flush=True)

    shared = Studio(runs=runs, models=cache_folder() / "studio", lan=lan)
    code = serve(shared, port=port, browser=not no_browser, allow_root=allow_root, say=say, warn=_warn)
    say("the studio has stopped")
    raise SystemExit(code)


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
