"""The series of the outcome store: what is reported, what is looked up, and whether the quantiles hold.

The share of outcomes between two quantiles is the difference of their `jobcast_coverage_below_total`, over
`jobcast_coverage_outcomes_total`.
"""

from collections.abc import Sequence
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.ask import DEFAULT_QUANTILES, quantile_key
from model.targets import DEFAULT_TARGETS

#: What became of a reported outcome, and of a look-up of past runs.
OutcomeResult = Literal["accepted", "duplicate", "problem"]
HistoryResult = Literal["found", "none", "error"]


class OutcomeMetrics:
    """Part of `Metrics`; all but the gauge are there without a store too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._reported = Counter(
            "jobcast_outcomes", "Outcomes that clients reported.", ["result"], registry=registry
        )
        self._compared = Counter(
            "jobcast_coverage_outcomes",
            "Complete outcomes held against the prediction made for them.",
            ["target"],
            registry=registry,
        )
        self._below = Counter(
            "jobcast_coverage_below",
            "Those that were at or below the predicted quantile.",
            ["target", "quantile"],
            registry=registry,
        )
        self._history = Counter(
            "jobcast_history",
            "Look-ups of past runs, one per request that sent none.",
            ["result"],
            registry=registry,
        )
        self._unrecorded = Counter(
            "jobcast_predictions_unrecorded",
            "Predictions that the writer had no room to remember.",
            registry=registry,
        )
        self._up: Gauge | None = None
        for result in get_args(OutcomeResult):
            self._reported.labels(result)
        for looked in get_args(HistoryResult):
            self._history.labels(looked)
        for target in DEFAULT_TARGETS:
            self._compared.labels(target.name)
            for quantile in DEFAULT_QUANTILES:
                self._below.labels(target.name, quantile_key(quantile))

    def reported(self, result: OutcomeResult) -> None:
        """Count an outcome that a client reported."""
        self._reported.labels(result).inc()

    def compared(self, target: str, at_or_below: Sequence[float]) -> None:
        """Count an outcome held against its prediction; at_or_below: the default quantiles it did not exceed."""
        self._compared.labels(target).inc()
        for quantile in at_or_below:
            self._below.labels(target, quantile_key(quantile)).inc()

    def history(self, result: HistoryResult) -> None:
        """Count a look-up of past runs."""
        self._history.labels(result).inc()

    def unrecorded(self, count: int) -> None:
        """Count predictions that no outcome can be held against."""
        self._unrecorded.inc(count)

    def database_up(self, up: bool) -> None:
        """Say whether the database is asked. The series is there where a database is."""
        if self._up is None:
            self._up = Gauge(
                "jobcast_database_up",
                "1 while the database is asked; 0 while it fails.",
                registry=self._registry,
                multiprocess_mode="livemin",
            )
        self._up.set(float(up))
