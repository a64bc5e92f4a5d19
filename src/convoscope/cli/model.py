"""`convoscope model`: a network's table of layers."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .module_file import read_module
from .options import Json, ModuleFile, read_input
from .output import console, print_json


def model(
    text: Annotated[str | None, Parameter(help="A model text, a preset's name, torchvision:NAME or timm:NAME.")] = None,
    /,
    *,
    module: ModuleFile = None,
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
    json: Json = False,
) -> None:
    """Show a network layer by layer: output shape, parameters as a product, multiply-adds, receptive field.

    TEXT is a model text such as "conv(32) relu maxpool(2) flatten dense", a preset's name (tiny, mlp, mnist-mlp,
    fashion-mlp, fashion, quickdraw, lenet, catsdogs, small, vgg-small, resnet-small, inception-small), torchvision:NAME
    or timm:NAME.
    """
    from .. import models

    if (text is None) == (module is None):
        raise UsageError(
            "TEXT",
            "expected a model's text, or --module and none",
            hint="convoscope model --help",
            code="model-missing",
        )
    preset = None if text is None else models.PRESETS.get(text)
    shape = read_input(input) if input else (preset.input if preset and preset.input else (28, 28, 1))
    outputs = classes or (2 if text in ("tiny", "catsdogs") else 10)
    own = read_module(module)
    network = text if own is None else models.build(own, shape, outputs)
    assert network is not None
    table = models.table(network, shape, outputs)
    if json:
        print_json(table.to_json())
        return
    from .tables import print_model

    name = str(module) if text is None else text
    print_model(console(), name, preset.text if preset else None, shape, outputs, table)
