"""The quantile walk as a logits processor of vLLM's V1 interface (the CPU build, and GPUs without Triton)."""

from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from model.engines.vllm.asks import Ask, ask_of
from model.engines.vllm.forcing import Forcing, Running

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig

#: Of a place in the batch: the ask, a hash of its prompt, and the live list of what it has written.
_Place = tuple[Ask, int, list[int]]


class QuantileProcessor(LogitsProcessor):  # type: ignore[misc]
    """Leaves each asking request the one token that its walk takes; other requests are not touched."""

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises ValueError, which vLLM answers with 400."""
        ask_of(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        del device, is_pin_memory
        self._forcing = Forcing(vllm_config.model_config.model)
        self._places: dict[int, _Place] = {}

    def is_argmax_invariant(self) -> bool:
        """It decides what greedy decoding takes."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow who stands where in the batch: removed, then added, then moved."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._places.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            # A place may be taken over without a removal.
            self._places.pop(index, None)
            if ask := ask_of(params):
                self._places[index] = ask, hash(tuple(prompt or ())), output
        for source, target, direction in batch_update.moved:
            moved, displaced = self._places.pop(source, None), self._places.pop(target, None)
            if moved is not None:
                self._places[target] = moved
            if displaced is not None and direction == MoveDirectionality.SWAP:
                self._places[source] = displaced

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """logits: [requests, vocabulary], changed in place."""
        # The written tokens may not be known yet where scheduling is asynchronous; their number is.
        running = [
            Running(index, ask, prompt, len(output))
            for index, (ask, prompt, output) in self._places.items()
            if len(output) < self._forcing.length
        ]
        self._forcing.force(logits, running)
        return logits
