"""`make smoke`: the README's own request against a service started as the README says, and its answer checked."""

import json
import math
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("runtime_seconds", "peak_memory_bytes", "cpu_cores")
START_SECONDS = 120


def main() -> None:
    request = readme_request()
    port = free_port()
    command = [str(Path(sys.executable).parent / "jobcast"), "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as service:
        try:
            wait_until_ready(service, port)
            answers = [
                json.loads(
                    subprocess.check_output(["bash", "-c", request.replace(":8080", f":{port}")], cwd=ROOT)
                )
                for _ in range(2)
            ]
        finally:
            service.terminate()
    check(answers[0], expected_source="model")
    check(answers[1], expected_source="cache")
    print(f"smoke: {len(answers[0]['predictions'])} jobs predicted, then served from the cache")


def readme_request() -> str:
    """The first curl command of the README, its continuation lines included."""
    found = re.search(r"^curl (?:.*\\\n)*.*$", (ROOT / "README.md").read_text(), re.M)
    assert found, "the README shows no curl command"
    return "curl --silent --show-error --fail " + found.group().removeprefix("curl ")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(service: "subprocess.Popen[bytes]", port: int) -> None:
    for _ in range(START_SECONDS * 10):
        assert service.poll() is None, f"the service ended with status {service.returncode}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"the service was not ready after {START_SECONDS} s")


def check(answer: dict[str, object], *, expected_source: str) -> None:
    """Every unit has three targets with three ordered, finite, positive quantiles."""
    direct = answer["workflow"]["direct"]  # type: ignore[index]
    units = [direct, *answer["predictions"]]  # type: ignore[misc]
    assert len(units) == 5, f"expected the workflow and four jobs, got {len(units)} units"
    for unit in units:
        assert unit["source"] == expected_source, unit["source"]
        for target in TARGETS:
            quantiles = unit[target]
            assert list(quantiles) == ["0.1", "0.5", "0.9"], list(quantiles)
            values = list(quantiles.values())
            assert all(math.isfinite(value) and value > 0 for value in values), values
            assert values == sorted(values), values
            assert "trained" in unit["support"][target]
    assert direct["support"]["runtime_seconds"]["trained"]
    assert not direct["support"]["peak_memory_bytes"]["trained"]


if __name__ == "__main__":
    os.environ["no_proxy"] = "*"
    main()
