"""The loss: cross-entropy of number tokens, softmax over all number tokens, weighted by their position."""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from model.decoder import hidden_states, number_logits
from model.precision import has_bf16
from model.prompt import PromptEncoder
from model.training.batches import Batch
from model.training.settings import Precision


class Objective(torch.nn.Module):
    """The weighted cross-entropy as a module: data parallel and FSDP act on a module's forward pass."""

    def __init__(self, model: PreTrainedModel, encoder: PromptEncoder, precision: Precision) -> None:
        super().__init__()
        self.model, self._rows, self._precision = model, encoder.number_rows, precision

    def forward(self, batch: Batch, weight: torch.Tensor) -> torch.Tensor:
        """Sum over the batch's number tokens of loss times weight, divided by `weight`."""
        return (_losses(self.model, batch, self._rows, self._precision) * batch.weights).sum() / weight


def batch_loss(
    model: PreTrainedModel,
    batch: Batch,
    encoder: PromptEncoder,
    device: torch.device,
    precision: Precision = "auto",
) -> torch.Tensor:
    """Weighted mean cross-entropy over the batch's number tokens, softmax over all number tokens."""
    batch = batch.to(device)
    losses = _losses(model, batch, encoder.number_rows, precision)
    return (losses * batch.weights).sum() / batch.weights.sum()


def _losses(
    model: PreTrainedModel, batch: Batch, rows: tuple[int, int], precision: Precision
) -> torch.Tensor:
    """Cross-entropy of each predicted number token: [M]."""
    device = batch.tokens.device
    bf16 = precision == "bf16" or (precision == "auto" and has_bf16(device))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        states = hidden_states(model, batch.tokens, batch.positions, batch.mask)
        picked = states.flatten(0, 1)[batch.sources]
        logits = number_logits(model, picked, rows)
    return functional.cross_entropy(logits.float(), batch.labels, reduction="none")
