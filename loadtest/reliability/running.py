"""A service in a process of its own, started as a user starts it, and what can be seen of it from outside."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from loadtest.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 120.0


@dataclass
class RunningService:
    """A started service; `log` holds all that it wrote to stdout and stderr."""

    process: subprocess.Popen[bytes]
    port: int
    log: IO[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def alive(self) -> bool:
        return self.process.poll() is None

    def logged(self) -> str:
        """Everything written so far."""
        return os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size, 0).decode(errors="replace")

    def resident_bytes(self) -> int:
        """Of the process and of those that it started."""
        return sum(_resident(pid) for pid in _family(self.process.pid))

    def open_files(self) -> int:
        """File descriptors of the same processes."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in _family(self.process.pid))

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET; status 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def stand_still(self, seconds: float) -> None:
        """Keep it from working for a while."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def metric(self, name: str) -> float:
        """The sum of a series over all its labels; 0 where it is not there."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines())
        return sum(float(value) for labelled, _, value in lines if labelled.partition("{")[0] == name)

    def wait_until_ready(self, seconds: float = _START_SECONDS) -> None:
        """Raises RuntimeError where that never comes."""
        until = time.monotonic() + seconds
        while self.get("/health/ready")[0] != 200:
            if not self.alive() or time.monotonic() > until:
                raise RuntimeError(f"the service did not become ready:\n{self.logged()[-2000:]}")
            time.sleep(0.05)

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, and the exit status."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def running_service(
    settings: Mapping[str, object] | None = None,
    *,
    port: int | None = None,
    core: int | None = None,
    wait: bool = True,
    module: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningService]:
    """`jobcast serve` on loopback, or another module that takes --port.

    settings: without their prefix JOBCAST_; core: the only one that it may use; environment: beside the settings.
    """
    chosen = port or free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("JOBCAST_")}
    variables |= environment or {}
    variables |= {f"JOBCAST_{name.upper()}": str(value) for name, value in (settings or {}).items()}
    program = [module] if module else ["app.cli", "serve"]
    command = [sys.executable, "-m", *program, "--port", str(chosen)]
    if core in os.sched_getaffinity(0):  # a test may have been given another one
        command = ["taskset", "-c", str(core), *command]
        variables["OMP_NUM_THREADS"] = "1"
    with TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT)
        service = RunningService(process, chosen, log)
        try:
            if wait:
                service.wait_until_ready()
            yield service
        finally:
            if service.alive():
                process.send_signal(signal.SIGCONT)
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is walked
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
