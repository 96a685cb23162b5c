"""Which databases there are: PostgreSQL by URL, or SQLite in a file of this machine."""

import os
import stat
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from app.outcomes import InvalidDatabaseUrl

#: How long a write waits for another process that writes to the same file.
_BUSY_SECONDS = 1.0
#: What every database of SQLite begins with.
_SQLITE = b"SQLite format 3\0"
_OWNER_ONLY = stat.S_IRUSR | stat.S_IWUSR


def parsed_url(text: str) -> URL:
    """The URL with the driver that we use. Raises InvalidDatabaseUrl."""
    try:
        url = make_url(text)
        url.port  # noqa: B018
    except (SQLAlchemyError, ValueError):
        raise InvalidDatabaseUrl("is not the URL of a database") from None
    if url.drivername == "postgresql":
        if not url.host or not url.database:
            raise InvalidDatabaseUrl(
                "must name a host and a database: postgresql://user:password@host:5432/name"
            )
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite":
        if url.host or not url.database or url.database == ":memory:" or url.query:
            raise InvalidDatabaseUrl("must name a file and nothing else: sqlite:///path/to/file.db")
        if not Path(url.database).absolute().parent.is_dir():
            raise InvalidDatabaseUrl("the directory of the file does not exist")
        return url.set(drivername="sqlite+aiosqlite")
    raise InvalidDatabaseUrl("must begin with postgresql:// or sqlite:///")


def check_file(url: URL) -> None:
    """Raises InvalidDatabaseUrl where SQLite shall write into a file that is something else.

    Before anything is connected: to close the file again would give up the locks of this process's connections.
    """
    path = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not path.exists():
        return
    try:
        with path.open("rb") as file:
            begins = file.read(len(_SQLITE))
    except OSError as error:
        raise InvalidDatabaseUrl(f"the file cannot be read: {type(error).__name__}") from None
    if begins not in (b"", _SQLITE):
        raise InvalidDatabaseUrl("the file is there and no database of SQLite")


def engine_of(url: URL, *, connections: int) -> AsyncEngine:
    """An engine that has not connected yet; every statement is a transaction of its own unless one is begun."""
    sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"timeout": _BUSY_SECONDS} if sqlite else {"application_name": "jobcast"}
    engine = create_async_engine(
        url,
        connect_args=arguments,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
    )
    if sqlite:
        _prepare_connections(engine, Path(url.database or ""))
    return engine


def _prepare_connections(engine: AsyncEngine, path: Path) -> None:
    @event.listens_for(engine.sync_engine, "do_connect")
    def private(*_: object) -> None:
        # Before SQLite makes it with the permissions of the day; its -wal and -shm take over those of the file.
        # One that is there must not be opened: to close it would give up the locks of our other connections.
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY))
        except FileExistsError:
            if stat.S_IMODE(path.stat().st_mode) != _OWNER_ONLY:
                path.chmod(_OWNER_ONLY)

    @event.listens_for(engine.sync_engine, "connect")
    def many_readers(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()
