"""A decoder's weights by name, and how it turns positions: all that serving needs of it.

A usual decoder (Qwen3, Llama with plain rotations, one file of weights) is read as it lies on the disk: importing
transformers takes longer than everything else in an engine's start. It reads every other one.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from model.errors import CheckpointError
from model.head import Head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Rotations that depend on nothing but the position.
_STATIC_ROTATIONS = ("default", "linear", "llama3", "yarn")
_FILE, _PREFIX, _HEAD = "model.safetensors", "model.", "lm_head.weight"
_PLAIN_TYPES = ("qwen3", "llama")
_PLAIN_ROTATION = {"rope_type", "rope_theta"}
#: What changes the forward pass or the files in ways that only transformers knows.
_NOT_PLAIN = ("quantization_config", "partial_rotary_factor")

#: Number of positions, kind of rotation (None: the decoder knows one) -> cosines and sines [positions, width / 2].
Turn = Callable[[int, str | None], tuple[torch.Tensor, torch.Tensor]]


class _Named(dict[str, torch.Tensor]):
    """Tensors by name, and what is wrong where one is missing."""

    def __missing__(self, name: str) -> torch.Tensor:
        raise CheckpointError(f"the weights lack {name}, which config.json promises")


@dataclass(frozen=True)
class Weights:
    """config: what its config.json says, as attributes. tensors: by their names in the decoder, without a prefix."""

    config: Any
    tensors: Mapping[str, torch.Tensor]
    head: Head
    turn: Turn

    @classmethod
    def load(cls, path: Path, dtype: torch.dtype) -> "Weights":
        """Of a checkpoint directory. Raises CheckpointError where its files do not fit each other."""
        config = json.loads((path / "config.json").read_text())
        if not _is_plain(config, path):
            from model.decoder import load_decoder

            return cls.of(load_decoder(path, dtype).train(False))
        try:
            stored = {name: tensor.to(dtype) for name, tensor in load_file(path / _FILE).items()}
        except SafetensorError as error:
            raise CheckpointError("the file of the weights is malformed") from error
        tensors = _Named((name.removeprefix(_PREFIX), tensor) for name, tensor in stored.items())
        head = tensors["embed_tokens.weight" if config["tie_word_embeddings"] else _HEAD]
        width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        base = float(config["rope_parameters"]["rope_theta"])
        return cls(SimpleNamespace(**config), tensors, Head(head), _plain_turn(base, width, dtype))

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "Weights":
        """Of a model in memory, shared with it."""
        tensors = {name: one.detach() for name, one in model.base_model.named_parameters()}
        return cls(model.config, tensors, Head.of(model), _turn_of(model))

    def to(self, device: torch.device) -> "Weights":
        """On another device."""
        tensors = _Named((name, one.to(device)) for name, one in self.tensors.items())
        bias = None if self.head.bias is None else self.head.bias.to(device)
        return Weights(
            self.config, tensors, Head(self.head.weight.to(device), bias, self.head.cap), self.turn
        )


def _is_plain(config: Mapping[str, Any], path: Path) -> bool:
    rotation = config.get("rope_parameters") or {}
    return (
        config.get("model_type") in _PLAIN_TYPES
        and rotation.get("rope_type") == "default"
        and set(rotation) == _PLAIN_ROTATION
        and not any(config.get(name) for name in _NOT_PLAIN)
        and "tie_word_embeddings" in config
        and (path / _FILE).exists()
    )


def _plain_turn(base: float, width: int, dtype: torch.dtype) -> Turn:
    """As transformers' rotary embedding of the type `default` computes it, in the same precision."""

    def turn(positions: int, _: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        speeds = 1.0 / base ** (torch.arange(0, width, 2, dtype=torch.int64).float() / width)
        angles = torch.arange(positions).float()[:, None] * speeds[None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return turn


def _turn_of(model: "PreTrainedModel") -> Turn:
    def turn(positions: int, kind: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        rotary: Any = model.base_model.rotary_emb
        embedding = model.get_input_embeddings().get_parameter("weight")
        named = rotary.rope_type if kind is None else rotary.rope_type[kind]
        if named not in _STATIC_ROTATIONS:
            raise CheckpointError(f"rotations of type {named} depend on the context's length")
        every = torch.arange(positions, device=embedding.device)[None]
        # Both halves of a head are turned alike.
        cos, sin = (
            both[0, :, : both.shape[-1] // 2]
            for both in rotary(embedding[:1], every, *([kind] if kind else []))
        )
        return cos, sin

    return turn
