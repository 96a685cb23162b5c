"""The tables, and the version that they have. Several processes may start at once: one makes them, the others wait."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from app.outcomes import OtherVersion

#: Raised whenever the tables change.
VERSION = 1
#: Of the lock under which PostgreSQL makes the tables; any number that nobody else takes.
_LOCK = 0x6A6F62636173

metadata = MetaData()

#: One row. pruned_at: when old rows were last looked for, by whichever process came first.
schema = Table(
    "jobcast_schema",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("pruned_at", Double, nullable=False),
)


def _id() -> Column[int]:
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


#: A row per unit of an answer. request, name, written_name, series, config: digests (identity.py); made_at: seconds
#: since 1970, the same for all units of an answer; quantiles: JSON, target -> values at the default quantiles that no
#: outcome was held against yet.
predictions = Table(
    "jobcast_predictions",
    metadata,
    _id(),
    Column("request", LargeBinary, nullable=False),
    Column("made_at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("name", LargeBinary, nullable=False),
    Column("written_name", LargeBinary),
    Column("series", LargeBinary, nullable=False),
    Column("config", LargeBinary, nullable=False),
    Column("quantiles", Text, nullable=False),
    Index("jobcast_predictions_request", "request", "made_at"),
    Index("jobcast_predictions_made_at", "made_at"),
)

#: identity: of the idempotency key, or of what was measured; measured: JSON, target -> value in its unit.
outcomes = Table(
    "jobcast_outcomes",
    metadata,
    _id(),
    Column("identity", LargeBinary, nullable=False),
    Column("series", LargeBinary, nullable=False),
    Column("config", LargeBinary, nullable=False),
    Column("measured", Text, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("finished_at", Double, nullable=False),
    Column("received_at", Double, nullable=False),
    Index("jobcast_outcomes_identity", "identity", unique=True),
    Index("jobcast_outcomes_series", "series", "finished_at"),
    Index("jobcast_outcomes_finished_at", "finished_at"),
)


async def prepare(connection: AsyncConnection) -> None:
    """Make the tables where there are none. The connection is in autocommit. Raises OtherVersion."""
    if await connection.run_sync(_is_there):
        return
    sqlite = connection.dialect.name == "sqlite"
    await connection.execute(text("BEGIN IMMEDIATE" if sqlite else "BEGIN"))
    try:
        if not sqlite:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        if not await connection.run_sync(_is_there):
            await connection.run_sync(metadata.create_all)
            await connection.execute(insert(schema).values(version=VERSION, pruned_at=0.0))
    except BaseException:
        await connection.execute(text("ROLLBACK"))
        raise
    await connection.execute(text("COMMIT"))


def _is_there(connection: Connection) -> bool:
    """Whether our tables are there. Raises OtherVersion."""
    if not inspect(connection).has_table(schema.name):
        return False
    found = connection.execute(select(schema.c.version)).scalar()
    if found is not None and found != VERSION:
        raise OtherVersion(f"its tables have version {found}, and this release needs {VERSION}")
    return found is not None
