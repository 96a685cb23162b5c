"""`python -m model.evaluation.frontier`: accuracy and latency of the checkpoints tried, for docs/frontier.json.

On `val`, since the default checkpoint is chosen by it: the mean abs ln error of medians and the CRPS, without history
(over records of a group, groups, sources, targets), and the latency of one job from its raw configuration to its
quantiles, one after another. The first row is what the experts say without any decoder: a point, no distribution.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from model.checkpoint import Checkpoint
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine
from model.evaluation.cells import QUANTILES, TARGETS, Case, Cell, sampled
from model.evaluation.forecast import forecast_cell
from model.evaluation.forecaster import CheckpointForecaster
from model.evaluation.metrics import MEDIAN, FloatArray, crps_losses, grouped_mean, ln_values
from model.evaluation.ratio_plots import Candidate
from model.precision import fastest_dtype
from model.training.corpus import Record, corpus_directory, load
from model.training.examples import job_of

EXPERTS_ALONE = "experts alone"
_ASKED = (0.1, 0.5, 0.9)


def main(
    checkpoint: Annotated[list[str], typer.Option(help="NAME=DIRECTORY; repeatable.")],
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("docs/frontier.json"),
    limit: Annotated[int, typer.Option(min=10, help="Val records per source.")] = 120,
    timed: Annotated[int, typer.Option(min=5, help="Jobs that latency is measured on.")] = 60,
) -> None:
    """Measure every checkpoint on the same records; exit status 2 without a corpus."""
    console = Console()
    corpus = corpus_directory()
    if corpus is None:
        console.print("no corpus: set JOBCAST_DATA to its directory")
        raise typer.Exit(2)
    opened = {name: Path(place) for name, _, place in (one.partition("=") for one in checkpoint)}
    records = load(corpus, splits=["val"])
    cells = [
        Cell(source, source, drawn[0].family, "val", len(drawn), tuple(Case(r, ()) for r in drawn))
        for source in sorted({record.source for record in records})
        if (drawn := sampled([r for r in records if r.source == source], limit, 0))
    ]
    jobs = sampled(records, timed, 0)
    found: list[Candidate] = []
    for name, place in opened.items():
        new = [] if found else [_experts_alone(place, cells, jobs)]
        new.append(_candidate(name, place, cells, jobs))
        for row in new:
            console.print(
                f"{row['name']}: error {row['error']:.4f}, CRPS {row['crps']}, {row['latency_ms']:.1f} ms"
            )
        found += new
        output.write_text(json.dumps(found, indent=1) + "\n")


def _candidate(name: str, path: Path, cells: Sequence[Cell], jobs: Sequence[Record]) -> Candidate:
    forecaster = CheckpointForecaster(path)
    answers = [forecast_cell(forecaster, cell, with_history=False, advance=lambda: None) for cell in cells]
    checkpoint = Checkpoint.load(path)
    engine = TorchEngine(path, checkpoint.encoder)
    engine.start()

    def asked(record: Record) -> object:
        return engine.predict([Query(checkpoint.prompt(job_of(record)).ids, TARGETS, _ASKED)])

    error, crps = scores(cells, answers)
    parameters = checkpoint.manifest.provenance["parameters"]
    assert isinstance(parameters, int)
    return {
        "name": name,
        "parameters": parameters,
        "latency_ms": _milliseconds(asked, jobs),
        "error": error,
        "crps": crps,
        "dtype": str(fastest_dtype()),
    }


def _experts_alone(path: Path, cells: Sequence[Cell], jobs: Sequence[Record]) -> Candidate:
    checkpoint = Checkpoint.load(path)

    def asked(record: Record) -> dict[str, float]:
        return dict(checkpoint.standing(checkpoint.prompt(job_of(record)).ids).estimates)

    answers = []
    for cell in cells:
        said = [asked(case.record) for case in cell.cases]
        medians = np.array([[one.get(target, np.nan) for target in TARGETS] for one in said])
        answers.append(np.repeat(medians[..., None], len(QUANTILES), axis=2))
    error, _ = scores(cells, answers)
    return {
        "name": EXPERTS_ALONE,
        "parameters": 0,
        "latency_ms": _milliseconds(asked, jobs),
        "error": error,
        "crps": None,
        "dtype": "float32",
    }


def scores(cells: Sequence[Cell], answers: Sequence[FloatArray]) -> tuple[float, float]:
    """Mean abs ln error and CRPS: over groups, then sources, then targets."""
    by_target = []
    for column, target in enumerate(TARGETS):
        of_target = []
        for cell, values in zip(cells, answers, strict=True):
            truth = ln_values(cell.truth(target), target)
            predicted = ln_values(values[:, column], target)
            rows = np.isfinite(truth) & np.isfinite(predicted).all(axis=1)
            if rows.any():
                groups = cell.groups()[rows]
                missed = np.abs(truth - predicted[:, QUANTILES.index(MEDIAN)])[rows]
                losses = crps_losses(truth[rows], predicted[rows], QUANTILES)
                of_target.append((grouped_mean(missed, groups), grouped_mean(losses, groups)))
        if of_target:
            by_target.append(np.mean(of_target, axis=0))
    error, crps = np.mean(by_target, axis=0).tolist()
    return round(error, 4), round(crps, 4)


def _milliseconds(asked: Callable[[Record], object], jobs: Sequence[Record]) -> float:
    """Median over jobs of one call each, the second time around: nothing is warmed up by the first measurement."""
    seconds = []
    for record in jobs:
        asked(record)
        started = time.perf_counter()
        asked(record)
        seconds.append(time.perf_counter() - started)
    return round(float(np.median(seconds)) * 1000, 2)


if __name__ == "__main__":
    typer.run(main)
