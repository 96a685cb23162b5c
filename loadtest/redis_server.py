"""A real Redis on a port of its own that can be killed, frozen, flushed and started again."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from redis import Redis
from redis.exceptions import RedisError

from loadtest.ports import free_port

#: Why a test that needs it is skipped; empty where it is there.
MISSING = "" if shutil.which("redis-server") else "redis-server is not installed"


class RedisServer:
    """One process; options: as on redis-server's command line. With a configuration file it is a Sentinel."""

    def __init__(
        self, directory: Path, options: Sequence[str] = (), *, configuration: Path | None = None
    ) -> None:
        self.port = free_port()
        self._command = [
            *("redis-server", *([str(configuration)] if configuration else ())),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory), "--daemonize", "no"),
            *(("--sentinel",) if configuration else ("--save", "", "--appendonly", "no")),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("redis-server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: whoever is connected sees a reset, whoever connects is refused."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Killed, and started again, empty."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        """A client of the tests' own."""
        return Redis(port=self.port)

    def flush(self) -> None:
        """Lose everything."""
        with self.client() as client:
            client.flushall()

    def contents(self) -> dict[bytes, bytes]:
        """All keys with their values."""
        with self.client() as client:
            return {key: client.get(key) or b"" for key in client.scan_iter("*", 1000)}


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running one, gone with all its files after the block."""
    with TemporaryDirectory() as directory:
        server = RedisServer(Path(directory), options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def wait_for(condition: str, client: Redis, seconds: float = 15.0) -> None:
    """Wait until a line of `INFO` or `CLUSTER INFO` reads so. Raises RuntimeError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            told = client.info() | client.cluster("info") if "cluster" in condition else client.info()
        except RedisError:
            told = {}
        if condition in {f"{name}:{value}" for name, value in told.items()}:
            return
        time.sleep(0.05)
    raise RuntimeError(f"Redis never came to {condition}")


def _listens(port: int) -> bool:
    with socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex(("127.0.0.1", port)) == 0
