"""The statements. None of them sees anything of a job but digests."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal, TypeVar

import orjson
from sqlalchemy import bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.outcomes.database import Database, DatabaseDown
from app.outcomes.rows import (
    Compared,
    OutcomeRow,
    PastRow,
    PredictionRow,
    measured_text,
    quantiles_text,
)
from app.outcomes.schema import outcomes, predictions, schema

_Found = TypeVar("_Found")

#: Past runs of one series that are looked up, newest first.
MOST_RUNS = 20
#: Queries for past runs at a time.
LOOK_UPS = 2
#: How long an outcome, or a batch of predictions, may take.
WRITE_SECONDS = 2.0
#: Rows deleted at a time.
PRUNED_AT_A_TIME = 500

#: PostgreSQL: one way down the index per series.
_NEWEST_POSTGRESQL = text(
    "SELECT wanted.series, past.config, past.measured, past.complete, past.finished_at "
    "FROM unnest(CAST(:series AS bytea[])) AS wanted(series) CROSS JOIN LATERAL ("
    "SELECT config, measured, complete, finished_at FROM jobcast_outcomes "
    f"WHERE series = wanted.series ORDER BY finished_at DESC LIMIT {MOST_RUNS}) AS past"
)
#: SQLite has no LATERAL; the rows of its inner query are looked up by their ids.
_NEWEST_SQLITE = (
    "WITH wanted(series) AS (VALUES {places}) "
    "SELECT past.series, past.config, past.measured, past.complete, past.finished_at FROM wanted "
    "CROSS JOIN jobcast_outcomes AS past ON past.id IN ("
    "SELECT id FROM jobcast_outcomes WHERE series = wanted.series "
    f"ORDER BY finished_at DESC LIMIT {MOST_RUNS})"
)


class OutcomeStore:
    """What is asked of one database. Everything raises DatabaseDown."""

    def __init__(self, database: Database, *, connections: int) -> None:
        self._database = database
        #: However much is reported at a time, look-ups find a connection.
        self._turns = asyncio.Semaphore(max(1, connections - LOOK_UPS))
        self._insert = sqlite.insert if database.sqlite else postgresql.insert

    async def remember(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert predictions, mappings of the table's columns."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(predictions), rows)

        await self._in_turn(work, whole=True)

    async def predictions_of(self, requests: Collection[bytes]) -> dict[bytes, list[PredictionRow]]:
        """The units of the newest answer to each request that is known."""
        newest = (
            select(predictions.c.request, func.max(predictions.c.made_at).label("made_at"))
            .where(predictions.c.request.in_(list(requests)))
            .group_by(predictions.c.request)
            .subquery()
        )
        same = (predictions.c.request == newest.c.request) & (predictions.c.made_at == newest.c.made_at)
        statement = select(predictions).join(newest, same).order_by(predictions.c.id)

        async def work(connection: AsyncConnection) -> dict[bytes, list[PredictionRow]]:
            found: dict[bytes, list[PredictionRow]] = defaultdict(list)
            for row in await connection.execute(statement):
                names = (bytes(row.name),) + ((bytes(row.written_name),) if row.written_name else ())
                found[bytes(row.request)].append(
                    PredictionRow(
                        row.id,
                        row.scope,
                        names,
                        bytes(row.series),
                        bytes(row.config),
                        orjson.loads(row.quantiles),
                    )
                )
            return found

        return await self._in_turn(work)

    async def add(self, rows: Collection[OutcomeRow]) -> tuple[set[bytes], list[Compared]]:
        """Keep the outcomes that are new; their identities, and what was held against predictions."""
        # In one order, whatever the client's: two transactions must not wait for each other.
        ordered = sorted(rows, key=lambda row: row.identity)
        statement = (
            self._insert(outcomes)
            .on_conflict_do_nothing(index_elements=["identity"])
            .returning(outcomes.c.identity)
        )
        values = [_columns(row) for row in ordered]

        async def work(connection: AsyncConnection) -> tuple[set[bytes], list[Compared]]:
            added = {bytes(identity) for identity in (await connection.execute(statement, values)).scalars()}
            held: dict[int, tuple[PredictionRow, dict[str, float]]] = {}
            for row in rows:
                if row.prediction is not None and row.complete and row.identity in added:
                    _, measured = held.setdefault(row.prediction.id, (row.prediction, {}))
                    measured.update({**row.measured, **measured})  # the first of a target counts
            compared: list[Compared] = []
            for _, (prediction, measured) in sorted(held.items()):
                compared += await _compare(connection, prediction, measured)
            return added, compared

        return await self._in_turn(work, whole=True)

    async def newest(self, series: Collection[bytes], seconds: float) -> dict[bytes, list[PastRow]]:
        """At most MOST_RUNS outcomes of each series, newest first, in one query; nothing for a series without any."""
        wanted = list(series)
        if self._database.sqlite:
            places = ", ".join(f"(:s{place})" for place in range(len(wanted)))
            statement = text(_NEWEST_SQLITE.format(places=places))
            given: dict[str, object] = {f"s{place}": one for place, one in enumerate(wanted)}
        else:
            statement, given = _NEWEST_POSTGRESQL, {"series": wanted}

        async def work(connection: AsyncConnection) -> dict[bytes, list[PastRow]]:
            found: dict[bytes, list[PastRow]] = defaultdict(list)
            for one, config, measured, complete, finished_at in await connection.execute(statement, given):
                run = PastRow(bytes(config), orjson.loads(measured), bool(complete), finished_at)
                found[bytes(one)].append(run)
            for runs in found.values():
                runs.sort(key=lambda run: -run.finished_at)
            return found

        return await self._database.run(work, seconds)

    async def may_prune(self, now: float, every_seconds: float) -> bool:
        """Whether it is this process's turn to delete what is old; asking takes the turn."""
        statement = update(schema).where(schema.c.pruned_at < now - every_seconds).values(pruned_at=now)

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).rowcount > 0

        return await self._in_turn(work)

    async def prune(self, what: Literal["predictions", "outcomes"], before: float) -> int:
        """Delete at most PRUNED_AT_A_TIME rows that are older, the oldest first; how many there were."""
        table, age = (
            (predictions, predictions.c.made_at)
            if what == "predictions"
            else (outcomes, outcomes.c.finished_at)
        )
        old = select(table.c.id).where(age < before).order_by(age).limit(PRUNED_AT_A_TIME)
        statement = delete(table).where(table.c.id.in_(old))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._in_turn(work)

    async def _in_turn(
        self, work: Callable[[AsyncConnection], Awaitable[_Found]], *, whole: bool = False
    ) -> _Found:
        """Do it within WRITE_SECONDS of its turn, for which it waits as long."""
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await self._turns.acquire()
        except TimeoutError:  # the database is busy, and no worse
            raise DatabaseDown from None
        try:
            return await self._database.run(work, WRITE_SECONDS, whole=whole)
        finally:
            self._turns.release()


def _columns(row: OutcomeRow) -> dict[str, object]:
    return {
        "identity": row.identity,
        "series": row.series,
        "config": row.config,
        "measured": measured_text(row.measured),
        "complete": row.complete,
        "finished_at": row.finished_at,
        "received_at": row.received_at,
    }


#: The row goes on with what was not compared yet, unless somebody else was here meanwhile.
_TAKE = (
    update(predictions)
    .where(predictions.c.id == bindparam("of"), predictions.c.quantiles == bindparam("seen"))
    .values(quantiles=bindparam("left"))
)


async def _compare(
    connection: AsyncConnection, prediction: PredictionRow, measured: Mapping[str, float]
) -> list[Compared]:
    """Once per prediction and target, whatever processes are told of it."""
    predicted = prediction.quantiles
    compared = [
        Compared(target, value, predicted[target])
        for target, value in measured.items()
        if target in predicted
    ]
    if not compared:
        return []
    left = {target: values for target, values in predicted.items() if target not in measured}
    seen = {"of": prediction.id, "seen": quantiles_text(predicted), "left": quantiles_text(left)}
    return compared if (await connection.execute(_TAKE, seen)).rowcount else []
