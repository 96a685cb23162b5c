"""Generators in processes of their own: Locust patches whatever imports it, and no load may take a service's time."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from loadtest.load.objectives import Measured, Run
from loadtest.load.scenarios import Mix
from loadtest.reliability.running import ROOT

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
#: Beside the seconds of the load: start, warm-up, answers that are still to come.
_PATIENCE_SECONDS = 180.0


class LoadFailed(RuntimeError):
    """A generator ended without figures."""


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
    arguments = [
        *(sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), "--headless", "--only-summary"),
        *("--host", url, "--scenario", scenario, "--mix", mix, "--seconds", str(seconds)),
        *("--users", str(clients), "--spawn-rate", str(clients), "--seed", str(seed)),
        *(["--loop", "closed"] if rate is None else ["--loop", "open", "--rate", str(rate)]),
        *(["--html", str(html.absolute())] if html else []),
        *more,
    ]
    return _run(lambda measured: [*arguments, "--measured", measured], seconds, core)


def run_open_loop(
    url: str, scenario: str, mix: Mix, seconds: float, *, rate: float, seed: int = 1, core: int | None = None
) -> Run:
    """The same load as Locust's open loop, by a generator that takes a quarter of Locust's time. Raises LoadFailed."""
    options = ("--scenario", scenario, "--mix", mix, "--seconds", str(seconds), "--rate", str(rate))
    start = (sys.executable, "-m", "loadtest.load.open_loop", url)
    return _run(lambda measured: [*start, measured, *options, "--seed", str(seed)], seconds, core)


def _run(command: Callable[[str], list[str]], seconds: float, core: int | None) -> Run:
    """command: from the file for its figures."""
    with TemporaryDirectory() as directory:
        measured = Path(directory) / "measured.json"
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        done = subprocess.run(
            [*pinned, *command(str(measured))],
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
