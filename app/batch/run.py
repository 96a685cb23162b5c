"""One run from its start, or from where the last one was interrupted, to its end."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.batch.fingerprint import fingerprint
from app.batch.ledger import Progress
from app.batch.output import Output, files_of
from app.batch.source import Source, open_source
from app.batch.windows import Window, windows
from app.settings import Settings
from app.startup import ConfigurationError
from model.checkpoint import Checkpoint

#: Different requests of a window: more are lost by an interruption, fewer make the engine's calls smaller.
WINDOW_REQUESTS = 128

#: Windows in their order -> the same with their answers, in the same order.
Answered = Callable[[Iterable[Window]], Iterator[tuple[Window, list[bytes]]]]


@dataclass(frozen=True)
class Job:
    """What is to be done; `source` and `checkpoint` are what the paths lead to."""

    source_path: Path
    output_path: Path
    settings: Settings
    source: Source
    checkpoint: Checkpoint
    window: int = WINDOW_REQUESTS

    @classmethod
    def of(cls, source: Path, output: Path, settings: Settings) -> "Job":
        """Raises ConfigurationError, CheckpointError."""
        opened = open_source(source, settings.max_body_bytes)
        return cls(source, output, settings, opened, Checkpoint.load(settings.checkpoint, lazily=True))

    def open_output(self, *, overwrite: bool) -> Output:
        """The output, with what an interrupted run left. Raises ConfigurationError."""
        written = files_of(self.output_path)
        if any(file.exists() and file.samefile(self.source_path) for file in written):
            raise ConfigurationError("the output would take the place of the input")
        told = fingerprint(self.source_path, self.settings, self.checkpoint, self.window)
        try:
            return Output(self.output_path, told, overwrite=overwrite)
        except OSError as error:
            raise ConfigurationError(f"the output cannot be written: {type(error).__name__}") from None


def run(job: Job, output: Output, answered: Answered, told: Callable[[Progress], None]) -> Progress:
    """Compute what is missing. told: of every window that was written. Raises what `answered` raises."""
    pending: set[bytes] = set()
    start = output.progress

    def taken() -> Iterator[Window]:
        """Their requests are known as soon as somebody works on them."""
        known = lambda key: key in pending or output.known(key)  # noqa: E731
        for window in windows(
            job.source,
            job.window,
            known,
            number=start.windows,
            first=start.records,
            position=start.position,
        ):
            pending.update(window.new)
            yield window

    if not start.complete:
        for window, bodies in answered(taken()):
            output.write(window, bodies)
            pending.difference_update(window.new)
            told(output.progress)
    output.finish()
    return output.progress
