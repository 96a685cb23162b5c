"""What a run has done so far, in a SQLite file beside its output: how far it came, and where which answer stands.

A transaction per window, after the window's bytes are on the disk: whatever ends the process, and even the machine, the
ledger never promises more than the output holds. One process at a time has it.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from app.startup import ConfigurationError

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS run (fingerprint TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS progress (
        one INTEGER PRIMARY KEY, windows INTEGER, records INTEGER, requests INTEGER, problems INTEGER,
        position INTEGER, bytes INTEGER, complete INTEGER);
    CREATE TABLE IF NOT EXISTS answers (
        key BLOB PRIMARY KEY, begins INTEGER NOT NULL, length INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Progress:
    """How far a run came. requests: different ones; position: in the input; bytes: of the output;
    complete: whether all is written, 0 or 1.
    """

    windows: int = 0
    records: int = 0
    requests: int = 0
    problems: int = 0
    position: int = 0
    bytes: int = 0
    complete: int = 0


class Ledger:
    """Of one run, told by its fingerprint. Raises ConfigurationError where the file is another run's, or in use."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        try:
            self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.OperationalError:
            raise ConfigurationError(f"{path.name} cannot be made where the output shall be") from None
        try:
            # Held until the end of the process, however it ends.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            found = self._database.execute("SELECT fingerprint FROM run").fetchone()
            if found is None:
                self._database.execute("INSERT INTO run VALUES (?)", (fingerprint,))
            self._database.execute("COMMIT")
        except sqlite3.OperationalError:
            self._database.close()
            raise ConfigurationError(f"another process works on {path.name}") from None
        except sqlite3.DatabaseError:
            self._database.close()
            raise ConfigurationError(
                f"{path.name} is no ledger of a run; remove it, or --overwrite"
            ) from None
        if found is not None and found[0] != fingerprint:
            self._database.close()
            raise ConfigurationError(
                f"{path.name} belongs to a run with another input, checkpoint or settings; go on with those, "
                "or --overwrite"
            )

    @property
    def progress(self) -> Progress:
        """As of the last commit."""
        columns = "windows, records, requests, problems, position, bytes, complete"
        found = self._database.execute(f"SELECT {columns} FROM progress").fetchone()
        return Progress(*found) if found else Progress()

    def place(self, key: bytes) -> tuple[int, int] | None:
        """Where in the output an answer begins, and its length."""
        found: tuple[int, int] | None = self._database.execute(
            "SELECT begins, length FROM answers WHERE key = ?", (key,)
        ).fetchone()
        return found

    def commit(self, progress: Progress, places: Iterable[tuple[bytes, int, int]] = ()) -> None:
        """All of it or nothing. places: key, begin, length."""
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany("INSERT INTO answers VALUES (?, ?, ?)", places)
            self._database.execute(
                "INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?, ?, ?, ?, ?)", astuple(progress)
            )

    def close(self) -> None:
        """Let another process have it."""
        self._database.close()
