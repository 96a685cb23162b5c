"""The ways to answer one prompt with the same weights, in process.

prefill          our forward pass over the prompt alone: the floor of the torch engine
hf prefill       transformers' forward pass over the prompt
torch            TorchEngine.predict: 3 targets x 3 quantiles, exact
samples          64 draws per target, the median of each, KV shared: what Regression Language Models do
template         the answer's text token by token, forced ones too: template filling without prefix filling
generate         transformers' generate() writing the nine numbers as text, greedy
generate-3       the same for three numbers only, one point estimate per target
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from model.checkpoint import Checkpoint
from model.decoder import load_decoder
from model.engines.base import Query
from model.engines.packed import PackedDecoder, Sequences, Tails
from model.engines.torch_engine import TorchEngine
from model.evaluation.speed.timing import Prompt, Prompts, Way
from model.evidence.expert import Evidence
from model.precision import fastest_dtype

QUANTILES = (0.1, 0.5, 0.9)
SAMPLES = 64
#: More than there are ways: token ids that a way may add to a prompt's first one.
_WAYS = 64


@dataclass(frozen=True)
class AnswerText:
    """Tokens that generate() has to write: nine numbers as text, three numbers, nine with their names around them."""

    nine: int
    three: int
    template: int


def prompts_of(checkpoint: Checkpoint) -> Prompts:
    """Prompts of ordinary text tokens, then evidence, as nearly all served prompts end: nothing can be cached."""
    encoder = checkpoint.encoder
    first = encoder.number_rows[1]

    def prompt(length: int, seed: int) -> Prompt:
        random = np.random.default_rng(seed)
        values = np.exp(random.normal((4.0, 20.0, 0.0), 1.0))
        told = encoder.evidence_ids(Evidence(dict(zip(encoder.target_ids, values.tolist(), strict=True)), 4))
        text = random.integers(first, encoder.vocabulary_size - _WAYS, max(1, length - len(told)))
        return (*text.tolist(), *told)

    return prompt


def targets_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """All of them."""
    return tuple(target.name for target in checkpoint.targets)


def answer_text(checkpoint: Checkpoint, engine: TorchEngine, length: int) -> AnswerText:
    """A real answer written in its shortest scientific form: `3.12e2 4.15e2 7.00e2`, a line per target."""
    targets = targets_of(checkpoint)
    (forecast,) = engine.predict([Query(prompts_of(checkpoint)(length, 0), targets, QUANTILES)])
    lines = [[f"{value:.2e}".replace("e+0", "e") for value in forecast.values[t]] for t in targets]
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    filled = [f"{target}: {' '.join(line)}" for target, line in zip(targets, lines, strict=True)]
    texts = (
        "\n".join(" ".join(line) for line in lines),
        "\n".join(line[1] for line in lines),
        "\n".join(filled),
    )
    return AnswerText(*(len(tokenizer.encode(text).ids) for text in texts))


def embedded_ways(checkpoint: Checkpoint, length: int) -> tuple[dict[str, Way], AnswerText, TorchEngine]:
    """Name -> what to do with a prompt; the tokens of the answers that are text; the engine."""
    model = load_decoder(checkpoint.path, fastest_dtype()).train(False)
    engine = TorchEngine(checkpoint.path, checkpoint.encoder)
    engine.use(model)
    decoder = engine.decoder
    targets = targets_of(checkpoint)
    text = answer_text(checkpoint, engine, length)
    random = np.random.default_rng(0)

    @torch.inference_mode()
    def hf_prefill(prompt: Prompt) -> object:
        return model.base_model(input_ids=torch.tensor([prompt]), use_cache=True)

    def generate(new_tokens: int) -> Way:
        def write(prompt: Prompt) -> object:
            return model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )

        return write

    def samples(prompt: Prompt) -> object:
        return sample_median(decoder, checkpoint, prompt, random)

    return (
        {
            "prefill": lambda prompt: bare_prefill(decoder, [prompt]),
            "hf prefill": hf_prefill,
            "torch": lambda prompt: engine.predict([Query(prompt, targets, QUANTILES)]),
            "samples": samples,
            "template": lambda prompt: token_by_token(decoder, prompt, text.template),
            "generate": generate(text.nine),
            "generate-3": generate(text.three),
        },
        text,
        engine,
    )


@torch.inference_mode()
def bare_prefill(decoder: PackedDecoder, prompts: Sequence[Prompt]) -> torch.Tensor:
    """The states of each prompt's last token: the least that any prediction needs."""
    lengths = [len(prompt) - 1 for prompt in prompts]
    kept = Sequences(lengths, 1)
    tokens = torch.tensor([token for prompt in prompts for token in prompt[:-1]])
    return decoder.prefill(tokens, _next([p[-1] for p in prompts], lengths, 1, kept, decoder), kept)


@torch.inference_mode()
def token_by_token(decoder: PackedDecoder, prompt: Prompt, tokens: int) -> None:
    """Read the prompt, then write so many tokens greedily, each a step over the whole vocabulary."""
    kept = Sequences([len(prompt) - 1], tokens)
    inside = torch.tensor(prompt[:-1])
    states = decoder.prefill(inside, _next([prompt[-1]], [len(prompt) - 1], 1, kept, decoder), kept)
    for written in range(1, tokens):
        token = int(decoder.logits(states[0, -1]).argmax())
        states = decoder.step(_next([token], [len(prompt) - 1 + written], written + 1, kept, decoder), kept)
    decoder.logits(states[0, -1]).argmax()


def _next(
    tokens: Sequence[int], positions: Sequence[int], rows: int, kept: Sequences, decoder: PackedDecoder
) -> Tails:
    """One further row per query that sees all before it."""
    width = kept.base + rows
    mask = torch.zeros(len(tokens), 1, 1, width, dtype=decoder.dtype)
    for query, length in enumerate(kept.lengths):
        mask[query, :, :, length : kept.base] = torch.finfo(decoder.dtype).min
    return Tails(torch.tensor(tokens)[:, None], torch.tensor(positions)[:, None], mask)


@torch.inference_mode()
def sample_median(
    decoder: PackedDecoder, checkpoint: Checkpoint, prompt: Prompt, random: np.random.Generator
) -> list[float]:
    """Per target the median of 64 sampled numbers: each sample a row of its own, the prompt's keys shared by all."""
    encoder = checkpoint.encoder
    code, first = encoder.code, encoder.number_rows[0]
    estimates = encoder.estimates(prompt)
    asks, scales = zip(*(encoder.ask(target, estimates) for target in encoder.target_ids), strict=True)
    rows = len(asks) * SAMPLES
    kept = Sequences([len(prompt)], len(asks) + rows * (code.length - 1))
    lowest = torch.finfo(decoder.dtype).min

    def tails(tokens: list[int], depth: int, seen: torch.Tensor) -> Tails:
        mask = torch.full((1, 1, len(tokens), kept.base + seen.shape[1]), lowest, dtype=decoder.dtype)
        mask[..., : kept.base] = 0
        mask[0, 0, :, kept.base :].masked_fill_(seen, 0)
        return Tails(torch.tensor([tokens]), torch.full((1, len(tokens)), len(prompt) + depth), mask)

    seen = torch.eye(len(asks), dtype=torch.bool)
    states = decoder.prefill(torch.tensor(prompt), tails(list(asks), 0, seen), kept)[0]
    states, seen = states.repeat_interleave(SAMPLES, 0), seen.repeat_interleave(SAMPLES, 0)
    symbols: list[np.ndarray] = []
    for position in range(code.length):
        logits = decoder.number_logits(states, encoder.number_rows).float().numpy()
        own = logits[:, np.array(encoder.symbol_ids[position]) - first].astype(np.float64)
        if position == code.signed + 1:
            own[symbols[-1] > 0, 0] = -np.inf
        noise = random.gumbel(size=own.shape)
        symbols.append((own + noise).argmax(axis=1))
        if position + 1 < code.length:
            tokens = np.array(encoder.symbol_ids[position])[symbols[-1]].tolist()
            seen = torch.cat([seen, torch.eye(rows, dtype=torch.bool)], dim=1)
            states = decoder.step(tails(tokens, position + 1, seen), kept)[0]
    codes = np.stack(symbols, axis=1).reshape(len(asks), SAMPLES, -1)
    medians = [float(np.median([code.decode(tuple(one)) for one in own])) for own in codes.tolist()]
    return [scale * median for scale, median in zip(scales, medians, strict=True)]
