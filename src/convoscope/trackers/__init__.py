"""Reporters that send a training to TensorBoard, MLflow or Weights & Biases. Their libraries are extras."""

from .mlflow_tracker import MLflow
from .tensorboard_tracker import TensorBoard
from .tracker import Tracker
from .wandb_tracker import WandB

TRACKERS: dict[str, type[Tracker]] = {"mlflow": MLflow, "tensorboard": TensorBoard, "wandb": WandB}
"""By the names that `convoscope train --log` takes."""

__all__ = ["TRACKERS", "MLflow", "TensorBoard", "Tracker", "WandB"]
