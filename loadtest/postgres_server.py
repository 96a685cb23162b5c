"""A real PostgreSQL on a port of its own that can be killed, frozen and started again.

From Debian's package. It refuses to run as root: then it runs as nobody.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from loadtest.ports import free_port

USER, PASSWORD, DATABASE = "jobcast", "correct-horse-4711", "jobcast"

_PROGRAMS = max(
    Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None
)
#: Why a test that needs it is skipped; empty where it is there.
MISSING = "" if _PROGRAMS and (_PROGRAMS / "initdb").exists() else "PostgreSQL is not installed"
#: Nothing here outlives a crash of the machine, and none of it is as large as what a server expects.
_OPTIONS = (
    *("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60", "autovacuum=off"),
    *("listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off"),
)


class PostgresServer:
    """One server with its files in a directory, which becomes its own."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._data = directory / "data"
        self._as: dict[str, Any] = (
            {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._process: subprocess.Popen[bytes] | None = None
        password = directory / "password"
        password.write_text(PASSWORD)
        if self._as:
            import pwd

            owner = pwd.getpwnam("nobody")
            for path in (directory, password):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", USER, "--pwfile", str(password)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"),
        )

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        # What a killed server left would be taken for one that runs, should its number be in use again.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        options = [word for option in (*_OPTIONS, f"port={self.port}") for word in ("-c", option)]
        assert _PROGRAMS
        self._process = subprocess.Popen(
            [str(_PROGRAMS / "postgres"), "-D", str(self._data), *options],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as,
        )
        until = time.monotonic() + 30
        while True:
            try:
                self.ask("SELECT 1", database="postgres")
                break
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("PostgreSQL did not start") from None
                time.sleep(0.02)
        if not self.ask(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'", database="postgres"):
            self.ask(f"CREATE DATABASE {DATABASE}", database="postgres")

    def kill(self) -> None:
        """SIGKILL, to all of its processes: whoever is connected sees a reset, whoever connects is refused."""
        assert self._process
        for pid in self._family():
            _send(pid, signal.SIGKILL)
        self._process.wait()

    def restart(self) -> None:
        """Killed, and started again; what was committed is there."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP, to all of its processes: connections stay, nothing is answered."""
        for pid in self._family():
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        for pid in self._family():
            _send(pid, signal.SIGCONT)

    def ask(
        self, statement: str, parameters: Sequence[object] = (), *, database: str = DATABASE
    ) -> list[tuple[Any, ...]]:
        """The rows of one statement, over a connection of the tests' own."""
        login: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        with psycopg.connect(**login, dbname=database, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def contents(self) -> bytes:
        """Every row of every table of ours, as text."""
        tables = self.ask("SELECT tablename FROM pg_tables WHERE tablename LIKE 'jobcast%'")
        rows = [self.ask(f"SELECT t::text FROM {name} AS t") for (name,) in tables]
        return "\n".join(text for found in rows for (text,) in found).encode()

    def _family(self) -> list[int]:
        assert self._process
        found = [self._process.pid]
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return found + ([int(pid) for pid in children.read_text().split()] if children.exists() else [])

    def _run(self, program: str, *arguments: str) -> None:
        assert _PROGRAMS
        subprocess.run(
            [str(_PROGRAMS / program), *arguments], cwd="/", check=True, capture_output=True, **self._as
        )


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running one, gone with all its files after the block."""
    with tempfile.TemporaryDirectory() as directory:
        server = PostgresServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
