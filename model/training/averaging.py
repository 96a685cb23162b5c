"""Averages of the weights along a run: often better than the last ones, and steadier to validate.

ema     exponential moving average over every step (its decay grows with the first steps)
tail    plain mean over the steps in which the learning rate falls
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from model.training.distributed import local, share_of, whole


class WeightAverage:
    """A running average of some parameters, in fp32, on their devices (each rank holds that of its own shards)."""

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float | None) -> None:
        """decay: of the moving average; None for a plain mean."""
        self._parameters, self._decay = parameters, decay
        self.count = 0
        self._sums: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        if not self._sums:
            self._sums = [local(p).detach().float().clone() for p in self._parameters]
            self.count = 1
            return
        self.count += 1
        share = 1 / self.count
        if self._decay is not None:
            share = max(1 - self._decay, 9 / (9 + self.count))
        for average, parameter in zip(self._sums, self._parameters, strict=True):
            average.lerp_(local(parameter).detach().float(), share)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights stand in the model while this is open; before the first update, its own."""
        if not self._sums:
            yield
            return
        own = [local(p).detach().clone() for p in self._parameters]
        self._write(self._sums)
        try:
            yield
        finally:
            self._write(own)

    def keep(self) -> None:
        """Leave the averaged weights in the model for good, if there are any."""
        if self._sums:
            self._write(self._sums)

    def state(self) -> dict[str, object]:
        """What `load` goes on from; whole tensors, whatever the number of processes."""
        with self.applied():
            return {"count": self.count, "weights": [whole(p).clone() for p in self._parameters]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.count = int(state["count"])
        if self.count:
            pairs = zip(state["weights"], self._parameters, strict=True)
            self._sums = [share_of(tensor, p).float().clone() for tensor, p in pairs]

    @torch.no_grad()
    def _write(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            local(parameter).copy_(value)
