"""The quantile walk as a logits processor of vLLM's model runner V2 (GPU installs with Triton select it)."""

from typing import TYPE_CHECKING

import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor, LogitsProcRequestState

from model.engines.vllm.asks import Ask, ask_of
from model.engines.vllm.forcing import Forcing, Running

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig


class QuantileProcessor(LogitsProcessor):  # type: ignore[misc]
    """Leaves each asking request the one token that its walk takes; other requests are not touched."""

    @classmethod
    def validate_params(cls, sampling_params: "SamplingParams") -> None:
        """Raises ValueError, which vLLM answers with 400."""
        ask_of(sampling_params)

    def __init__(self, vllm_config: "VllmConfig", req_states: LogitsProcRequestState) -> None:
        self._forcing = Forcing(vllm_config.model_config.model)
        self._states = req_states
        self._asks: dict[int, Ask] = {}
        self._prompts: dict[int, int] = {}  # a hash of each slot's prompt, taken when its first row comes

    def add_request(self, req_idx: int, sampling_params: "SamplingParams") -> bool:
        """Slots are reused without a word: whatever the slot held is gone."""
        self._asks.pop(req_idx, None)
        self._prompts.pop(req_idx, None)
        if ask := ask_of(sampling_params):
            self._asks[req_idx] = ask
        return req_idx in self._asks

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        """logits: [rows, vocabulary], changed in place; rows come in another order at every step."""
        lengths = self._states.prompt_len.np
        running = []
        for row, (slot, tokens) in enumerate(
            zip(ctx.expanded_idx_mapping.tolist(), (ctx.pos + 1).tolist(), strict=True)
        ):
            position = tokens - int(lengths[slot])
            # Below 0 the prompt is still being read, in chunks.
            if slot in self._asks and 0 <= position < self._forcing.length:
                running.append(Running(row, self._asks[slot], self._prompt_of(slot), position))
        self._forcing.force(logits, running)
        return logits

    def _prompt_of(self, slot: int) -> int:
        if slot not in self._prompts:
            length = int(self._states.prompt_len.np[slot])
            self._prompts[slot] = hash(tuple(self._states.all_token_ids.gpu[slot, :length].tolist()))
        return self._prompts[slot]
