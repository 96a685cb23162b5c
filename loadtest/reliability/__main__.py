"""`python -m loadtest.reliability EXPERIMENT ...`: run experiments, keep their figures, write the page.

Exit status 1 where a bound is missed.
"""

import importlib
from typing import Annotated

import typer
from rich.console import Console

from loadtest.reliability.page import TITLES, write_page
from loadtest.stopping import stop_on_sigterm


def main(
    experiments: Annotated[
        list[str] | None, typer.Argument(help=f"Of {', '.join(TITLES)}; default: all.")
    ] = None,
) -> None:
    """Each experiment is a module of this package with a function `run() -> bool`: whether its bounds hold."""
    console = Console()
    missed = []
    for name in experiments or list(TITLES):
        if name not in TITLES:
            raise typer.BadParameter(f"unknown experiment; known: {', '.join(TITLES)}")
        console.rule(TITLES[name])
        held = importlib.import_module(f"loadtest.reliability.{name}").run()
        console.print(f"{name}: {'every bound holds' if held else 'MISSED'}")
        if not held:
            missed.append(name)
        write_page()
    if missed:
        raise typer.Exit(1)


if __name__ == "__main__":
    stop_on_sigterm()
    typer.run(main)
