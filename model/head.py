"""The end of a decoder: from its last hidden states to logits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Head:
    """weight: [vocabulary, hidden]; cap: logits go through its hyperbolic tangent, as Gemma's may."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    cap: float | None = None

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "Head":
        """Of a model in memory, shared with it."""
        output: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        cap = getattr(model.config, "final_logit_softcapping", None)
        return cls(output.weight, getattr(output, "bias", None), cap)

    def logits(self, states: torch.Tensor, rows: tuple[int, int]) -> torch.Tensor:
        """Of the tokens in a range of ids only: [..., hidden] -> [..., rows]."""
        first, end = rows
        bias = None if self.bias is None else self.bias[first:end]
        found = torch.nn.functional.linear(states, self.weight[first:end], bias)
        return found if self.cap is None else self.cap * torch.tanh(found / self.cap)
