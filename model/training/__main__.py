"""`python -m model.training`: corpus -> checkpoint."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from model.training.corpus import corpus_directory
from model.training.run import RunSettings, run
from model.training.train import TrainSettings

_DEFAULT = RunSettings()


def main(
    directory: Annotated[Path, typer.Option(help="Where the run lives; run again to resume.")] = Path(
        "runs/default"
    ),
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = _DEFAULT.training.steps,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    trees_per_batch: Annotated[int, typer.Option()] = _DEFAULT.training.trees_per_batch,
    learning_rate: Annotated[float, typer.Option()] = _DEFAULT.training.peak_learning_rate,
    limit_per_source: Annotated[int | None, typer.Option(help="Fewer records, for a trial.")] = None,
    install: Annotated[Path | None, typer.Option(help="Copy the finished checkpoint there.")] = None,
) -> None:
    """Train a checkpoint on the corpus ($JOBCAST_DATA or ../shared/data)."""
    console = Console()
    corpus = corpus_directory()
    if corpus is None:
        console.print("no corpus: set JOBCAST_DATA to its directory")
        raise typer.Exit(2)
    training = TrainSettings(steps=steps, trees_per_batch=trees_per_batch, peak_learning_rate=learning_rate)
    settings = replace(_DEFAULT, training=training, device=device, limit_per_source=limit_per_source)
    made = run(corpus, directory, settings, console)
    if install is not None:
        shutil.copytree(made, install, dirs_exist_ok=True)
    console.print(f"checkpoint: {install or made}")


typer.run(main)
