"""`make bench`: what one uncached prediction costs, beside its floor and beside generate() writing text.

Four ways over the same weights and the same 512-token prompts, interleaved round by round in one process:

    prefill     the bare forward pass over the prompt, as transformers runs it: the floor
    jobcast     TorchEngine.predict: 3 targets x 3 quantiles, exact
    generate    transformers' generate() writing the nine numbers as text, greedy
    generate-3  the same for three numbers only, one point estimate per target

Prints medians and quartiles and fails (exit status 1) where a ratio is missed.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from model.checkpoint import Checkpoint
from model.decoder import fastest_dtype, load_decoder
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine

QUANTILES = (0.1, 0.5, 0.9)
MOST_TIMES_PREFILL = 2.0
LEAST_TIMES_FASTER = 3.0
_REPOSITORY = Path(__file__).resolve().parents[2]


def main(
    checkpoint: Annotated[Path, typer.Option()] = _REPOSITORY / "model" / "checkpoints" / "default",
    rounds: Annotated[int, typer.Option(min=3)] = 30,
    prompt_tokens: Annotated[int, typer.Option(min=16)] = 512,
    output: Annotated[Path | None, typer.Option(help="Write the figures there as JSON.")] = None,
) -> None:
    """Measure and compare; exit status 1 where a ratio is missed."""
    opened = Checkpoint.load(checkpoint)
    ways = _ways(opened, prompt_tokens)
    seconds = _interleaved(ways, opened, prompt_tokens, rounds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    ratios = {
        "jobcast / prefill": medians["jobcast"] / medians["prefill"],
        "generate / jobcast": medians["generate"] / medians["jobcast"],
        "generate-3 / jobcast": medians["generate-3"] / medians["jobcast"],
    }
    missed = [
        *(["jobcast / prefill"] if ratios["jobcast / prefill"] > MOST_TIMES_PREFILL else []),
        *(["generate / jobcast"] if ratios["generate / jobcast"] < LEAST_TIMES_FASTER else []),
    ]
    _show(seconds, ratios, missed, prompt_tokens)
    if output:
        quartiles = {name: np.quantile(v, [0.25, 0.5, 0.75]).tolist() for name, v in seconds.items()}
        content = {
            "checkpoint": opened.version,
            "prompt_tokens": prompt_tokens,
            "rounds": rounds,
            "threads": torch.get_num_threads(),
            "dtype": str(fastest_dtype()),
            "seconds_quartiles": quartiles,
            "ratios": ratios,
            "missed": missed,
        }
        output.write_text(json.dumps(content, indent=1) + "\n")
    if missed:
        raise typer.Exit(1)


def _ways(checkpoint: Checkpoint, prompt_tokens: int) -> dict[str, Callable[[tuple[int, ...]], object]]:
    """Name -> what to do with a prompt."""
    engine = TorchEngine(checkpoint.path, checkpoint.encoder)
    engine.start()
    model = load_decoder(checkpoint.path, fastest_dtype()).train(False)
    targets = tuple(target.name for target in checkpoint.targets)
    texts = _answer_texts(checkpoint, engine, targets, prompt_tokens)

    @torch.inference_mode()
    def prefill(prompt: tuple[int, ...]) -> object:
        return model.base_model(input_ids=torch.tensor([prompt]), use_cache=True)

    def generate(new_tokens: int) -> Callable[[tuple[int, ...]], object]:
        def write(prompt: tuple[int, ...]) -> object:
            return model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )

        return write

    return {
        "prefill": prefill,
        "jobcast": lambda prompt: engine.predict([Query(prompt, targets, QUANTILES)]),
        "generate": generate(texts[0]),
        "generate-3": generate(texts[1]),
    }


def _answer_texts(
    checkpoint: Checkpoint, engine: TorchEngine, targets: tuple[str, ...], prompt_tokens: int
) -> tuple[int, int]:
    """Tokens of a real answer written as text, `3.12e2 4.15e2 7.00e2` a line per target; and of its medians alone."""
    (forecast,) = engine.predict([Query(_prompt(checkpoint, prompt_tokens, 0), targets, QUANTILES)])
    lines = [[f"{value:.2e}".replace("e+0", "e") for value in forecast.values[t]] for t in targets]
    tokenizer = Tokenizer.from_file(str(checkpoint.path / "tokenizer.json"))
    nine = "\n".join(" ".join(line) for line in lines)
    three = "\n".join(line[1] for line in lines)
    return len(tokenizer.encode(nine).ids), len(tokenizer.encode(three).ids)


def _prompt(checkpoint: Checkpoint, length: int, seed: int) -> tuple[int, ...]:
    """A prompt of ordinary text tokens, another one for each seed: nothing can be cached."""
    first = checkpoint.encoder.number_rows[1]
    random = np.random.default_rng(seed)
    return tuple(random.integers(first, checkpoint.encoder.vocabulary_size, length).tolist())


def _interleaved(
    ways: dict[str, Callable[[tuple[int, ...]], object]], checkpoint: Checkpoint, length: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds per way and round. The order turns each round; two rounds of warm-up are dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 2):
        prompt = _prompt(checkpoint, length, number)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            started = time.perf_counter()
            ways[name](prompt)
            if number >= 2:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _show(
    seconds: dict[str, list[float]], ratios: dict[str, float], missed: list[str], prompt_tokens: int
) -> None:
    console = Console()
    table = Table(title=f"one prediction, {prompt_tokens} prompt tokens, 3 targets x 3 quantiles")
    for column in ("way", "median ms", "quartiles ms"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, values in seconds.items():
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) * 1000
        table.add_row(name, f"{middle:.1f}", f"{low:.1f} .. {high:.1f}")
    console.print(table)
    for name, ratio in ratios.items():
        console.print(f"{name}: {ratio:.2f}{'  MISSED' if name in missed else ''}")
    console.print(
        f"goals: jobcast / prefill <= {MOST_TIMES_PREFILL}, generate / jobcast >= {LEAST_TIMES_FASTER}"
    )


if __name__ == "__main__":
    typer.run(main)
