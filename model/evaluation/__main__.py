"""`python -m model.evaluation`, what `make evaluate` runs."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.checkpoint import record_evaluation
from model.evaluation.boosting import BoostingOptions
from model.evaluation.forecast import Forecaster
from model.evaluation.results import manifest_summary
from model.evaluation.run import Options, run
from model.text import TEXT_VERSION
from model.training.corpus import CorpusMissing, corpus_directory, load
from model.training.examples import text_of

_REPOSITORY = Path(__file__).resolve().parents[2]
#: Exit status where there is no corpus to evaluate on.
NO_CORPUS = 2


def main(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint directory.")] = (
        _REPOSITORY / "model" / "checkpoints" / "default"
    ),
    data: Annotated[Path | None, typer.Option(help="Corpus directory; default $JOBCAST_DATA.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Records per source and test split.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of LightGBM.")] = 0,
    per_source: Annotated[int, typer.Option(min=1, help="LightGBM's train records per source.")] = 12_000,
    rounds: Annotated[int, typer.Option(min=1, help="LightGBM's boosting rounds.")] = 600,
    threads: Annotated[int, typer.Option(min=1, help="LightGBM's threads.")] = 2,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = _REPOSITORY / "docs",
    runs: Annotated[Path, typer.Option(help="Where predictions are kept.")] = (
        _REPOSITORY / "runs" / "evaluation"
    ),
    baselines_only: Annotated[bool, typer.Option(help="Fit and keep the baselines; no report.")] = False,
) -> None:
    """Measure the checkpoint and the baselines on the test splits; write evaluation.md, .json and plots."""
    console = Console()
    directory = data or corpus_directory()
    if directory is None:
        console.print("No corpus: set JOBCAST_DATA to its directory. Nothing was evaluated.")
        raise typer.Exit(NO_CORPUS)
    try:
        records = load(directory, source or None)
    except CorpusMissing as missing:
        console.print(f"{missing}. Nothing was evaluated.")
        raise typer.Exit(NO_CORPUS) from None
    options = Options(
        output=output,
        runs=runs,
        limit=limit,
        seed=seed,
        text_version=TEXT_VERSION,
        boosting=BoostingOptions(per_source=per_source, rounds=rounds, threads=threads, seed=seed),
    )
    forecaster = None if baselines_only else _forecaster(checkpoint)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        results = run(records, text_of, forecaster, options, progress)
    if results is None:
        console.print(f"baselines are in {runs}")
        return
    record_evaluation(checkpoint, manifest_summary(results))
    console.print(f"wrote {output / 'evaluation.md'}")


def _forecaster(checkpoint: Path) -> Forecaster:
    # Imported late: the baselines need no torch.
    module = import_module("model.evaluation.forecaster")
    made: Forecaster = module.CheckpointForecaster(checkpoint)
    return made


if __name__ == "__main__":
    typer.run(main)
