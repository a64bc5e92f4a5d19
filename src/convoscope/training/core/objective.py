"""What is minimised and what is counted, by task and by the network's number of outputs.

N images, K classes, labels or numbers. A network returns raw scores; here they become a loss, probabilities and a count
of what is right.

| task | outputs | loss | probabilities |
| --- | --- | --- | --- |
| classification | K | cross-entropy of the softmax | softmax |
| classification, K = 2 | 1 | cross-entropy of one sigmoid | (1 - p, p) |
| multi-label | K | cross-entropy of K sigmoids | K sigmoids |
| regression | K | squared error of numbers scaled to mean 0 and standard deviation 1 | the numbers |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...data import Task
from .hooks import Loss, own_loss


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss and the metric of one training.

    Attributes:
        class_weights: `(K,)` factors of the loss for each class, or None.
        target_mean, target_std: `(K,)`, the numbers' scale, measured on the training part; empty but for `numbers`.
        own_loss: a function of the user's that takes the loss's place.
        temperature: what raw scores are divided by before they become probabilities, see `temperature.py`. The loss
            is that of the raw scores.
    """

    task: Task
    outputs: int
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    own_loss: Loss | None = None
    temperature: float = 1.0

    def targets(self, targets: NDArray[np.generic]) -> Tensor:
        """A dataset's targets as the loss wants them: int64 `(N,)` or float32 `(N, K)`; numbers are scaled."""
        if self.task == "classification":
            return torch.from_numpy(np.ascontiguousarray(targets, np.int64))
        values = torch.from_numpy(np.ascontiguousarray(targets, np.float32))
        if self.task == "regression":
            return (values - torch.tensor(self.target_mean)) / torch.tensor(self.target_std)
        return values

    def loss(self, scores: Tensor, targets: Tensor, *, smoothing: bool = True) -> Tensor:
        """The mean loss of a batch, a scalar. Label smoothing belongs to training only."""
        smooth = self.label_smoothing if smoothing else 0.0
        scores = scores.float()
        if self.own_loss is not None:
            return own_loss(self.own_loss, scores, targets)
        if self.task == "regression":
            return F.mse_loss(scores, targets)
        weights = None if self.class_weights is None else scores.new_tensor(self.class_weights)
        if self.task == "multi-label":
            return F.binary_cross_entropy_with_logits(scores, targets * (1 - smooth) + smooth / 2, weight=weights)
        if self.outputs == 1:
            wanted = targets.float() * (1 - smooth) + smooth / 2
            each = F.binary_cross_entropy_with_logits(scores[:, 0], wanted, reduction="none")
            return each.mean() if weights is None else (each * weights[targets]).sum() / weights[targets].sum()
        return F.cross_entropy(scores, targets, weight=weights, label_smoothing=smooth)

    def weight(self, targets: Tensor) -> float:
        """What `loss` has divided by: the number of images, or with class weights the sum of theirs."""
        if self.task != "classification" or self.class_weights is None:
            return len(targets)
        return float(torch.tensor(self.class_weights)[targets.cpu()].sum())

    def right(self, scores: Tensor, targets: Tensor) -> float:
        """How many images of the batch are right. Labels: the share of right labels; numbers: 1 - squared error."""
        if self.task == "regression":
            return float((1 - (scores.float() - targets).square().mean(1)).sum())
        if self.task == "multi-label":
            return float(((scores > 0) == (targets > 0.5)).float().mean(1).sum())
        predicted = (scores[:, 0] > 0).long() if self.outputs == 1 else scores.argmax(1)
        return float((predicted == targets).sum())

    def accuracy(self, right: float, images: int) -> float:
        """The share that is right. For numbers R2, because the variance of the training part's scaled targets is 1."""
        return right / max(images, 1)

    def answers(self, scores: Tensor) -> Tensor:
        """What a person gets to see of raw scores: float32 `(N, K)` probabilities, or numbers in their own unit."""
        scores = scores.float()
        if self.task == "regression":
            return scores * torch.tensor(self.target_std) + torch.tensor(self.target_mean)
        scores = scores / self.temperature
        if self.task == "multi-label":
            return torch.sigmoid(scores)
        if self.outputs == 1:
            probability = torch.sigmoid(scores[:, :1])
            return torch.cat([1 - probability, probability], 1)
        return torch.softmax(scores, 1)


def target_scale(targets: NDArray[np.generic]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each number to predict, of `(N, K)`; a number that is always the same keeps 1."""
    values = targets.astype(np.float64)
    std = values.std(0)
    std[std == 0] = 1
    return tuple(map(float, values.mean(0))), tuple(map(float, std))


def balanced_weights(targets: NDArray[np.generic], classes: int) -> tuple[float, ...]:
    """Total / classes / count for each class: rare classes count more, the mean over the images stays 1."""
    counts = np.bincount(targets.astype(np.int64), minlength=classes)
    return tuple(float(len(targets) / classes / max(count, 1)) for count in counts)
