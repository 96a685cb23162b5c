"""regress-lm, where a checkout lies beside the project: 64 samples of an encoder-decoder about as large as ours.

Weights are fresh: only time is compared. Its input is 512 token ids, its output three numbers in one sequence.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from model.evaluation.speed.timing import Prompt, Way
from model.evaluation.speed.ways import SAMPLES

_LAYERS = (3, 2)
_WIDTHS = range(64, 513, 32)


def regress_lm_way(checkout: Path, vocabulary: int, length: int, parameters: int) -> tuple[Way, int]:
    """What to do with a prompt, and how many parameters it has. Raises ImportError."""
    sys.path.insert(0, str(checkout))
    try:
        from regress_lm import tokenizers, vocabs
        from regress_lm.pytorch.model import PyTorchModelConfig
    finally:
        sys.path.pop(0)

    class Ids(vocabs.EncoderVocab):  # type: ignore[misc]
        """Token ids as they are."""

        pad_id = 0

        def to_token_ids(self, text: str) -> list[int]:
            return [int(part) for part in text.split()]

        def __len__(self) -> int:
            return vocabulary

    def made(width: int) -> torch.nn.Module:
        encoder, decoder = _LAYERS
        shape = {"d_model": width, "num_encoder_layers": encoder, "num_decoder_layers": decoder}
        config = PyTorchModelConfig(
            encoder_vocab=Ids(),
            decoder_vocab=vocabs.DecoderVocab(tokenizers.P10Tokenizer()),
            max_input_len=length,
            architecture_kwargs=shape,
            max_num_objs=3,
        )
        found: torch.nn.Module = config.make_model().train(False)
        return found

    def size(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    model = min((made(width) for width in _WIDTHS), key=lambda one: abs(size(one) - parameters))

    def sample(prompt: Prompt) -> object:
        _, values = model.decode({"encoder_input": torch.tensor([prompt])}, SAMPLES)  # type: ignore[operator]
        return np.median(values.astype(float), axis=1)

    return sample, size(model)
