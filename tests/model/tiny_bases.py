"""Tiny random pretrained decoders on disk, as a download from a hub lies there: config, safetensors, tokenizer.json."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from model.jobs import KINDS
from model.prompt import PromptEncoder
from model.text import full_text
from model.training.examples import Example
from tests.model.jobs_fixtures import CONFIGS, jobs_of

_SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
#: Shorter than any prompt of the tests.
WINDOW = 8


def tokenizer() -> Tokenizer:
    """A byte-level BPE like those of the bases: special tokens of its own, a limit on the length of its inputs."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<pad>", "<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(
        [full_text(job) for kind in KINDS if kind in CONFIGS for job in jobs_of(kind)], trainer
    )
    made.enable_truncation(16)
    return made


def new_model(name: str, rows: int) -> PreTrainedModel:
    """Random weights, large enough that no distribution is flat. rows: of the embeddings."""
    torch.manual_seed(5)
    model: PreTrainedModel
    if name.startswith("qwen3"):
        model = Qwen3ForCausalLM(Qwen3Config(**_SIZES, vocab_size=rows, tie_word_embeddings=name == "qwen3"))
    elif name == "llama":
        model = LlamaForCausalLM(LlamaConfig(**_SIZES, vocab_size=rows, tie_word_embeddings=False))
    else:
        rotations = {
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        }
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(
                **_SIZES,
                vocab_size=rows,
                sliding_window=WINDOW,
                layer_types=["sliding_attention", "full_attention"],
                rope_parameters=rotations,
                query_pre_attn_scalar=16,
                final_logit_softcapping=5.0,
            )
        )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 5
    return model.eval()


BASES = ("qwen3", "qwen3-untied", "llama", "gemma3")


def write_base(directory: Path, name: str) -> Path:
    """One of BASES. Its embeddings have a few rows more than its tokenizer has tokens, as Qwen's have."""
    made = tokenizer()
    new_model(name, made.get_vocab_size() + 10).save_pretrained(directory)
    made.save(str(directory / "tokenizer.json"))
    return directory


def toy_example(encoder: PromptEncoder, number: int, before: Sequence[int]) -> Example:
    """One whose answer follows from one token of its prompt."""
    answers = {"runtime_seconds": tuple(encoder.value_ids(10.0 if number % 2 else 2000.0))}
    return Example("toy", (*before, 100 + number % 2, 110 + number % 7), (), answers)
