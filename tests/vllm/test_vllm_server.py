"""A vLLM server started as operators start it, asked over HTTP; and the whole service in front of it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from app.settings import Settings
from model.checkpoint import Checkpoint
from model.engines.torch_engine import TorchEngine
from model.engines.vllm.server import ServerSettings, VllmServerEngine
from model.errors import EngineUnavailable
from tests.vllm.conftest import ROUNDING, TARGETS
from tests.vllm.test_vllm_engine import QUANTILES, agree, queries_of

ROOT = Path(__file__).resolve().parents[2]
PREDICT = (sys.executable, "-m", "app.cli", "predict", "--json", "--kind", "github-actions")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    path = tmp_path_factory.mktemp("server") / "log"
    log = path.open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "vllm-server", "--port", str(port), "--dtype", "float32"],
        cwd=ROOT,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.HTTPError:
                time.sleep(1)
        else:
            pytest.fail(path.read_text()[-4000:])
        yield url
    finally:
        process.terminate()
        process.wait(60)
        log.close()


def engine_of(url: str, checkpoint: Checkpoint, **more: object) -> VllmServerEngine:
    settings = ServerSettings((url,), checkpoint.version, start_seconds=5.0, **more)  # type: ignore[arg-type]
    return VllmServerEngine(checkpoint.encoder, settings)


def test_a_server_gives_the_quantiles_of_the_torch_engine(
    server: str, checkpoint: Checkpoint, prompts: list[tuple[int, ...]]
) -> None:
    embedded = TorchEngine(checkpoint.path, checkpoint.encoder, dtype=torch.float32)
    embedded.start()
    made = engine_of(server, checkpoint)
    made.start()
    queries = queries_of(prompts)
    for start in range(0, len(queries), 25):
        agree(embedded, made, queries[start : start + 25], rel=5e-3)
    assert made.health()
    made.close()


def test_what_is_not_sound_is_refused_at_admission(server: str, checkpoint: Checkpoint) -> None:
    body = {"model": checkpoint.version, "prompt": [[5, 6, 7]], "max_tokens": 4, "temperature": 0}
    for xargs in ({"jobcast_id": "a"}, {"jobcast_id": "a", "jobcast_tau": 1.0}):
        answer = httpx.post(f"{server}/v1/completions", json={**body, "vllm_xargs": xargs}, timeout=30)
        assert answer.status_code == 400
        assert "must be" in answer.text
    assert httpx.get(f"{server}/health").is_success


def test_another_checkpoint_is_not_asked_by_mistake(server: str, checkpoint: Checkpoint) -> None:
    settings = ServerSettings((server,), "sha256:another", start_seconds=5.0)
    with pytest.raises(EngineUnavailable, match="this checkpoint"):
        VllmServerEngine(checkpoint.encoder, settings).start()


@pytest.mark.parametrize("engine", ["vllm-server", "vllm"])
def test_the_service_answers_the_example_with_either_engine(server: str, engine: str) -> None:
    """`jobcast predict`, the whole way from a file to calibrated quantiles."""
    answers = {}
    for name in ("torch", engine):
        chosen = {"JOBCAST_ENGINE": name, "JOBCAST_VLLM_URLS": f'["{server}"]', "JOBCAST_LOG_LEVEL": "error"}
        done = subprocess.run(
            [*PREDICT, str(ROOT / "docs" / "examples" / "ci.yml")],
            cwd=ROOT,
            env={**os.environ, **chosen},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        answers[name] = json.loads(lines[-1])
    for one, other in zip(answers["torch"]["predictions"], answers[engine]["predictions"], strict=True):
        for target in TARGETS:
            for quantile in map(str, QUANTILES):
                assert other[target][quantile] == pytest.approx(one[target][quantile], rel=ROUNDING)


def test_the_settings_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="JOBCAST_VLLM_URLS"):
        Settings(engine="vllm-server")
