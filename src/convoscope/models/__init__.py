"""From a short text, a name or a ready module to a network, and its table of shapes. See docs/models.md.

Importing this room imports no torch: reading a text and its table need none.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .arguments import Argument, Value
from .backbone_text import FeatureLayer, backbone_text, feature_layers, with_head
from .build import build, count_parameters
from .check import check
from .grammar import parse
from .item_json import from_json, to_json
from .item_text import kernel_text, to_text
from .items import Item
from .kernels import KERNELS, Kernel
from .layers import LAYERS, OPERATIONS, Role, kinds_of, role_of
from .modes import eval_mode
from .names import library_name, model_text
from .own_head import with_own_head
from .own_module import ModuleMaker
from .plan import read_size
from .presets import PRESETS, Preset
from .pretrained import Pretrained, pretrained
from .rows import LayerRow
from .surgery import blocks, pool_first, replace_part, sole_head
from .table import ModelTable, table

if TYPE_CHECKING:
    from .axes import Axes, AxisFollower, Grid, axes_after
    from .dispatch import OperationMode
    from .memory import BUDGET, Footprint, Scale, footprint
    from .network import OnFeatures, Parallel, Residual

__all__ = [
    "BUDGET",
    "KERNELS",
    "LAYERS",
    "OPERATIONS",
    "PRESETS",
    "Argument",
    "Axes",
    "AxisFollower",
    "FeatureLayer",
    "Footprint",
    "Grid",
    "Item",
    "Kernel",
    "LayerRow",
    "ModelTable",
    "ModuleMaker",
    "OnFeatures",
    "OperationMode",
    "Parallel",
    "Preset",
    "Pretrained",
    "Residual",
    "Role",
    "Scale",
    "Value",
    "axes_after",
    "backbone_text",
    "blocks",
    "build",
    "check",
    "count_parameters",
    "eval_mode",
    "feature_layers",
    "footprint",
    "from_json",
    "kernel_text",
    "kinds_of",
    "library_name",
    "model_text",
    "parse",
    "pool_first",
    "pretrained",
    "read_size",
    "replace_part",
    "role_of",
    "sole_head",
    "table",
    "to_json",
    "to_text",
    "with_head",
    "with_own_head",
]

_NEED_TORCH = {
    ".axes": ("Axes", "AxisFollower", "Grid", "axes_after"),
    ".dispatch": ("OperationMode",),
    ".memory": ("BUDGET", "Footprint", "Scale", "footprint"),
    ".network": ("OnFeatures", "Parallel", "Residual"),
}


def __getattr__(name: str) -> object:
    # Imported when they are first used: torch alone takes seconds.
    for file, names in _NEED_TORCH.items():
        if name in names:
            return getattr(import_module(file, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
