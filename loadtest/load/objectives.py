"""What a load must be answered like: limits, and which of them a run missed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Measured:
    """One run. offered, answered: requests a second; times in milliseconds, in an open loop from the moment due.

    errors: the share of requests without a 200; failures: how many of each other status, 0 for no answer.
    client_seconds: processor time of whoever asks, for each request; late_p99: milliseconds that it sent them too late.
    """

    offered: float
    answered: float
    requests: int
    errors: float
    p50: float
    p95: float
    p99: float
    failures: dict[str, int] = field(default_factory=dict)
    client_seconds: float = 0.0
    late_p99: float = 0.0

    @classmethod
    def of(
        cls, milliseconds: Sequence[float], failures: Mapping[str, int], offered: float, seconds: float
    ) -> "Measured":
        """milliseconds: of what was answered; seconds: from the first request to the last answer."""
        failed = sum(failures.values())
        requests = len(milliseconds) + failed
        p50, p95, p99 = (
            (float(np.quantile(milliseconds, tau)) for tau in (0.5, 0.95, 0.99))
            if milliseconds
            else [float("nan")] * 3
        )
        answered = len(milliseconds) / max(seconds, 1e-9)
        return cls(offered, answered, requests, failed / max(requests, 1), p50, p95, p99, dict(failures))


@dataclass(frozen=True)
class Run:
    """A load and every answer to it. due: moments of `time.perf_counter()`, which all processes of a machine share;
    milliseconds: from then to the answer; began: when the first request could be due.
    """

    measured: Measured
    due: Sequence[float]
    milliseconds: Sequence[float]
    began: float


@dataclass(frozen=True)
class Objectives:
    """Limits; None: no such limit. p99_over_p50: p99 as a multiple of p50; answered: a share of what was offered."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    p99_over_p50: float | None = None
    errors: float | None = 0.0
    answered: float | None = None

    def missed(self, run: Measured) -> Iterator[str]:
        """A sentence for each; a figure that is not a number misses every limit."""
        checks = [
            ("p50", run.p50, self.p50, "ms"),
            ("p95", run.p95, self.p95, "ms"),
            ("p99", run.p99, self.p99, "ms"),
            ("p99 / p50", run.p99 / run.p50 if run.p50 else float("nan"), self.p99_over_p50, ""),
            ("errors", 100 * run.errors, None if self.errors is None else 100 * self.errors, "%"),
        ]
        for name, found, limit, unit in checks:
            if limit is not None and not found <= limit:
                yield f"{name} is {found:.4g} {unit}, limit {limit:.4g}"
        if self.answered is not None and not run.answered >= self.answered * run.offered:
            yield f"answered {run.answered:.4g} of {run.offered:.4g} requests a second"
