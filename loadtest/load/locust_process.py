"""Locust in a process of its own: it patches whatever imports it, and must not take the service's time."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.load.objectives import Measured, Run
from loadtest.load.scenarios import Mix
from loadtest.reliability.running import ROOT

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
#: Beside the seconds of the load: start, warm-up, answers that are still to come.
_PATIENCE_SECONDS = 180.0


class LoadFailed(RuntimeError):
    """Locust ended without figures."""


def run_locust(
    url: str,
    scenario: str,
    mix: Mix,
    seconds: float,
    *,
    rate: float | None = None,
    clients: int = 1,
    seed: int = 1,
    core: int | None = None,
    html: Path | None = None,
    more: Sequence[str] = (),
) -> Run:
    """One headless run. rate: of an open loop; None: a closed loop of so many clients.

    more: further options, such as objectives. Raises LoadFailed.
    """
    with TemporaryDirectory() as directory:
        measured = Path(directory) / "measured.json"
        command = [
            *(["taskset", "-c", str(core)] if core is not None else []),
            *(sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"),
            *("--host", url, "--scenario", scenario, "--mix", mix, "--seconds", str(seconds)),
            *("--users", str(clients), "--spawn-rate", str(clients), "--seed", str(seed)),
            *(["--loop", "closed"] if rate is None else ["--loop", "open", "--rate", str(rate)]),
            *(["--html", str(html.absolute())] if html else []),
            *("--measured", str(measured), *more),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds + _PATIENCE_SECONDS,
            check=False,
        )
        if not measured.exists():
            raise LoadFailed(done.stderr[-2000:])
        found = json.loads(measured.read_text())
        return Run(**{**found, "measured": Measured(**found["measured"])})
