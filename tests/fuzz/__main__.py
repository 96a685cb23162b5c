"""`python -m tests.fuzz`: read changed configs of every kind, as many as wanted; keep what crashes.

Exit status 1 where anything crashed. A case is told by kind, seed and number, so `--first` goes on where a run ended.
"""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from app.settings import DEFAULT_CHECKPOINT
from loadtest.reliability.mutation import mutated
from model.checkpoint import Checkpoint
from model.jobs import KINDS
from tests.fuzz.targets import read_and_prompt

CRASHES = Path("fuzz-crashes")


def main(
    cases: Annotated[int, typer.Option(help="Of each kind.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Another seed, other cases.")] = 1,
    first: Annotated[int, typer.Option(help="The number of the first case.")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help="Default: all.")] = None,
) -> None:
    """Read cases FIRST .. FIRST + CASES of each kind."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    console = Console()
    checkpoint = Checkpoint.load(DEFAULT_CHECKPOINT)
    kinds = kind or list(KINDS)
    crashes = 0
    with Progress(console=console) as progress:
        task = progress.add_task("", total=cases * len(kinds))
        for name in kinds:
            outcomes: Counter[str] = Counter()
            for number in range(first, first + cases):
                progress.update(task, advance=1, description=f"{name} {number}")
                text = mutated(name, seed, number)
                try:
                    outcomes[read_and_prompt(checkpoint, name, text, {})] += 1
                except Exception as error:
                    crashes += 1
                    outcomes["CRASH"] += 1
                    CRASHES.mkdir(exist_ok=True)
                    (CRASHES / f"{name}-{seed}-{number}.txt").write_text(text, encoding="utf-8")
                    console.print(
                        f"{name} seed {seed} case {number}: {type(error).__name__}: {error}"[:300],
                        markup=False,
                    )
            console.print(f"{name}: {dict(outcomes.most_common())}", markup=False)
    if crashes:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
