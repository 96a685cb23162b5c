"""The lean open loop: it keeps the schedule of Locust's, counts what fails, and takes a small part of Locust's time."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, cycle
from pathlib import Path

import pytest

from loadtest.load.generators import LoadFailed, run_open_loop
from loadtest.load.scenarios import schedule
from loadtest.reliability.running import ROOT, RunningService, running_service


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service({"engine": "fake", "log_level": "warning"}) as started:
        yield started


def test_every_request_of_the_schedule_is_sent_and_counted(service: RunningService) -> None:
    found = run_open_loop(service.url, "burst", "hot", 3, rate=60, seed=3)
    planned = schedule("burst", "hot", 60, 3, 3)
    run = found.measured
    assert run.requests == len(planned) == len(found.due)
    assert sorted(due - found.began for due in found.due) == pytest.approx([one.seconds for one in planned])
    assert run.errors == 0
    assert 0 < run.p50 <= run.p95 <= run.p99
    assert 0 < run.client_seconds < 0.01


def test_a_standstill_is_in_the_times_of_all_that_were_due(service: RunningService) -> None:
    def stand_still() -> None:
        time.sleep(3.0)  # whenever it has begun: the load goes on for longer
        service.stand_still(1.5)

    thread = threading.Thread(target=stand_still)
    thread.start()
    try:
        run = run_open_loop(service.url, "steady", "cold", 8, rate=25, seed=4).measured
    finally:
        thread.join()
    assert run.errors == 0
    assert run.p95 > 500  # one in six came meanwhile, each from the moment it was due


@contextmanager
def _listener(answer: bytes, *more: bytes) -> Iterator[str]:
    """A server that says one thing to its first hundred requests, and then these in turn."""
    said = chain([answer] * 100, cycle(more or [answer]))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=speak, args=(connection,), daemon=True).start()

        def speak(connection: socket.socket) -> None:
            with connection:
                while connection.recv(65536):
                    connection.sendall(now := next(said))
                    if b"close" in now:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_a_service_that_hangs_up_after_each_answer_gets_new_connections() -> None:
    with _listener(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}") as url:
        run = run_open_loop(url, "steady", "hot", 2, rate=150).measured
    assert run.errors == 0
    assert run.requests > 200  # more than it opens beforehand


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\n{}",
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{}",
    ],
)
def test_what_is_no_answer_fails_the_run_at_its_warm_up(answer: bytes) -> None:
    with _listener(answer) as url, pytest.raises(LoadFailed, match="does not answer"):
        run_open_loop(url, "steady", "cold", 1, rate=20)


def test_failures_are_counted_by_status() -> None:
    well, refused = (b"HTTP/1.1 %d Status\r\nContent-Length: 2\r\n\r\n{}" % status for status in (200, 429))
    hung_up = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{}"
    with _listener(well, refused, hung_up, well) as url:
        run = run_open_loop(url, "steady", "cold", 3, rate=100).measured
    assert set(run.failures) == {"429", "0"}
    assert run.failures["429"] == pytest.approx(run.failures["0"], abs=1)
    assert run.requests == pytest.approx(run.offered * 3)
    assert run.errors == pytest.approx(sum(run.failures.values()) / run.requests)


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        ("http://192.0.2.1", [], "not this machine"),
        ("http://127.0.0.1:1", ["--rate", "1e9"], "--rate"),
        ("http://127.0.0.1:1", ["--mix", "lukewarm"], "--mix"),
    ],
)
def test_what_must_not_be_loaded_is_refused(url: str, options: list[str], told: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "loadtest.load.open_loop",
        url,
        str(tmp_path / "measured.json"),
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "measured.json").exists()
