"""The model a run starts with: fresh, or a pretrained base with our tokens, whole or with adapters."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from model.decoder import new_decoder
from model.errors import CheckpointError
from model.numbers import NumberCode
from model.prompt import PAD, PromptEncoder, special_tokens
from model.targets import Target
from model.training.base import open_base
from model.training.settings import TrainSettings


def starting_model(
    settings: TrainSettings, encoder: PromptEncoder, targets: Sequence[Target], code: NumberCode
) -> PreTrainedModel:
    """On the CPU, the same in every process: what is random follows from the seed.

    encoder: with the tokenizer of the run, which for a base is `base.base_tokenizer`'s. Raises CheckpointError.
    """
    torch.manual_seed(settings.seed)
    if settings.base is None:
        return new_decoder(settings.shape, -(-encoder.vocabulary_size // 64) * 64)
    model, tokenizer = open_base(Path(settings.base), targets, code, keep_rotations=settings.keep_rotations)
    if tokenizer.get_vocab_size() != encoder.vocabulary_size:
        raise CheckpointError("the run's tokenizer is not that of its base")
    if settings.lora_rank is None:
        return model
    from model.training.lora import add_lora  # peft takes seconds to import

    # Padding is never seen, and a base of its own has it among the rows that stay.
    ids = [tokenizer.token_to_id(token) for token in special_tokens(targets, code) if token != PAD]
    return add_lora(model, settings.lora_rank, [i for i in ids if i is not None])


def finished_model(model: PreTrainedModel, settings: TrainSettings) -> PreTrainedModel:
    """The trained model as a plain decoder: adapters folded into the weights, in place."""
    if settings.lora_rank is None:
        return model
    from model.training.lora import merge_lora

    return merge_lora(model)
