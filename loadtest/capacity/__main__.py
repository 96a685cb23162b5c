"""`python -m loadtest.capacity PART ...`: measure parts of the capacity plan, and write docs/capacity.md.

Exit status 1 where a bound is missed.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from loadtest.capacity.page import write_page
from loadtest.capacity.plan import Assumptions
from loadtest.stopping import stop_on_sigterm


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help="load, simulate, bulk; default: load and bulk.")
    ] = None,
    core_hour: Annotated[
        float, typer.Option(help="US dollars for an hour of one core.")
    ] = Assumptions.core_hour,
    gpu_hour: Annotated[
        float, typer.Option(help="US dollars for an hour of one GPU.")
    ] = Assumptions.gpu_hour,
    gpu_share: Annotated[
        float, typer.Option(help="Of the GPU's peak that the engine is thought to get.")
    ] = Assumptions.gpu_share,
) -> None:
    """Figures are written as soon as they are there; the page is made of all that there are."""
    from loadtest.capacity.bulk import bulk
    from loadtest.capacity.measure import measure, simulate

    known: dict[str, Callable[[], None]] = {
        "load": measure,
        "simulate": simulate,
        "bulk": bulk,
        "page": lambda: None,
    }
    for part in parts or ["load", "bulk"]:
        if part not in known:
            raise typer.BadParameter(f"unknown part; known: {', '.join(known)}")
        known[part]()
    given = {"core_hour": core_hour, "gpu_hour": gpu_hour}
    sources = {
        name.replace("_hour", "_source"): "given on the command line"
        for name, price in given.items()
        if price != getattr(Assumptions, name)
    }
    held = write_page(Assumptions(**given, gpu_share=gpu_share, **sources))  # type: ignore[arg-type]
    raise typer.Exit(0 if held else 1)


if __name__ == "__main__":
    stop_on_sigterm()
    typer.run(main)
