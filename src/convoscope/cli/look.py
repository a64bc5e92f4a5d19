"""`convoscope look`: inside a run, at one image or at the run itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UsageError, printable
from ..files import check_plain
from .options import Json, Opening, RunPath
from .output import console, print_json, print_plain

if TYPE_CHECKING:
    from ..training import Run


def look(
    run: RunPath,
    picture: Annotated[
        str | None,
        Parameter(help="An image of any size. Without it: the run's own filters and what activates them most."),
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
        bool,
        Parameter(help="Which part decides: Grad-CAM and related methods, each beside the same from shuffled weights."),
    ] = False,
    filters: Annotated[bool, Parameter(help="The filters of every convolution.")] = False,
    out: Annotated[Path | None, Parameter(help="Where to write the images; by default looks/RUN-PICTURE/.")] = None,
    opening: Opening = Opening(),
    json: Json = False,
) -> None:
    """Look inside RUN at one image: every layer's feature maps as images, and any number opened into its arithmetic.

    Without an image: the filters, the patches that activate them most, and where the classes are in the last layer.
    """
    from .. import explain
    from ..training import freed_memory_kept
    from .sheets import print_look, print_why, save_sheets

    opened = opening.open(run)
    folder = out or Path("looks") / "-".join(filter(None, (run.resolve().name, Path(picture).stem if picture else "")))
    if out is None:  # the working folder may have come with the images
        check_plain(folder.parent, folder=True)
        check_plain(folder, folder=True)
    if picture is None:
        if why is not None or layer is not None or cam:
            raise UsageError(
                "PICTURE",
                "missing: these options need an image",
                hint="convoscope look --help",
                code="picture-missing",
            )
        _look_at_run(opened, folder, json)
        return
    with freed_memory_kept():
        seen = explain.look(opened, picture)
    if why is not None:
        found = seen.why(*explain.read_unit(why))
        files = save_sheets([("why.png", found.figure())], folder) if out is not None else []
        if json:
            print_json(found.to_json())
        else:
            print_why(console(), console(error=True), seen, found, all=all, files=files)
        return
    with freed_memory_kept():
        files = save_sheets(seen.sheets(layer=layer, cam=cam, filters=filters), folder)
    if json:
        print_json(seen.to_json() | {"files": [str(path) for path in files]})
    else:
        print_look(console(), console(error=True), seen, folder, files)


def _look_at_run(run: Run, folder: Path, json: bool) -> None:
    from .. import explain
    from ..training import freed_memory_kept
    from .sheets import save_sheets

    with freed_memory_kept():
        inside = explain.RunInspection.of(run)
        sheets = explain.filter_sheets(run.network()) if inside is None else inside.sheets()
        files = save_sheets(sheets, folder)
    if json:
        print_json({"files": [str(path) for path in files]})
    else:
        print_plain(console(), f"images: {printable(folder)} ({len(files)})")
