"""From a short text, a name or a ready module to a network, and its table of shapes. See docs/models.md.

Importing this room imports no torch: reading a text and its table need none.
"""

from .backbone_text import (
    FeatureLayer,
    Pretrained,
    backbone_text,
    blocks,
    feature_layers,
    head_path,
    pretrained,
    replace_part,
    with_head,
)
from .build import build, check, count_parameters, library_name, model_text, pool_first
from .grammar import Item, from_json, kernel_text, parse, to_json, to_text
from .kernels import KERNELS, Kernel
from .layers import LAYERS
from .plan import read_size
from .presets import PRESETS, Preset
from .table import LayerRow, ModelTable, table

__all__ = [
    "KERNELS",
    "LAYERS",
    "PRESETS",
    "FeatureLayer",
    "Item",
    "Kernel",
    "LayerRow",
    "ModelTable",
    "Preset",
    "Pretrained",
    "backbone_text",
    "blocks",
    "build",
    "check",
    "count_parameters",
    "feature_layers",
    "from_json",
    "head_path",
    "kernel_text",
    "library_name",
    "model_text",
    "parse",
    "pool_first",
    "pretrained",
    "read_size",
    "replace_part",
    "table",
    "to_json",
    "to_text",
    "with_head",
]
