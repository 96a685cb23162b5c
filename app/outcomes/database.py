"""A database behind a breaker: everything asked of it ends within a time, whatever the database does.

A driver that is told to stop asks the server to stop too, and waits for its answer. What hangs is therefore left to end
by itself, beside the path of any request, and its connections are not used again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from app.breaker import Breaker
from app.outcomes import OtherVersion
from app.outcomes.schema import prepare
from app.outcomes.urls import engine_of

log = structlog.get_logger()

_Found = TypeVar("_Found")

#: For connecting, logging in and making the tables.
START_SECONDS = 2.0
#: Connections that are opened beforehand: for look-ups and whoever writes.
_READY = 3
#: For what hangs, once the process ends.
_LEAVE_SECONDS = 2.0
#: Under this a connection keeps how many failures there had been when it was opened.
_BEFORE = "failures"
#: Of PostgreSQL: connections, and a server that stops or starts. All other codes come from a server that answers.
_LOST = ("08", "57P")
#: Of SQLite: busy, read-only, full, constraint.
_REFUSED = frozenset({5, 8, 13, 19})


class DatabaseDown(Exception):
    """The database cannot be asked now, or did not do what it was asked for."""


class Database:
    """One process's connections. `start` is to be awaited before anything is asked.

    changed: is told whether the database may be asked.
    """

    def __init__(self, url: URL, changed: Callable[[bool], None], *, connections: int) -> None:
        self._engine = engine_of(url, connections=connections)
        self.sqlite = self._engine.dialect.name == "sqlite"
        self._breaker = Breaker(self._prepare, changed, what="database")
        self._tasks: set[asyncio.Future[Any]] = set()
        self._prepared = False
        self._failures = 0
        self._ready = min(connections, _READY)
        event.listen(self._engine.sync_engine, "do_connect", self._connecting)
        event.listen(self._engine.sync_engine, "checkin", self._returned)

    @property
    def up(self) -> bool:
        """Whether it may be asked."""
        return self._breaker.closed

    async def start(self) -> None:
        """Make the tables, or leave that for the moment when the database can be reached."""
        try:
            await self._prepare()
        except Exception as error:
            self._breaker.failed(error)

    async def close(self) -> None:
        """Let go of all connections; what hangs is given a moment."""
        await self._breaker.close()
        for _ in range(2):  # at first a driver tries to tell the server
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_LEAVE_SECONDS / 2)
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._engine.dispose()

    async def run(
        self, work: Callable[[AsyncConnection], Awaitable[_Found]], seconds: float, *, whole: bool = False
    ) -> _Found:
        """What the work finds, on a connection of its own. whole: all of its statements in one transaction.

        Raises DatabaseDown, after at most so many seconds.
        """
        if not self.up:
            raise DatabaseDown
        try:
            return await self._within(self._connected(work, whole=whole), seconds)
        except DatabaseDown:
            raise
        except Exception as error:
            if _refused(error):
                log.warning("database_refused", error=type(error).__name__)
            else:
                self._failed(error)
            raise DatabaseDown from None

    async def _connected(
        self, work: Callable[[AsyncConnection], Awaitable[_Found]], *, whole: bool
    ) -> _Found:
        failures = self._failures
        async with self._engine.connect() as connection:
            try:
                if whole:
                    async with connection.begin():
                        return await work(connection)
                # A statement without BEGIN and ROLLBACK around it is one way to the server instead of three.
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                return await work(connection)
            finally:
                if failures != self._failures:  # to roll back would be to ask a server that may hang
                    await connection.invalidate()

    async def _within(self, asking: Awaitable[_Found], seconds: float) -> _Found:
        task = asyncio.ensure_future(asking)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if done:
            return task.result()
        task.cancel()
        self._failed(TimeoutError())
        raise DatabaseDown

    async def _prepare(self) -> None:
        """Make the tables where there are none, and open connections: a look-up has no time for that."""

        async def check(connection: AsyncConnection) -> None:
            if not self._prepared:
                await prepare(connection)
                self._prepared = True
            await connection.execute(text("SELECT 1"))

        async def several(left: int) -> None:
            async def check_and_more(connection: AsyncConnection) -> None:
                await check(connection)
                if left > 1:  # while this one is taken
                    await several(left - 1)

            await self._connected(check_and_more, whole=False)

        await self._within(several(self._ready), START_SECONDS)

    def _failed(self, error: Exception) -> None:
        self._breaker.failed(error)
        self._failures += 1
        # What is connected now may be as dead; the next ones connect anew.
        pool = self._engine.sync_engine.pool
        self._engine.sync_engine.dispose(close=False)  # a new pool from here on
        closing = asyncio.ensure_future(greenlet_spawn(pool.dispose))
        self._tasks.add(closing)
        closing.add_done_callback(self._ended)

    def _connecting(self, _dialect: object, record: ConnectionPoolEntry, *_: object) -> None:
        record.info[_BEFORE] = self._failures

    def _returned(self, _connection: object, record: ConnectionPoolEntry) -> None:
        if record.info.get(_BEFORE) != self._failures:  # its pool is gone: nobody else would close it
            record.invalidate()

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not complain of what nobody waits for any more


async def check_version(url: URL) -> None:
    """Raises OtherVersion where the database can be reached and its tables are not ours to use."""
    database = Database(url, lambda _: None, connections=1)
    try:
        await database._prepare()
    except OtherVersion:
        raise
    except Exception:  # the service starts without it
        return
    finally:
        await database.close()


def _refused(error: Exception) -> bool:
    """Whether the database was reached and did not want the statement."""
    if not isinstance(error, DBAPIError) or error.connection_invalidated:
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return not state.startswith(_LOST)
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _REFUSED
