"""A load run that is stopped takes the service that it started with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

from loadtest.reliability.running import ROOT


def services(pid: int) -> list[int]:
    """The child processes that serve."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [child for task in tasks for child in task.read_text().split()]
    return [int(child) for child in children if "app.cli" in Path(f"/proc/{child}/cmdline").read_text()]


def test_sigterm_stops_the_service_of_a_load_run_too() -> None:
    command = [sys.executable, "-m", "loadtest.load", "knee", "--first", "0.1"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (started := services(run.pid)) and time.monotonic() < until:
            assert run.poll() is None
            time.sleep(0.05)
        (service,) = started
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 128 + signal.SIGTERM
        assert not Path(f"/proc/{service}").exists()
    finally:
        run.kill()
