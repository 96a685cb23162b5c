"""How the cost of a prediction grows, and what an engine takes to start."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from model.checkpoint import Checkpoint
from model.decoder import SIZES, new_decoder
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine
from model.evaluation.speed.timing import Prompt, Spread, Way, interleaved, spread_of
from model.evaluation.speed.ways import QUANTILES, bare_prefill, prompts_of, targets_of
from model.precision import fastest_dtype

#: Times the usual prompt.
LENGTHS = (0.25, 0.5, 1, 2, 4, 8, 16)
MANY_QUANTILES = (1, 3, 9, 32)
_STEP = 0.97

Series = dict[str, dict[str, Spread]]


def growths(
    checkpoint: Checkpoint, engine: TorchEngine, length: int, rounds: int, advance: Callable[[], None]
) -> Iterator[tuple[str, Series]]:
    """Name of what grows -> its values -> per way the spread. Each series is interleaved."""
    prompts, targets = prompts_of(checkpoint), targets_of(checkpoint)
    decoder = engine.decoder

    def asking(some: tuple[str, ...], quantiles: tuple[float, ...]) -> Way:
        return lambda prompt: engine.predict([Query(prompt, some, quantiles)])

    by_length: Series = {}
    for tokens in (int(times * length) for times in LENGTHS):
        ways: dict[str, Way] = {
            "prefill": lambda prompt: bare_prefill(decoder, [prompt]),
            "torch": asking(targets, QUANTILES),
        }
        seconds = interleaved(ways, prompts, tokens, max(3, rounds * length // max(length, tokens)), advance)
        by_length[str(tokens)] = {name: spread_of(values) for name, values in seconds.items()}
    yield "prompt tokens", by_length
    for what, variants in (
        ("targets", {str(n): asking(targets[:n], QUANTILES) for n in range(1, len(targets) + 1)}),
        ("quantiles", {str(n): asking(targets, _spread_out(n)) for n in MANY_QUANTILES}),
    ):
        seconds = interleaved(variants, prompts, length, rounds, advance)
        yield what, {name: {"torch": spread_of(values)} for name, values in seconds.items()}
    usual = torch.get_num_threads()

    def on_threads(count: int) -> Way:
        def ask(prompt: Prompt) -> object:
            torch.set_num_threads(count)
            return engine.predict([Query(prompt, targets, QUANTILES)])

        return ask

    counts = sorted({1, usual, os.cpu_count() or 1})
    seconds = interleaved({str(n): on_threads(n) for n in counts}, prompts, length, rounds, advance)
    torch.set_num_threads(usual)
    yield "threads", {name: {"torch": spread_of(values)} for name, values in seconds.items()}
    ways = {}
    for size, shape in SIZES.items():
        torch.manual_seed(0)
        model = new_decoder(shape, checkpoint.encoder.vocabulary_size).train(False)
        model.to(dtype=fastest_dtype())
        other = TorchEngine(checkpoint.path, checkpoint.encoder)
        other.use(model)
        ways[f"{size} prefill"] = lambda prompt, d=other.decoder: bare_prefill(d, [prompt])  # type: ignore[misc]
        ways[f"{size} torch"] = lambda prompt, e=other: e.predict([Query(prompt, targets, QUANTILES)])  # type: ignore[misc]
    found = {name: spread_of(v) for name, v in interleaved(ways, prompts, length, rounds, advance).items()}
    yield (
        "decoder",
        {size: {way: found[f"{size} {way}"] for way in ("prefill", "torch")} for size in SIZES},
    )


def _spread_out(count: int) -> tuple[float, ...]:
    return tuple((i + 1) * _STEP / count for i in range(count))


def start_and_memory(checkpoint: Path, engine: str) -> dict[str, float]:
    """Seconds from a bare interpreter to the first answer, and resident megabytes then, in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "model.evaluation.speed.one_answer", str(checkpoint), engine],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    megabytes = json.loads(done.stdout.splitlines()[-1])["resident_megabytes"]
    return {"seconds": round(seconds, 2), "resident_megabytes": megabytes}
