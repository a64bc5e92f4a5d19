"""Recurrent layers as their formulas say: gate by gate, one moment after another.

torch has one kernel for a whole nn.LSTM, nn.GRU or nn.RNN, a different one on each machine, and none of them shows what
is inside. The formulas are those of torch's own documentation (Hochreiter and Schmidhuber 1997; Cho et al. 2014).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_Weights = Sequence[Tensor | None]
"""Of one layer in one direction: by the input, by the state, their biases; of an LSTM the projection too."""


class Unrolled(TorchFunctionMode):
    """While it is open, recurrent layers and cells run as single products, sums and functions, on any machine.

    Packed sequences of different lengths run as before.

    Attributes:
        kind: what is computed right now, such as `forgetgate`; empty outside of gates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kind = ""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        moment = _MOMENTS.get(getattr(func, "__name__", "")) if func in _FUNCTIONS else None
        if moment is None or kwargs:
            return func(*args, **(kwargs or {}))
        if func.__name__.endswith("_cell"):
            x, state, by_input, by_state, *biases = args
            weights = (by_input, by_state, *(biases or (None, None)), None)
            state = moment(self, F.linear(x, by_input, weights[2]), _states(state), weights)
            return state if len(state) > 1 else state[0]
        if isinstance(args[1], Tensor) and not args[1].is_floating_point():
            x, sizes, *rest = args
            if int(sizes.min()) < int(sizes.max()):
                return func(*args)
            # Packed sequences of one length lie like any others.
            made, *ends = self._layers(moment, x.unflatten(0, (len(sizes), -1)), *rest, False)
            return made.flatten(0, 1), *ends
        return self._layers(moment, *args)

    def _layers(
        self, moment: _Moment, x: Tensor, state: Any, weights: Sequence[Tensor], biased: bool, *settings: Any
    ) -> tuple[Tensor, ...]:
        """As torch.lstm, torch.gru and torch.rnn_tanh, with their arguments."""
        layers, dropout, training, bidirectional, batch_first = settings
        if batch_first:
            x = x.transpose(0, 1)
        first = _states(state)
        directions = 2 if bidirectional else 1
        each = len(weights) // (layers * directions)
        last: list[tuple[Tensor, ...]] = []
        for layer in range(layers):
            sides = []
            for direction in range(directions):
                place = layer * directions + direction
                own = _ordered(weights[place * each : (place + 1) * each], biased)
                made, end = self._sequence(moment, x, tuple(part[place] for part in first), own, bool(direction))
                sides.append(made)
                last.append(end)
            x = torch.cat(sides, -1) if bidirectional else sides[0]
            if dropout and training and layer < layers - 1:
                x = F.dropout(x, dropout)
        ends = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
        return x.transpose(0, 1) if batch_first else x, *ends

    def _sequence(
        self, moment: _Moment, x: Tensor, state: tuple[Tensor, ...], weights: _Weights, backwards: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction over `(T, N, features)`: the states `(T, N, H)`, and the last ones."""
        by_input = F.linear(x, _present(weights[0]), weights[2])
        states: list[Tensor] = []
        times = range(len(x))
        for time in reversed(times) if backwards else times:
            state = moment(self, by_input[time], state, weights)
            states.append(state[0])
        return torch.stack(states[::-1] if backwards else states), state

    @contextlib.contextmanager
    def _named(self, kind: str) -> Iterator[None]:
        self.kind = kind
        try:
            yield
        finally:
            self.kind = ""

    def _lstm(self, by_input: Tensor, state: tuple[Tensor, ...], weights: _Weights) -> tuple[Tensor, ...]:
        hidden, cell = state
        sums = (by_input + F.linear(hidden, _present(weights[1]), weights[3])).chunk(4, -1)
        with self._named("inputgate"):
            enters = torch.sigmoid(sums[0])
        with self._named("forgetgate"):
            stays = torch.sigmoid(sums[1])
        with self._named("candidate"):
            new = torch.tanh(sums[2])
        with self._named("outputgate"):
            leaves = torch.sigmoid(sums[3])
        kept, added = stays * cell, enters * new
        with self._named("cellstate"):
            cell = kept + added
        bounded = torch.tanh(cell)
        with self._named("hiddenstate"):
            hidden = leaves * bounded
        if weights[4] is not None:
            hidden = F.linear(hidden, weights[4])
        return hidden, cell

    def _gru(self, by_input: Tensor, state: tuple[Tensor, ...], weights: _Weights) -> tuple[Tensor, ...]:
        (hidden,) = state
        ours = by_input.chunk(3, -1)
        before = F.linear(hidden, _present(weights[1]), weights[3]).chunk(3, -1)
        reset_sum, update_sum = ours[0] + before[0], ours[1] + before[1]
        with self._named("resetgate"):
            reset = torch.sigmoid(reset_sum)
        with self._named("updategate"):
            stays = torch.sigmoid(update_sum)
        new_sum = ours[2] + reset * before[2]
        with self._named("candidate"):
            new = torch.tanh(new_sum)
        added, kept = (1 - stays) * new, stays * hidden
        with self._named("hiddenstate"):
            return (added + kept,)

    def _simple(
        self, by_input: Tensor, state: tuple[Tensor, ...], weights: _Weights, function: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, ...]:
        total = by_input + F.linear(state[0], _present(weights[1]), weights[3])
        with self._named("hiddenstate"):
            return (function(total),)

    def _tanh(self, by_input: Tensor, state: tuple[Tensor, ...], weights: _Weights) -> tuple[Tensor, ...]:
        return self._simple(by_input, state, weights, torch.tanh)

    def _relu(self, by_input: Tensor, state: tuple[Tensor, ...], weights: _Weights) -> tuple[Tensor, ...]:
        return self._simple(by_input, state, weights, torch.relu)


_Moment = Callable[[Unrolled, Tensor, tuple[Tensor, ...], _Weights], tuple[Tensor, ...]]
"""From the products with the input and the state before to the state after."""

_MOMENTS: dict[str, _Moment] = {
    name: moment
    for kind, moment in (
        ("lstm", Unrolled._lstm),
        ("gru", Unrolled._gru),
        ("rnn_tanh", Unrolled._tanh),
        ("rnn_relu", Unrolled._relu),
    )
    for name in (kind, f"{kind}_cell")
}
_FUNCTIONS = frozenset(getattr(torch, name) for name in _MOMENTS)


def _states(state: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (state,) if isinstance(state, Tensor) else tuple(state)


def _ordered(weights: Sequence[Tensor], biased: bool) -> _Weights:
    """One layer's part of torch's flat list of weights, with None for what it lacks."""
    biases = tuple(weights[2:4]) if biased else (None, None)
    projection = weights[-1] if len(weights) in (3, 5) else None
    return (*weights[:2], *biases, projection)


def _present(weight: Tensor | None) -> Tensor:
    assert weight is not None
    return weight
