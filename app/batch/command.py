"""`jobcast batch`: the command, its progress and its exit status."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.batch.ledger import Progress as Done
from app.batch.local import answered_here, default_readers
from app.batch.run import Answered, Job, run
from app.batch.source import pyarrow_needed
from app.build import engine_builder
from app.cores import usable_cores
from app.settings import Settings
from app.startup import ConfigurationError

#: Every record has an answer or a problem, and at least one a problem.
WITH_PROBLEMS = 3
_SUFFIXES = (".jsonl", ".ndjson", ".parquet")


def batch(
    source: Path,
    output: Path,
    settings: Settings,
    *,
    overwrite: bool = False,
    readers: int | None = None,
    ray: bool = False,
    ray_address: str | None = None,
    engines: int = 1,
) -> int:
    """The exit status: 0, or WITH_PROBLEMS. Raises ConfigurationError, CheckpointError, EngineUnavailable.

    readers: processes, or with Ray actors; engines: actors with Ray.
    """
    if output.suffix not in _SUFFIXES:
        raise ConfigurationError("the output's name must end in .jsonl, .ndjson or .parquet")
    if output.suffix == ".parquet":
        pyarrow_needed()
    job = Job.of(source, output, settings)
    readers = readers or default_readers(settings.engine)
    answered: Answered
    if ray:
        from app.batch.on_ray import answered_on_ray

        answered = lambda windows: answered_on_ray(  # noqa: E731
            job, windows, readers=readers, engines=engines, address=ray_address
        )
    else:
        answered = lambda windows: answered_here(  # noqa: E731
            settings, engine_builder(_with_threads(settings, readers), job.checkpoint)(), windows, readers
        )
    with (
        job.open_output(overwrite=overwrite) as written,
        _progress(job.source.end, written.progress) as told,
        interruptible() as unless_interrupted,
    ):

        def written_to(done: Done) -> None:
            told(done)
            unless_interrupted()

        done = run(job, written, answered, written_to)
    return WITH_PROBLEMS if done.problems else 0


def _with_threads(settings: Settings, readers: int) -> Settings:
    """The engine gets the cores that reading leaves; one at least."""
    threads = settings.engine_threads or max(1, usable_cores() - readers)
    return settings.model_copy(update={"engine_threads": threads})


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Ctrl-C ends the run at once, or, where nobody hears the exception, at the next call of what is yielded.

    Python drops an exception that a signal raises inside of a destructor or a callback of the garbage collector.
    """
    pressed = False

    def press(*_: object) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    def unless_interrupted() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield unless_interrupted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _progress(end: int, start: Done) -> Iterator[Callable[[Done], None]]:
    """A bar on a terminal, a line at the end in any case; both on stderr."""
    console = Console(stderr=True)
    began = time.monotonic()
    last = start
    if start.records:
        console.print(f"going on after {start.records:,} records")
    bar = Progress(
        TextColumn("{task.fields[records]:,} records"),
        BarColumn(),
        TextColumn("{task.fields[pace]:,.1f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=end, completed=start.position, records=start.records, pace=0.0)

        def told(done: Done) -> None:
            nonlocal last
            last = done
            pace = (done.records - start.records) / max(time.monotonic() - began, 1e-9)
            bar.update(task, completed=done.position, records=done.records, pace=pace)

        yield told
    seconds = max(time.monotonic() - began, 1e-9)
    console.print(
        f"{last.records:,} records, {last.requests:,} of them different, {last.problems:,} problems; "
        f"{(last.records - start.records) / seconds:,.1f} records a second"
    )
