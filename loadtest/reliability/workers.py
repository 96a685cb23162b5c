"""Two workers, one of which is killed while eight clients ask."""

import http.client
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.ports import free_port
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

CLIENTS = 8
#: Clients wait between requests: what is measured is who fails, not how much two cores can do.
_PAUSE_SECONDS = 0.01


@dataclass
class Load:
    """What the clients met; `failed` holds the moments (monotonic seconds) of requests without an answer of 200."""

    answered: int = 0
    failed: list[float] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_until_stopped(self, port: int) -> None:
        """Each request on a connection of its own, so that any worker may take it."""
        place = 0
        while not self.stop.is_set():
            place += 1
            status = _ask(port, f"make {place % 200}")
            with self.lock:
                if status == 200:
                    self.answered += 1
                else:
                    self.failed.append(time.monotonic())
            time.sleep(_PAUSE_SECONDS)


def run(seconds: float = 30.0) -> bool:
    """Half of the time before the kill, half after it."""
    metrics_port = free_port()
    settings = {"engine": "fake", "workers": 2, "metrics_port": metrics_port, "log_level": "info"}
    with running_service(settings) as service:
        _wait_for_engines(service, 2)
        load = Load()
        threads = [
            threading.Thread(target=load.ask_until_stopped, args=(service.port,)) for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        killed_at = time.monotonic()
        os.kill(_workers(service)[0], signal.SIGKILL)
        _wait_for_engines(service, 3)
        whole_again = time.monotonic() - killed_at
        time.sleep(seconds / 2)
        load.stop.set()
        for thread in threads:
            thread.join()
        time.sleep(0.5)
        counted = _value(metrics_port, 'jobcast_requests_total{code="200",method="POST",route="/predict"}')
        directory = _series_directory(_workers(service)[0])
        status = service.stop()
        left = len(list(directory.parent.glob(directory.name)))
    before = sum(moment < killed_at for moment in load.failed)
    late = sum(moment > killed_at + 1.0 for moment in load.failed)
    return save(
        "workers",
        f"{CLIENTS} clients ask two workers over an engine without weights, a connection for each request; one worker "
        "is killed (SIGKILL) half-way.",
        [
            Bound("requests that failed before the kill", before, at_most=0),
            Bound("requests that failed with the killed worker", len(load.failed) - before, at_most=CLIENTS),
            Bound("requests that failed later than a second after the kill", late, at_most=0),
            Bound("seconds until both workers were ready again", whole_again, at_most=60, unit="s"),
            Bound(
                "answers that /metrics does not count, or counts twice",
                abs(counted - load.answered),
                at_most=1,
            ),
            Bound("exit status after SIGTERM", status, at_most=0, at_least=0),
            Bound("directories of metrics left behind", left, at_most=0),
        ],
        {"requests answered": load.answered},
    )


def _ask(port: int, text: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/predict?kind=text", text.encode(), {"Content-Type": "text/plain"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _scrape(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _value(port: int, series: str) -> float:
    for line in _scrape(port).splitlines():
        if line.startswith(f"{series} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def _wait_for_engines(service: RunningService, count: int) -> None:
    """Until so many have started since the beginning."""
    until = time.monotonic() + 120
    while service.logged().count('"engine_ready"') < count:
        if time.monotonic() > until:
            raise RuntimeError("the workers did not become ready")
        time.sleep(0.1)


def _workers(service: RunningService) -> list[int]:
    tasks = Path(f"/proc/{service.process.pid}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def _series_directory(worker: int) -> Path:
    environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (found,) = [entry for entry in environment if entry.startswith(b"PROMETHEUS_MULTIPROC_DIR=")]
    return Path(os.fsdecode(found.partition(b"=")[2]))
