"""`python -m loadtest.load`: start a service, load it, judge it. Exit status 1 where an objective is missed.

The service has one core, Locust another one, where there are two.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from loadtest.load.generators import run_locust
from loadtest.load.knee import find_knee
from loadtest.load.objectives import Measured, Objectives
from loadtest.load.scenarios import MIXES, SCENARIOS, Mix, mix_named
from loadtest.reliability.running import running_service
from loadtest.stopping import stop_on_sigterm

cli = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Load tests of a service started for them."
)
console = Console()

_Scenario = Annotated[str, typer.Option(help=f"Of {', '.join(SCENARIOS)}.")]
_Mixed = Annotated[str, typer.Option(help=f"Of {', '.join(MIXES)}.")]
_Seconds = Annotated[float, typer.Option(min=1, max=3600)]


@cli.command()
def run(
    rate: Annotated[float, typer.Option(min=0.1, max=2000, help="Requests a second, an open loop.")] = 10.0,
    seconds: _Seconds = 30.0,
    mix: _Mixed = "zipf",
    p99_over_p50: float = 20.0,
    report: Annotated[Path, typer.Option(help="A directory for Locust's HTML reports.")] = Path("build/load"),
) -> None:
    """Every scenario at a rate that the service must bear: no errors, nothing falls behind, no long tail."""
    report.mkdir(parents=True, exist_ok=True)
    objectives = Objectives(p99_over_p50=p99_over_p50, answered=0.9)
    missed = []
    with _service() as (url, core):
        for name in SCENARIOS:
            html = report / f"{name}.html"
            found = run_locust(url, name, _mix(mix), seconds, rate=rate, core=core, html=html).measured
            _show(f"{name}, {mix}", [found])
            # An ebbing load ends on the last answer, bursts at random: only a stream keeps its rate to the end.
            missed += [f"{name}: {sentence}" for sentence in objectives.missed(found)]
    for sentence in missed:
        console.print(f"missed: {sentence}")
    raise typer.Exit(1 if missed else 0)


@cli.command()
def knee(
    scenario: _Scenario = "steady",
    mix: _Mixed = "cold",
    first: Annotated[float, typer.Option(min=0.1, max=2000, help="The rate of the first step.")] = 5.0,
    seconds: _Seconds = 20.0,
    times_quiet: Annotated[
        float, typer.Option(min=1, help="p99 at most so many times the quiet p50.")
    ] = 10.0,
) -> None:
    """Raise the rate until the service cannot follow."""
    with _service() as (url, core):
        seeds = iter(range(1, 100))
        found = find_knee(
            lambda rate: (
                run_locust(url, scenario, _mix(mix), seconds, rate=rate, seed=next(seeds), core=core).measured
            ),
            first,
            times_quiet=times_quiet,
        )
    _show(f"{scenario}, {mix}", found.steps)
    console.print(f"the knee is at {found.rate:.1f} requests a second; above: {found.why}")
    raise typer.Exit(0 if found.rate else 1)


@contextmanager
def _service() -> Iterator[tuple[str, int | None]]:
    """A service's URL, and the core that is left for Locust."""
    several = len(os.sched_getaffinity(0)) > 1
    with running_service({"log_level": "warning"}, core=0 if several else None) as service:
        yield service.url, 1 if several else None


def _mix(name: str) -> Mix:
    if (known := mix_named(name)) is not None:
        return known
    raise typer.BadParameter(f"unknown mix; known: {', '.join(MIXES)}")


def _show(title: str, runs: list[Measured]) -> None:
    table = Table("offered /s", "answered /s", "errors", "p50 ms", "p95 ms", "p99 ms", title=title)
    for one in runs:
        figures = (one.offered, one.answered, one.errors, one.p50, one.p95, one.p99)
        table.add_row(*(f"{figure:.4g}" for figure in figures))
    console.print(table)


if __name__ == "__main__":
    stop_on_sigterm()
    cli()
