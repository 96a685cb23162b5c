"""What one request spent its time on: for its log line, its headers and its trace.

A context variable leads from wherever a stage is timed to the request that it belongs to; tasks and threads that work
for a request run in a copy of its context. Times are `time.perf_counter()` seconds.
"""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal[
    "read", "serialize", "tokenize", "history", "cache", "queue", "prefill", "decode", "calibrate"
]


@dataclass(frozen=True)
class Timed:
    """A stage, when it began, and how long it took."""

    stage: Stage
    began: float
    seconds: float


@dataclass(eq=False)
class Timings:
    """Of one request, and what tells it from others; several calls of the engine at a time count as the longest."""

    stages: list[Timed] = field(default_factory=list)
    body_bytes: int = 0
    #: Prompts that it became, and their tokens.
    prompts: int = 0
    tokens: int = 0
    queue_seconds: float = 0.0
    inference_seconds: float = 0.0

    def engine(self, queue_seconds: float, inference_seconds: float) -> None:
        """Account for one call of the engine."""
        self.queue_seconds = max(self.queue_seconds, queue_seconds)
        self.inference_seconds = max(self.inference_seconds, inference_seconds)

    def milliseconds(self) -> dict[str, float]:
        """Per stage, all its times together."""
        sums: dict[str, float] = {}
        for timed in self.stages:
            sums[timed.stage] = sums.get(timed.stage, 0.0) + timed.seconds * 1000
        return {stage: round(spent, 2) for stage, spent in sums.items()}


#: Of the request that the running code works for; what belongs to none is added to one that nobody reads.
_CURRENT: ContextVar[Timings | None] = ContextVar("timings", default=None)


def begin() -> Timings:
    """Timings of a request that starts here."""
    timings = Timings()
    _CURRENT.set(timings)
    return timings


def current() -> Timings:
    """Of the request that the running code works for."""
    return _CURRENT.get() or Timings()
