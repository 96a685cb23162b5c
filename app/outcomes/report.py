"""One outcome as a client reports it, free of HTTP, and what can be wrong with it whatever the database holds."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from app.errors import InvalidOutcome

#: Clocks differ.
_FUTURE_SECONDS = 300.0
_DAY = 86400.0
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

Verdict = Literal["accepted", "duplicate"]


@dataclass(frozen=True)
class Report:
    """What a job took. It is named by the request id of its prediction, or by its configuration.

    values: in the targets' units; status: anything but `success` makes them lower bounds; finished_at: RFC 3339.
    """

    values: Mapping[str, float | None]
    request_id: str | None = None
    kind: str | None = None
    config: str | Mapping[str, object] | None = None
    context: Mapping[str, object] | None = None
    series: str | None = None
    job: str | None = None
    status: str = "success"
    finished_at: str | None = None
    idempotency_key: str | None = field(default=None, repr=False)

    @property
    def measured(self) -> dict[str, float]:
        """The values that are there."""
        return {name: float(value) for name, value in self.values.items() if value is not None}

    @property
    def complete(self) -> bool:
        """Whether the values are all that the job took."""
        return self.status == "success"

    def checked(self, now: float, days: int) -> float:
        """When the job finished, in seconds since 1970; nothing older than so many days is taken.

        Raises InvalidOutcome.
        """
        by_config = (self.kind, self.config) != (None, None)
        if by_config == (self.request_id is not None):
            raise InvalidOutcome("say which job it was with request_id, or with kind and config: one of them")
        if by_config and (self.kind is None or self.config is None):
            raise InvalidOutcome("kind and config belong together")
        if not by_config and (self.context is not None or self.series is not None):
            raise InvalidOutcome(
                "context and series go with kind and config; the prediction of a request_id had its own"
            )
        if not self.measured:
            raise InvalidOutcome("an outcome needs at least one value")
        if any(not math.isfinite(value) or value < 0 for value in self.measured.values()):
            raise InvalidOutcome("a value is negative or not finite")
        finished = now if self.finished_at is None else _seconds(self.finished_at)
        if finished > now + _FUTURE_SECONDS:
            raise InvalidOutcome("finished_at lies in the future")
        if finished < now - days * _DAY:
            raise InvalidOutcome(f"finished_at is older than {days} days: outcomes of that age are not kept")
        return finished


def _seconds(written: str) -> float:
    try:
        if not _RFC3339.fullmatch(written):
            raise ValueError
        return datetime.fromisoformat(written.upper()).timestamp()
    except (ValueError, OverflowError):
        raise InvalidOutcome(
            "finished_at must be a time with its zone as in RFC 3339, such as 2026-11-29T08:15:00Z"
        ) from None
