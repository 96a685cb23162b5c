"""A decoder's forward pass without its framework: fewer and larger matrix products over tokens packed side by side.

    prompts   [tokens of query 0 | tokens of query 1 | ...]   no padding; each attends to itself, causally
    tails     [Q, R] rows behind the prompts: targets, later number prefixes; a mask says what each row sees

Prompts of any length share the products of a batch. Their keys and values are written once and never copied. In the
last layer only the tails go on: nobody asks what comes after a token of the prompt. transformers' own forward pass
remains what training runs and what the tests compare with.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import embedding, gelu, linear, pad, scaled_dot_product_attention, silu

from model.engines.weights import Weights
from model.errors import CheckpointError

#: Model types whose layers are known to be what `_Layer` computes (tests/model/test_finetune.py).
SUPPORTED = ("qwen3", "llama", "gemma3_text")
_GEMMA = "gemma3_text"
#: Rows of one product in bf16 on a CPU.
_BLOCK = 1024


@dataclass(frozen=True)
class _Norm:
    """Root mean square norm; weight: [width] or [heads, width], None where the next product holds it.

    One reduction, small operations on its result, one product: torch's own norm is six passes over the states on a CPU.
    """

    weight: torch.Tensor | None
    epsilon: float

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        size = torch.linalg.vector_norm(states, dim=-1, keepdim=True, dtype=torch.float32)
        scale = size.square_().div_(states.shape[-1]).add_(self.epsilon).rsqrt_()
        found: torch.Tensor = (states * scale).to(states.dtype)
        return found if self.weight is None else found.mul_(self.weight)


@dataclass(frozen=True)
class _Layer:
    """One decoder layer. heads: [query heads + key heads] share one product, one norm and one rotation.

    qkv: [(heads + 2 * key heads) * width, hidden]; gate_up: [2 * inner, hidden].
    """

    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    out_bias: torch.Tensor | None
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None
    before_attention: _Norm
    after_attention: _Norm | None
    before_mlp: _Norm
    after_mlp: _Norm | None
    of_heads: _Norm | None
    rotation: str | None


@dataclass(frozen=True)
class Tails:
    """R rows behind each of Q prompts. tokens, positions: [Q, R]; mask: additive [Q, 1, R, base + all rows so far]."""

    tokens: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor


class Sequences:
    """Keys and values of a batch of prompts and of the rows behind them, in one buffer per layer.

    lengths: of the prompts; capacity: rows behind the longest.
    """

    def __init__(self, lengths: Sequence[int], capacity: int) -> None:
        self.lengths = list(lengths)
        self.base = max(lengths)
        self.width = self.base + capacity
        self.rows = 0
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []


class PackedDecoder:
    """The forward pass of a decoder. Shares its embeddings, holds copies of its layers' weights."""

    def __init__(self, weights: Weights) -> None:
        config = weights.config
        if config.model_type not in SUPPORTED:
            raise CheckpointError(f"the decoder's model_type is not one of {', '.join(SUPPORTED)}")
        self._head, self._turns, self._vocabulary = weights.head, weights.turn, config.vocab_size
        self._gemma = config.model_type == _GEMMA
        self._heads: int = config.num_attention_heads
        self._key_heads: int = config.num_key_value_heads
        self._width: int = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._scaling: float = (config.query_pre_attn_scalar if self._gemma else self._width) ** -0.5
        self._epsilon = float(config.rms_norm_eps)
        self._layers = [self._layer(weights, number) for number in range(config.num_hidden_layers)]
        self._norm = self._norm_of(weights, "norm")
        self._embedding = weights.tensors["embed_tokens.weight"]
        self._embedding_scale = (
            torch.tensor(config.hidden_size**0.5, dtype=self.dtype) if self._gemma else None
        )
        self._rotations: dict[str | None, tuple[torch.Tensor, torch.Tensor]] = {}
        self._turn(config.max_position_embeddings)
        self._rounding = self.dtype is torch.bfloat16 and self.device.type == "cpu"

    @property
    def dtype(self) -> torch.dtype:
        return self._embedding.dtype

    @property
    def device(self) -> torch.device:
        return self._embedding.device

    def number_logits(self, states: torch.Tensor, rows: tuple[int, int]) -> torch.Tensor:
        """As `model.decoder.number_logits`; states: [N, hidden]."""
        padded = pad(states, (0, 0, 0, self._padded(len(states)) - len(states)))
        return self._head.logits(padded, rows)[: len(states)]

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the whole vocabulary."""
        return self._head.logits(states, (0, self._vocabulary))

    def prefill(self, tokens: torch.Tensor, tails: Tails, kept: Sequences) -> torch.Tensor:
        """Read the prompts and the first rows behind them: final states of those rows [Q, R, hidden].

        tokens: [sum of kept.lengths], packed.
        """
        spans = list(_spans(kept.lengths))
        places = torch.cat([torch.arange(last - first, device=self.device) for first, last in spans])
        return self._run(
            torch.cat([tokens, tails.tokens.flatten()]),
            torch.cat([places, tails.positions.flatten()]),
            spans,
            tails.mask,
            kept,
        )

    def step(self, tails: Tails, kept: Sequences) -> torch.Tensor:
        """Read further rows: their final states [Q, R, hidden]."""
        return self._run(tails.tokens.flatten(), tails.positions.flatten(), [], tails.mask, kept)

    def _run(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        spans: Sequence[tuple[int, int]],
        mask: torch.Tensor,
        kept: Sequences,
    ) -> torch.Tensor:
        if kept.width > self._turned:  # longer than it was trained for, but nothing to break over
            self._turn(2 * kept.width)
        queries, rows = mask.shape[0], mask.shape[2]
        prompts, tails = len(tokens) - queries * rows, queries * rows
        # The last layer goes on with the tails, padded; before it stands the whole, padded.
        kept_rows = self._padded(tails)
        tokens = pad(tokens, (0, self._padded(prompts + kept_rows) - len(tokens)))
        positions = pad(positions, (0, len(tokens) - len(positions)))
        states = embedding(tokens, self._embedding)
        if self._embedding_scale is not None:
            states = states * self._embedding_scale
        turns = {kind: (cos[positions], sin[positions]) for kind, (cos, sin) in self._rotations.items()}
        for number, layer in enumerate(self._layers):
            read, keys, values = self._heads_of(layer, layer.before_attention(states), turns[layer.rotation])
            if spans:
                kept.keys.append(self._kept(keys, spans, kept))
                kept.values.append(self._kept(values, spans, kept))
            after = slice(prompts, prompts + tails)
            seen_keys = self._with_rows(kept.keys[number], keys[after], rows, kept)
            seen_values = self._with_rows(kept.values[number], values[after], rows, kept)
            behind = _split(read[after], 0, (queries, rows))
            seen = [self._attend(behind, seen_keys, seen_values, mask).flatten(0, 1)]
            if number == len(self._layers) - 1:
                states = states[prompts : prompts + kept_rows]
            else:
                inside = [
                    self._attend(read[None, first:end], keys[None, first:end], values[None, first:end])[0]
                    for first, end in spans
                ]
                seen = [*inside, *seen]
            read_by_all = torch.cat(seen).flatten(1)
            missing = len(states) - len(read_by_all)
            states = self._onward(
                layer, states, pad(read_by_all, (0, 0, 0, missing)) if missing else read_by_all
            )
        kept.rows += rows
        return _split(self._norm(states[:tails]), 0, (queries, rows))

    def _padded(self, rows: int) -> int:
        """How many rows to compute for so many."""
        return _rounded(rows) if self._rounding else rows

    def _product(self, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """`linear`, where kernels count in blocks of rows: there are as many kernels as sizes of a block."""
        if not self._rounding or len(states) <= _BLOCK:
            return linear(states, weight, bias)
        blocks = states.split(_BLOCK)  # type: ignore[no-untyped-call]
        return torch.cat([linear(block, weight, bias) for block in blocks])

    def _kept(self, states: torch.Tensor, spans: Sequence[tuple[int, int]], kept: Sequences) -> torch.Tensor:
        """A buffer [Q, width of `kept`, key heads, head width] that starts with the prompts' keys or values."""
        buffer = states.new_empty(len(spans), kept.width, self._key_heads, self._width)
        for query, (first, end) in enumerate(spans):
            buffer[query, : end - first] = states[first:end]
            buffer[query, end - first : kept.base] = 0  # what a mask hides must still be finite
        return buffer

    def _with_rows(
        self, buffer: torch.Tensor, states: torch.Tensor, rows: int, kept: Sequences
    ) -> torch.Tensor:
        """Write keys or values of new rows [Q * rows, ...] behind the earlier ones; all that is there now."""
        start = kept.base + kept.rows
        buffer[:, start : start + rows] = _split(states, 0, (-1, rows))
        return buffer[:, : start + rows]

    def _heads_of(
        self, layer: _Layer, states: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries [N, heads, width], keys and values [N, key heads, width]; the first two rotated."""
        together = _split(self._product(states, layer.qkv, layer.qkv_bias), 1, (-1, self._width))
        turned, values = together.tensor_split([self._heads + self._key_heads], dim=1)
        if layer.of_heads is not None:
            turned = layer.of_heads(turned)
        turned = _rotated(turned, *turn)
        queries, keys = turned.tensor_split([self._heads], dim=1)
        return queries, keys, values

    def _attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[B, n, heads, width] over [B, m, key heads, width]; without a mask causally."""
        found = scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=mask,
            is_causal=mask is None,
            scale=self._scaling,
            enable_gqa=self._heads != self._key_heads,
        )
        return found.transpose(1, 2)

    def _onward(self, layer: _Layer, states: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """From what attention saw [N, heads * width] to the layer's end."""
        added = self._product(seen, layer.out, layer.out_bias)
        states = states + (added if layer.after_attention is None else layer.after_attention(added))
        gate, up = self._product(layer.before_mlp(states), layer.gate_up, layer.gate_up_bias).chunk(2, dim=1)
        inner = gelu(gate, approximate="tanh") if self._gemma else silu(gate)
        added = self._product(inner.mul_(up), layer.down, layer.down_bias)
        return states + (added if layer.after_mlp is None else layer.after_mlp(added))

    def _layer(self, weights: Weights, number: int) -> _Layer:
        layer = f"layers.{number}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        of_heads = None
        if f"{attention}.q_norm.weight" in weights.tensors:
            ours, theirs = (self._gain(weights, f"{attention}.{name}") for name in ("q_norm", "k_norm"))
            repeated = [ours] * self._heads + [theirs] * self._key_heads
            of_heads = _Norm(torch.stack(repeated), self._epsilon)
        before_mlp = "pre_feedforward_layernorm" if self._gemma else "post_attention_layernorm"
        return _Layer(
            *_with_gain(
                self._gain(weights, f"{layer}.input_layernorm"),
                *_joined(weights, attention, ("q_proj", "k_proj", "v_proj")),
            ),
            *_joined(weights, attention, ("o_proj",)),
            *_with_gain(
                self._gain(weights, f"{layer}.{before_mlp}"), *_joined(weights, mlp, ("gate_proj", "up_proj"))
            ),
            *_joined(weights, mlp, ("down_proj",)),
            before_attention=_Norm(None, self._epsilon),
            after_attention=self._norm_of(weights, f"{layer}.post_attention_layernorm")
            if self._gemma
            else None,
            before_mlp=_Norm(None, self._epsilon),
            after_mlp=self._norm_of(weights, f"{layer}.post_feedforward_layernorm") if self._gemma else None,
            of_heads=of_heads,
            rotation=weights.config.layer_types[number] if self._gemma else None,
        )

    def _gain(self, weights: Weights, name: str) -> torch.Tensor:
        """A norm's weight; Gemma stores how far it is from one."""
        weight = weights.tensors[f"{name}.weight"]
        return (1.0 + weight.float()).to(weight.dtype) if self._gemma else weight

    def _norm_of(self, weights: Weights, name: str) -> _Norm:
        return _Norm(self._gain(weights, name), self._epsilon)

    def _turn(self, positions: int) -> None:
        """Cosines and sines of so many positions, [positions, 1, width / 2] each, per kind of rotation."""
        for kind in {layer.rotation for layer in self._layers}:  # None: the decoder knows one kind
            found = self._turns(positions, kind)
            cos, sin = (turn[:, None].to(self.device).contiguous() for turn in found)
            self._rotations[kind] = cos, sin
        self._turned = positions


def _joined(weights: Weights, module: str, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The linear layers' weights, one below the other, and their biases."""
    weight = torch.cat([weights.tensors[f"{module}.{name}.weight"] for name in names])
    if f"{module}.{names[0]}.bias" not in weights.tensors:
        return weight, None
    return weight, torch.cat([weights.tensors[f"{module}.{name}.bias"] for name in names])


def _with_gain(
    gain: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A product behind a norm that takes the norm's gain along."""
    return (weight.float() * gain.float()).to(weight.dtype), bias


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """states: [N, heads, width]; cos, sin: [N, 1, width / 2]."""
    first, second = states.chunk(2, dim=-1)
    found = torch.empty_like(states)
    half = cos.shape[-1]
    torch.addcmul(first * cos, second, sin, value=-1, out=found[..., :half])
    torch.addcmul(second * cos, first, sin, out=found[..., half:])
    return found


def _split(states: torch.Tensor, dimension: int, sizes: tuple[int, int]) -> torch.Tensor:
    found: torch.Tensor = states.unflatten(dimension, sizes)  # type: ignore[no-untyped-call]
    return found


def _rounded(rows: int) -> int:
    """Rows up to the next of few sizes, of which blocks of `_BLOCK` rows make 32.

    For bf16 on a CPU oneDNN compiles a kernel for each number of rows that it meets: five times as slow as one that is
    there, and half a megabyte each (docs/decisions.md).
    """
    step = 32 if rows <= _BLOCK else 128
    return -(-rows // step) * step


def _spans(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for length in lengths:
        yield start, start + length
        start += length
