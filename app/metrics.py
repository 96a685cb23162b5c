"""Every Prometheus series of the service, with all buckets in one place.

Label sets are bounded: routes are templates, targets those of the checkpoint, the rest fixed words.
One registry per app, so that tests can make several.

Several workers (app/supervisor.py) share their series through files: PROMETHEUS_MULTIPROC_DIR names the directory, and
must be set before this module is imported. A scrape then tells the sum over all workers, whichever answers it. Gauges
say by their multiprocess_mode what "over all" means; a gauge that is a function is not possible there, so that gauges
are brought up to date at a scrape and, for scrapes that other workers answer, by `keep_current`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from app.exposition import Exposition, exposition_of, merged_exposition
from app.outcome_metrics import OutcomeMetrics
from app.settings import MULTIPROCESS_DIRECTORY
from app.timings import Stage, Timed, current

disable_created_metrics()  # type: ignore[no-untyped-call]

CacheOutcome = Literal["hit", "miss", "coalesced", "error"]
ShedReason = Literal["queue_full", "deadline", "rate_limited"]
#: Why an engine had to be replaced.
Loss = Literal["died", "hung", "out_of_memory", "failing"]

REQUEST_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, *REQUEST_BUCKETS)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: 1, 2 and 5 per decade: hundredths of a core up to a terabyte.
VALUE_BUCKETS = tuple(step * 10.0**exponent for exponent in range(-2, 13) for step in (1, 2, 5))


#: How old another worker's gauges may be.
_CURRENT_SECONDS = 0.5


class Metrics:
    """The series, and the few ways in which the service writes to them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "jobcast_requests", "Requests answered.", ["route", "method", "code"], registry=registry
        )
        self._predictions = Counter(
            "jobcast_predictions",
            "Predictions asked for, alone or in a batch, by the status of their answer.",
            ["code"],
            registry=registry,
        )
        self.request_duration = Histogram(
            "jobcast_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            ["route"],
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._stage = Histogram(
            "jobcast_stage_duration_seconds",
            "Time in one stage of a prediction; prefill and decode once per engine call.",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )
        self._queue_depth = Gauge(
            "jobcast_queue_depth",
            "Prompts waiting for the engine.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.batch_size = Histogram(
            "jobcast_batch_size", "Prompts in one engine call.", buckets=BATCH_BUCKETS, registry=registry
        )
        self._cache = Counter(
            "jobcast_cache_requests", "Look-ups in the cache.", ["outcome"], registry=registry
        )
        self._shed = Counter(
            "jobcast_shed",
            "Predictions refused to keep the rest fast; rate_limited: calls over their client's rate.",
            ["reason"],
            registry=registry,
        )
        self._shared_cache_up: Gauge | None = None
        self._engine_losses = Counter(
            "jobcast_engine_losses", "Engines that had to be replaced.", ["reason"], registry=registry
        )
        self._engine_up = Gauge(
            "jobcast_engine_up",
            "1 while the engine can answer; over several workers, while all can.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        # Not an Info, which several workers cannot share; it looks the same to a scrape.
        self._model = Gauge(
            "jobcast_model_info",
            "The checkpoint that answers.",
            ["name", "version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._key_file_valid = Gauge(
            "jobcast_key_file_valid",
            "0 while the newest key file is refused and older keys count.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._key_file_valid.set(1)
        self._predicted = Histogram(
            "jobcast_predicted_value",
            "Predicted medians in the target's unit, to see drift.",
            ["target"],
            buckets=VALUE_BUCKETS,
            registry=registry,
        )
        self.outcomes = OutcomeMetrics(registry)
        #: `labels()` takes a lock and a look-up; a matrix of 256 jobs would notice.
        self._predicted_of: dict[str, Histogram] = {}
        for outcome in get_args(CacheOutcome):
            self._cache.labels(outcome)
        for reason in get_args(ShedReason):
            self._shed.labels(reason)
        for loss in get_args(Loss):
            self._engine_losses.labels(loss)
        # A rate does not see the value that a series begins with: the first burst of faults would be none.
        for code in ("200", "500", "503"):
            self._predictions.labels(code)
        #: Gauges with what they show.
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._multiprocess = MULTIPROCESS_DIRECTORY in os.environ

    def answered(self, route: str, method: str, code: int, seconds: float, trace: str | None = None) -> None:
        """Count a request; trace: the id of the one that was recorded of it, which becomes an exemplar."""
        self.requests.labels(route, method, str(code)).inc()
        self.request_duration.labels(route).observe(seconds, {"trace_id": trace} if trace else None)
        if method == "POST" and (route == "/predict" or (route == "/predict/batch" and code != 200)):
            self.prediction(code)

    def prediction(self, code: int) -> None:
        """Count a prediction; those of a batch that is answered are its items', problems among them."""
        self._predictions.labels(str(code)).inc()

    def watch(self, *, queue_depth: Callable[[], int], engine_up: Callable[[], bool]) -> None:
        """Read the two gauges from the batcher whenever they are scraped."""
        self._watched += [(self._queue_depth, queue_depth), (self._engine_up, engine_up)]

    def refresh(self) -> None:
        """Bring the gauges up to date."""
        for gauge, value in self._watched:
            gauge.set(float(value()))

    async def keep_current(self) -> None:
        """Do so now and then until cancelled, where other workers answer scrapes too."""
        while self._multiprocess:
            self.refresh()
            await asyncio.sleep(_CURRENT_SECONDS)

    def name_model(self, name: str, version: str) -> None:
        """Say which checkpoint answers."""
        self._model.labels(name, version).set(1)

    def key_file_valid(self, valid: bool) -> None:
        """Say whether the newest key file counts."""
        self._key_file_valid.set(float(valid))

    def stage(self, stage: Stage, seconds: float, began: float | None = None) -> None:
        """Record the time that one stage took, for the request that runs too; began: else it ended just now."""
        self._stage.labels(stage).observe(seconds)
        if began is None:
            began = time.perf_counter() - seconds
        current().stages.append(Timed(stage, began, seconds))

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Record the time that a block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stage(stage, time.perf_counter() - start, start)

    def cache(self, outcome: CacheOutcome, count: int = 1) -> None:
        """Count look-ups in the cache."""
        if count:
            self._cache.labels(outcome).inc(count)

    def engine_lost(self, reason: Loss) -> None:
        """Count an engine that had to be replaced."""
        self._engine_losses.labels(reason).inc()

    def shared_cache_up(self, up: bool) -> None:
        """Say whether Redis is asked. The series is there where a Redis is."""
        if self._shared_cache_up is None:
            self._shared_cache_up = Gauge(
                "jobcast_shared_cache_up",
                "1 while Redis is asked; 0 while it fails.",
                registry=self.registry,
                multiprocess_mode="livemin",
            )
        self._shared_cache_up.set(float(up))

    def shed(self, reason: ShedReason) -> None:
        """Count a refusal."""
        self._shed.labels(reason).inc()

    def predicted(self, target: str, median: float) -> None:
        """Record a predicted median."""
        if target not in self._predicted_of:
            self._predicted_of[target] = self._predicted.labels(target)
        self._predicted_of[target].observe(median)

    async def exposition(self, accept: str) -> Exposition:
        """What Prometheus scrapes, in a format that it accepts."""
        self.refresh()
        return await merged_exposition() if self._multiprocess else exposition_of(self.registry, accept)
