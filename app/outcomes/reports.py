"""From reports to rows: which job each is about, what is new, and what can be held against a prediction."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import structlog

from app.ask import DEFAULT_QUANTILES, Ask
from app.errors import OutcomesUnavailable, UnknownRequest
from app.metrics import Metrics
from app.outcomes.database import Database, DatabaseDown
from app.outcomes.identity import Digests, Identity
from app.outcomes.report import Report, Verdict
from app.outcomes.rows import Compared, OutcomeRow, PredictionRow, measured_text
from app.outcomes.store import OutcomeStore
from app.outcomes.writer import PredictionWriter
from app.unit import Unit, Units
from model.errors import JobcastError, UnknownJob

log = structlog.get_logger()

#: How long an outcome waits for its prediction to be written.
_FLUSH_SECONDS = 1.0
_RETRY_SECONDS = 2.0

#: What was made of a report: a row, or what is wrong with it.
_Made = OutcomeRow | BaseException
Read = Callable[[Ask], Awaitable[Units]]
#: Just read, or remembered.
_Unit = TypeVar("_Unit", Unit, PredictionRow)


class Reports:
    """Takes reports. One per process and event loop."""

    def __init__(
        self,
        database: Database,
        store: OutcomeStore,
        writer: PredictionWriter,
        digests: Digests,
        metrics: Metrics,
        *,
        days: int,
        forget: Callable[[Iterable[bytes]], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """forget: is told of which series there is something new."""
        self._forget = forget
        self._database, self._store, self._writer = database, store, writer
        self._digests, self._metrics = digests, metrics
        self._days, self._now = days, now

    async def take(
        self, reports: Sequence[Report | JobcastError], client: str, read: Read
    ) -> list[Verdict | BaseException]:
        """What became of each, in order. read: the units of a configuration.

        Raises OutcomesUnavailable where the database cannot be asked; then nothing of it may have been kept, or all.
        """
        if not self._database.up:
            raise _unavailable()
        try:
            predicted = await self._predictions(reports, client)
            made = await asyncio.gather(
                *(self._made(report, client, predicted, read) for report in reports), return_exceptions=True
            )
            rows: dict[bytes, OutcomeRow] = {}
            for row in made:
                if isinstance(row, OutcomeRow):
                    rows.setdefault(row.identity, row)  # of equal ones the first counts
            try:
                added, compared = await self._store.add(rows.values()) if rows else (set(), [])
            finally:
                self._forget({row.series for row in rows.values()})
        except DatabaseDown:
            raise _unavailable() from None
        return self._counted(made, added, compared)

    async def _predictions(
        self, reports: Sequence[Report | JobcastError], client: str
    ) -> Mapping[bytes, Sequence[PredictionRow]]:
        """Of all request ids that are named; what this process has not written yet is waited for."""
        named = [one.request_id for one in reports if isinstance(one, Report) and one.request_id is not None]
        digests = {self._digests.request(client, request_id) for request_id in named}
        if not digests:
            return {}
        if self._writer.holds(digests):
            await self._writer.flush(_FLUSH_SECONDS)
        return await self._store.predictions_of(digests)

    async def _made(
        self,
        report: Report | JobcastError,
        client: str,
        predicted: Mapping[bytes, Sequence[PredictionRow]],
        read: Read,
    ) -> OutcomeRow:
        if isinstance(report, JobcastError):
            raise report
        now = self._now()
        finished_at = report.checked(now, self._days)
        prediction: PredictionRow | None = None
        if report.request_id is not None:
            known = predicted.get(self._digests.request(client, report.request_id), ())
            prediction = _chosen(known, None if report.job is None else self._digests.name(report.job))
            series, config = prediction.series, prediction.config
        else:
            identity = await _read(report, read)
            series, config = identity.series, identity.text
        if report.idempotency_key is not None:
            row_identity = self._digests.idempotency(client, report.idempotency_key)
        else:
            row_identity = self._digests.measured(series, finished_at, measured_text(report.measured))
        return OutcomeRow(
            row_identity, series, config, report.measured, report.complete, finished_at, now, prediction
        )

    def _counted(
        self, made: Sequence[_Made], added: Collection[bytes], compared: Sequence[Compared]
    ) -> list[Verdict | BaseException]:
        for held in compared:
            at_or_below = [
                quantile
                for quantile, value in zip(DEFAULT_QUANTILES, held.predicted, strict=True)
                if held.value <= value
            ]
            self._metrics.outcomes.compared(held.target, at_or_below)
        left = set(added)  # of equal ones in one call the first counts
        verdicts: list[Verdict | BaseException] = []
        for one in made:
            if isinstance(one, BaseException):
                if not isinstance(one, JobcastError):
                    log.error("internal_error", exc_info=one)
                verdicts.append(one)
                self._metrics.outcomes.reported("problem")
                continue
            verdict: Verdict = "accepted" if one.identity in left else "duplicate"
            left.discard(one.identity)
            verdicts.append(verdict)
            self._metrics.outcomes.reported(verdict)
        return verdicts


async def _read(report: Report, read: Read) -> Identity:
    """Whose outcome it is by its configuration: that job's, the workflow's, or the only job's."""
    assert report.kind is not None and report.config is not None
    ask = Ask(report.kind, report.config, report.job, report.context or {}, series=report.series, history=())
    unit = _whole((await read(ask)).all)
    assert unit.identity is not None
    return unit.identity


def _chosen(units: Sequence[PredictionRow], name: bytes | None) -> PredictionRow:
    """The unit of that name, a job before a workflow; without a name the workflow, or the only one."""
    if not units:
        raise UnknownRequest(
            "no prediction of this request id is known: not asked by this client, not yet written, or too old"
        )
    if name is not None:
        named = sorted(
            (unit for unit in units if name in unit.names), key=lambda unit: unit.scope == "workflow"
        )
        if not named:
            raise UnknownJob(f"no job of that name; the prediction had {len(units)}")
        return named[0]
    return _whole(units)


def _whole(units: Sequence[_Unit]) -> _Unit:
    """The workflow, or the only one. Raises UnknownJob."""
    whole = next((unit for unit in units if unit.scope == "workflow"), None)
    if whole is None and len(units) != 1:
        raise UnknownJob(f"the outcome is of one of {len(units)} jobs; say which with `job`")
    return whole or units[0]


def _unavailable() -> OutcomesUnavailable:
    return OutcomesUnavailable(
        "the outcome store cannot be reached; predictions go on without it",
        retry_after_seconds=_RETRY_SECONDS,
    )
