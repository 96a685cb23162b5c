"""Ray Data gives the bytes that one machine gives: on a Ray of this machine, with real actors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: make test-ray")

ROOT = Path(__file__).resolve().parents[2]


def test_ray_writes_the_same_bytes(tmp_path: Path, stored: Path) -> None:
    """In processes of their own: Ray leaves threads and warnings behind that are none of ours."""
    source = tmp_path / "in.jsonl"
    requests = [{"id": n, "kind": "text", "config": f"make target-{n * 7 % 300}"} for n in range(400)]
    source.write_text("".join(f"{json.dumps(one)}\n" for one in requests) + "{broken\n")

    def score(output: str, *options: str) -> bytes:
        words = ["batch", str(source), str(tmp_path / output), "--readers", "1", *options]
        environment = {**os.environ, "JOBCAST_CHECKPOINT": str(stored), "JOBCAST_ENGINE": "fake"}
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words], cwd=ROOT, env=environment, check=False
        )
        assert done.returncode == 3
        return (tmp_path / output).read_bytes()

    assert score("ray.jsonl", "--ray") == score("local.jsonl")
