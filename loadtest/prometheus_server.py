"""A real Prometheus on a port of its own, asked over HTTP."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loadtest.ports import free_port

#: Why a test that needs it is skipped; empty where it is there.
MISSING = "" if shutil.which("prometheus") and shutil.which("promtool") else "prometheus is not installed"
_START_SECONDS = 60.0


class PrometheusServer:
    """One that runs; times are Unix seconds."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query: `metric` and `value` of each. Raises ValueError with what is wrong."""
        found: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return found

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """The exemplars of the series in an expression."""
        found: list[dict[str, Any]] = self._get("query_exemplars", query=expression, start=start, end=end)
        return found

    def _get(self, what: str, **parameters: object) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None


@contextmanager
def prometheus_server(configuration: str) -> Iterator[PrometheusServer]:
    """A running one with this configuration file, gone with its data after the block. Raises RuntimeError."""
    with TemporaryDirectory() as directory:
        file = Path(directory) / "prometheus.yml"
        file.write_text(configuration)
        port = free_port()
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=error",
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            try:
                _wait_until_ready(process, port)
                yield PrometheusServer(port)
            finally:
                process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
                return
        except OSError:
            if process.poll() is not None:
                assert process.stderr
                raise RuntimeError(process.stderr.read().decode(errors="replace")) from None
            if time.monotonic() > until:
                raise RuntimeError("prometheus did not start") from None
            time.sleep(0.05)
