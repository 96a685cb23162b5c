"""The store as the service sees it: remember what was predicted, take what came of it, tell what was."""

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import structlog

from app.ask import DEFAULT_QUANTILES, quantile_key
from app.metrics import Metrics
from app.outcomes.database import START_SECONDS, Database, DatabaseDown
from app.outcomes.history import Histories
from app.outcomes.identity import Digests
from app.outcomes.reports import Reports
from app.outcomes.rows import quantiles_text
from app.outcomes.store import PRUNED_AT_A_TIME, OutcomeStore
from app.outcomes.urls import parsed_url
from app.outcomes.writer import Answered, PredictionWriter, Row
from app.unit import Unit, Units

log = structlog.get_logger()

_DAY = 86400.0
#: How often old rows are looked for, by whichever process comes first.
PRUNE_SECONDS = 3600.0
#: Between two batches of old rows: others write too.
_BREATH_SECONDS = 0.1
_FLUSH_SECONDS = 2.0
_KEYS = [quantile_key(quantile) for quantile in DEFAULT_QUANTILES]


class Outcomes:
    """The outcome store of one process."""

    def __init__(
        self,
        url: str,
        digests: Digests,
        metrics: Metrics,
        *,
        connections: int,
        timeout_seconds: float,
        days: int,
    ) -> None:
        self._database = Database(parsed_url(url), metrics.outcomes.database_up, connections=connections)
        self._store = OutcomeStore(self._database, connections=connections)
        self._writer = PredictionWriter(self._store, metrics)
        self._digests, self._days = digests, days
        self.histories = Histories(self._store, metrics, timeout_seconds=timeout_seconds)
        self.reports = Reports(
            self._database,
            self._store,
            self._writer,
            digests,
            metrics,
            days=days,
            forget=self.histories.forget,
        )
        self._pruning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the tables if they can be reached now; the service starts in either case."""
        await self._database.start()
        with contextlib.suppress(
            DatabaseDown
        ):  # the first of its kind takes longest: no request should wait for it
            await self._store.newest([b""], START_SECONDS)
        self._writer.start()
        self._pruning = asyncio.create_task(self._prune_now_and_then())

    async def close(self) -> None:
        """Write what is left to write, and let go of the database."""
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.gather(self._pruning, return_exceptions=True)
        await self._writer.close(_FLUSH_SECONDS if self._database.up else 0.0)
        await self._database.close()

    def remember(self, request_id: str, client: str, units: Units, answer: Mapping[str, Any]) -> None:
        """Put an answer of api.md into the writer's queue."""
        request, made_at = self._digests.request(client, request_id), time.time()
        told = [answer["workflow"]["direct"]] if units.workflow else []
        told += answer["predictions"]
        rows = partial(_rows, request, made_at, list(zip(units.all, told, strict=True)))
        self._writer.remember(Answered(request, len(told), rows))

    async def _prune_now_and_then(self) -> None:
        await asyncio.sleep(random.uniform(0, 60))
        while True:
            with contextlib.suppress(DatabaseDown):
                await self.prune()
            await asyncio.sleep(PRUNE_SECONDS * random.uniform(1, 1.1))

    async def prune(self) -> None:
        """Delete what is too old, unless another process has done so within the hour. Raises DatabaseDown."""
        now = time.time()
        if not await self._store.may_prune(now, PRUNE_SECONDS):
            return
        tables: tuple[Literal["predictions", "outcomes"], ...] = ("predictions", "outcomes")
        for table in tables:
            deleted = 0
            while (count := await self._store.prune(table, now - self._days * _DAY)) > 0:
                deleted += count
                if count < PRUNED_AT_A_TIME:
                    break
                await asyncio.sleep(_BREATH_SECONDS)
            if deleted:
                log.info("database_pruned", table=table, rows=deleted)


def _rows(request: bytes, made_at: float, told: Sequence[tuple[Unit, Mapping[str, Any]]]) -> list[Row]:
    """Columns of `schema.predictions`, a row per unit and what the client was told of it."""
    rows: list[Row] = []
    for unit, prediction in told:
        assert unit.identity is not None
        shown, *written = unit.identity.names
        rows.append(
            {
                "request": request,
                "made_at": made_at,
                "kind": unit.kind,
                "scope": unit.scope,
                "name": shown,
                "written_name": written[0] if written else None,
                "series": unit.identity.series,
                "config": unit.identity.text,
                "quantiles": quantiles_text(_at_default_quantiles(prediction)),
            }
        )
    return rows


def _at_default_quantiles(prediction: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Target -> what the client was told at the default quantiles, where it was told all of them."""
    targets = [name for name in prediction["support"] if name != "novelty"]
    told = {target: prediction[target] for target in targets}
    return {
        target: [values[key] for key in _KEYS]
        for target, values in told.items()
        if set(_KEYS) <= values.keys()
    }
