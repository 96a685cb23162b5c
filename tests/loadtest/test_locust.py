"""Locust itself, against the running service: what it counts, when it fails, what it refuses to load."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from loadtest.load.generators import LoadFailed, run_locust
from loadtest.reliability.running import ROOT, RunningService, running_service

# It must not be imported here: it patches the standard library.
pytestmark = pytest.mark.skipif(
    find_spec("locust") is None, reason="Locust is not installed: pip install 'jobcast[load]'"
)


@pytest.fixture(scope="module")
def service() -> Iterator[RunningService]:
    with running_service({"engine": "fake", "log_level": "warning"}) as started:
        yield started


def test_an_open_loop_keeps_its_schedule_and_leaves_a_report(service: RunningService, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    found = run_locust(service.url, "steady", "hot", 3, rate=20, html=html)
    run = found.measured
    assert len(found.due) == len(found.milliseconds) == run.requests
    assert all(0 < due - found.began < 3 for due in found.due)
    assert run.errors == 0
    assert run.requests == pytest.approx(run.offered * 3)
    assert 0 < run.p50 <= run.p95 <= run.p99
    assert "steady hot" in html.read_text()


def test_an_open_loop_shows_a_standstill_that_a_closed_loop_hides(service: RunningService) -> None:
    warm_up = 20

    def predictions() -> float:
        lines = service.get("/metrics")[1].splitlines()
        named = [line for line in lines if line.startswith("jobcast_requests_total") and '"/predict"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in named)

    def p95(*, rate: float | None = None) -> float:
        before = predictions()

        def stand_still() -> None:
            while predictions() < before + warm_up + 30:  # Locust starts at its own pace
                time.sleep(0.05)
            service.stand_still(1.5)

        thread = threading.Thread(target=stand_still)
        thread.start()
        try:
            seed = 4 if rate else 5
            return run_locust(service.url, "steady", "cold", 6, rate=rate, seed=seed).measured.p95
        finally:
            thread.join()

    opened, closed = p95(rate=25.0), p95()
    assert opened > 500  # a quarter of all came while it stood still
    assert closed < opened / 2


def test_a_service_that_does_not_answer_fails_the_run() -> None:
    with pytest.raises(LoadFailed):
        run_locust("http://127.0.0.1:1", "steady", "hot", 2, rate=5)


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        (["--host", "http://192.0.2.1"], 2, "not this machine"),
        (["--seconds", "2", "--objective-p50", "0.001"], 1, "missed: p50"),
        (["--seconds", "2", "--objective-p50", "10000"], 0, ""),
    ],
)
def test_limits_and_objectives_decide_the_exit_status(
    service: RunningService, options: list[str], status: int, told: str
) -> None:
    command = [sys.executable, "-m", "locust", "-f", "loadtest/load/locustfile.py", "--headless"]
    given = options if "--host" in options else ["--host", service.url, *options]
    done = subprocess.run(
        [*command, "--mix", "cold", "--rate", "5", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    assert told in done.stderr
