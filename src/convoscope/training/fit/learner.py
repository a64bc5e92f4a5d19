"""What changes in a training: the network, its optimiser, and the average of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..core import checkpoint
from ..core.optimizer import Optimizer
from .average import WeightAverage
from .job import Job


@dataclass(frozen=True)
class Learner:
    """The parts of a training that a step changes.

    Attributes:
        network: on the engine's device.
        average: of the network's weights, if the recipe asks for it.
    """

    network: nn.Module
    optimizer: Optimizer
    average: WeightAverage | None

    @classmethod
    def of(cls, job: Job) -> Learner:
        """As they are before the first step."""
        network = job.engine.place(job.network)
        optimizer = Optimizer(network, job.recipe)
        average = WeightAverage(network, job.recipe.ema, job.steps_in_epoch) if job.recipe.ema else None
        return cls(network, optimizer, average)

    @property
    def measured(self) -> nn.Module:
        """The network that validation measures and that is kept as the best: the average, if there is one."""
        return self.average.network if self.average is not None else self.network

    def tensors(self) -> dict[str, Tensor]:
        """All that `restore` needs, for a checkpoint."""
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= self.optimizer.tensors()
        if self.average is not None:
            tensors |= {f"average.{name}": value for name, value in self.average.network.state_dict().items()}
        return tensors

    def restore(self, tensors: dict[str, Tensor], path: Path, *, begun: bool) -> None:
        """Go back to what `tensors` gave.

        Args:
            tensors: of a checkpoint.
            path: the checkpoint, for messages.
            begun: whether a step was made, so that the optimiser must have a state.

        Raises:
            ModelFileError: they do not fit (`weights-do-not-fit`).
        """
        checkpoint.load_weights(self.network, section(tensors, "model."), path)
        self.optimizer.restore(tensors, path, begun=begun)
        if self.average is not None:
            checkpoint.load_weights(self.average.network, section(tensors, "average."), path)


def section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
