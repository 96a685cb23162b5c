"""The decoder: a transformers causal model whose number rows alone are scored.

Built fresh as a small Qwen3, or loaded from a checkpoint directory. Training runs it through `hidden_states`, with
explicit positions and an additive mask, so that tokens may form a tree.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM
from transformers.cache_utils import Cache
from transformers.utils import logging

from model.head import Head


@dataclass(frozen=True)
class Shape:
    """Size of a decoder trained from scratch."""

    hidden: int = 128
    layers: int = 3
    heads: int = 4
    key_value_heads: int = 2
    feed_forward: int = 320
    longest_prompt: int = 2048


#: The shapes on the frontier of accuracy and latency that docs/benchmark.md draws.
SIZES = {
    "small": Shape(),
    "medium": Shape(hidden=256, layers=4, feed_forward=640),
    "large": Shape(hidden=384, layers=4, heads=6, feed_forward=960),
}


def new_decoder(shape: Shape, vocabulary_size: int) -> PreTrainedModel:
    """A Qwen3 decoder with fresh weights, tied embeddings and full attention."""
    config = Qwen3Config(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=shape.longest_prompt,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    config._attn_implementation = "sdpa"
    return Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]


def load_decoder(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The decoder of a checkpoint directory, from local files only and without remote code."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=dtype,
        attn_implementation="sdpa",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return model


def hidden_states(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: Cache | None = None,
) -> torch.Tensor:
    """Final hidden states [B, N, hidden].

    tokens, positions: [B, N]; mask: additive, [B, 1, N, cached + N].
    """
    states: torch.Tensor = model.base_model(
        input_ids=tokens,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state
    return states


def layers_of(model: PreTrainedModel) -> torch.nn.ModuleList:
    """The decoder's layers, first to last."""
    layers = model.base_model.layers
    assert isinstance(layers, torch.nn.ModuleList)
    return layers


def number_logits(model: PreTrainedModel, states: torch.Tensor, rows: tuple[int, int]) -> torch.Tensor:
    """Logits of the number tokens only: [..., hidden] -> [..., rows], as the model's own head gives them."""
    return Head.of(model).logits(states, rows)
