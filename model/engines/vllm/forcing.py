"""Forces each asking row of a batch's logits to the one token that its walk takes: what both interfaces share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.engines.vllm.walks import Walks


@dataclass(frozen=True)
class Running:
    """A row of the logits: whose it is, a hash of its prompt, and how many tokens it has written."""

    row: int
    ask: Ask
    prompt: int
    position: int


class Forcing:
    """The walks of a model's requests, and where its number tokens stand."""

    def __init__(self, checkpoint: str) -> None:
        self._alphabet = Alphabet.of_checkpoint(Path(checkpoint))
        self._walks = Walks(self._alphabet)

    @property
    def length(self) -> int:
        """Tokens of a number."""
        return self._alphabet.code.length

    def force(self, logits: torch.Tensor, running: Sequence[Running]) -> None:
        """logits: [rows, vocabulary], changed in place where something is asked."""
        if not running:
            return
        lines = torch.tensor([one.row for one in running], device=logits.device)
        tokens = self._walks.advance(
            [one.ask for one in running],
            [one.prompt for one in running],
            [one.position for one in running],
            logits[lines, self._alphabet.first : self._alphabet.end].float().cpu().numpy(),
        )
        logits[lines] = float("-inf")
        logits[lines, torch.tensor(tokens, device=logits.device)] = 0.0
