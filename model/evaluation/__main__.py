"""`python -m model.evaluation` and `jobcast evaluate`: what `make benchmark` runs."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.checkpoint import record_evaluation
from model.evaluation import report
from model.evaluation.forecast import Forecaster
from model.evaluation.left_out import LeftOutOptions
from model.evaluation.results import manifest_summary
from model.evaluation.run import Options, run
from model.evaluation.suite import BaselineOptions
from model.text import TEXT_VERSION
from model.training.corpus import CorpusMissing, corpus_directory, load
from model.training.examples import job_of, text_of

_REPOSITORY = Path(__file__).resolve().parents[2]
_DOCS = _REPOSITORY / "docs"
_DEFAULT_CHECKPOINT = _REPOSITORY / "model" / "checkpoints" / "default"
#: Exit status where there is no corpus to evaluate on.
NO_CORPUS = 2

command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@command.command()
def main(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            help="Checkpoint directory, default the shipped one; repeatable: the first is reported, "
            "the others differ by their training seed."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Corpus directory; default $JOBCAST_DATA.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources; repeatable.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Records per source and test split.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed of sample, bootstrap and baselines.")] = 0,
    per_source: Annotated[int, typer.Option(min=1, help="Learned baselines' train records per source.")] = (
        BaselineOptions.per_source
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Boosting rounds.")] = BaselineOptions.rounds,
    processes: Annotated[
        int, typer.Option(min=1, help="That fit the baselines, one thread each.")
    ] = BaselineOptions.processes,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = _DOCS,
    runs: Annotated[Path, typer.Option(help="Where predictions are kept.")] = (
        _REPOSITORY / "runs" / "evaluation"
    ),
    leave_out: Annotated[
        int,
        typer.Option(
            min=0, help="Of a source with few groups: so many applications are left out in turn; 0: none."
        ),
    ] = LeftOutOptions.applications,
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Fit and keep the baselines; no report.")
    ] = False,
) -> None:
    """Measure checkpoints and baselines on the test splits; write benchmark.md, .json and plots."""
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
    except ValueError as unknown:
        raise typer.BadParameter(str(unknown), param_hint="--source") from None
    options = Options(
        output=output,
        runs=runs,
        limit=limit,
        seed=seed,
        text_version=TEXT_VERSION,
        # A look at some sources, or a report elsewhere, is not what the README tells of.
        readme=_REPOSITORY / "README.md" if output == _DOCS and not source else None,
        left_out=LeftOutOptions(applications=leave_out) if leave_out else None,
        baselines=BaselineOptions(per_source=per_source, rounds=rounds, processes=processes, seed=seed),
    )
    checkpoints = checkpoint or [_DEFAULT_CHECKPOINT]
    forecasters = [] if baselines_only else [_forecaster(path) for path in checkpoints]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        results = run(records, text_of, job_of, forecasters, options, progress)
    if results is None:
        console.print(f"baselines are in {runs}")
        return
    if not source:  # a look at some sources says nothing about the checkpoint as a whole
        record_evaluation(checkpoints[0], manifest_summary(results))
    console.print(f"wrote {output / report.PAGE}")


def _forecaster(checkpoint: Path) -> Forecaster:
    # Imported late: the baselines need no torch.
    module = import_module("model.evaluation.forecaster")
    made: Forecaster = module.CheckpointForecaster(checkpoint)
    return made


if __name__ == "__main__":
    command()
