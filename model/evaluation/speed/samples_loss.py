"""`python -m model.evaluation.speed.samples_loss`: what 64 samples lose against exact quantiles; needs the corpus.

On `val`, without history, uncalibrated: the pinball loss of ln value at 0.1, 0.5 and 0.9, of the exact quantiles and of
the same quantiles of 64 samples from the same distributions. Written beside performance.json, which the page shows.
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from model.checkpoint import Checkpoint
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine
from model.evaluation.cells import TARGETS, sampled
from model.evaluation.metrics import ln_values, pinball_losses
from model.evaluation.speed.page import SAMPLES_LOSS
from model.evaluation.speed.ways import QUANTILES, SAMPLES
from model.training.corpus import corpus_directory, load
from model.training.examples import job_of

_REPOSITORY = Path(__file__).resolve().parents[3]


def main(
    checkpoint: Annotated[Path, typer.Option()] = _REPOSITORY / "model" / "checkpoints" / "default",
    limit: Annotated[int, typer.Option(min=1, help="Records per source.")] = 40,
    output: Annotated[Path, typer.Option()] = _REPOSITORY / "docs",
) -> None:
    """Measure and write; exit status 2 without a corpus."""
    console = Console()
    corpus = corpus_directory()
    if corpus is None:
        console.print("no corpus: set JOBCAST_DATA to its directory")
        raise typer.Exit(2)
    opened = Checkpoint.load(checkpoint)
    engine = TorchEngine(opened.path, opened.encoder)
    engine.start()
    every = load(corpus, splits=["val"])
    records = [
        record
        for source in sorted({record.source for record in every})
        for record in sampled([r for r in every if r.source == source], limit, 0)
    ]
    random = np.random.default_rng(0)
    losses: dict[str, list[float]] = {"exact": [], "samples": []}
    for record in track(records, "records", console=console):
        targets = tuple(target for target in TARGETS if target in record.targets)
        if not targets:
            continue
        prompt = opened.prompt(job_of(record)).ids
        taus = (*QUANTILES, *random.uniform(1e-9, 1, SAMPLES).tolist())
        (forecast,) = engine.predict([Query(prompt, targets, taus)])
        for target in targets:
            values = ln_values(np.array(forecast.values[target]), target)
            truth = ln_values(np.array([record.targets[target]]), target)
            exact, drawn = values[: len(QUANTILES)], np.quantile(values[len(QUANTILES) :], QUANTILES)
            for name, predicted in (("exact", exact), ("samples", drawn)):
                losses[name].append(float(pinball_losses(truth, predicted[None], QUANTILES).mean()))
    found = {name: round(float(np.mean(values)), 5) for name, values in losses.items()}
    (output / SAMPLES_LOSS).write_text(
        json.dumps({**found, "answers": len(losses["exact"])}, indent=1) + "\n"
    )
    console.print(found)


if __name__ == "__main__":
    typer.run(main)
