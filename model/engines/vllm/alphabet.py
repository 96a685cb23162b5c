"""Where a checkpoint's number tokens stand, as a logits processor needs it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from model.checkpoint import MANIFEST, Manifest
from model.numbers import NumberCode
from model.prompt import PromptEncoder


@dataclass(frozen=True)
class Alphabet:
    """first, end: the token ids that a number can use. symbols: per position, the token id of each symbol."""

    code: NumberCode
    first: int
    end: int
    symbols: tuple[NDArray[np.int64], ...]

    @property
    def columns(self) -> tuple[NDArray[np.int64], ...]:
        """Per position, where each symbol stands in a row of the logits of [first, end)."""
        return tuple(ids - self.first for ids in self.symbols)

    @classmethod
    def of(cls, encoder: PromptEncoder) -> "Alphabet":
        """That of a prompt encoder."""
        return cls(encoder.code, *encoder.number_rows, tuple(np.array(ids) for ids in encoder.symbol_ids))

    @classmethod
    def of_checkpoint(cls, path: Path) -> "Alphabet":
        """Read from the checkpoint's own files, which `Checkpoint.load` verifies where the service starts."""
        manifest = Manifest.from_json(json.loads((path / MANIFEST).read_text()))
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        return cls.of(PromptEncoder(tokenizer, manifest.targets, manifest.number_code, manifest.token_budget))
