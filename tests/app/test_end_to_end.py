"""The real readers, texts and checkpoint format, over an engine without weights, in and as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from app.api.schemas import PredictResponse
from app.cli import cli, main
from app.errors import MalformedBody
from app.local import question
from app.main import create_app
from app.settings import Settings
from tests.app.fakes import CANARY, running
from tests.app.stored import WORKFLOW

pytestmark = pytest.mark.anyio

REORDERED = """
# the same, written by someone else
jobs:
  test:
    steps:
      - uses: actions/checkout@v4
      - {run: pytest}
    strategy: {matrix: {python: ["3.11", "3.12"]}}
    runs-on: ubuntu-latest
    needs: lint
  lint:
    steps: [{run: ruff check}]
    runs-on: ubuntu-latest
'on': push
name: CI
"""


@pytest.fixture
async def client(stored: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with running(create_app(Settings(checkpoint=stored, engine="fake"))) as client:
        yield client


async def predict(client: httpx.AsyncClient, config: object, **rest: object) -> httpx.Response:
    return await client.post("/predict", json={"kind": "github-actions", "config": config, **rest})


async def test_a_workflow_with_a_matrix_is_predicted(client: httpx.AsyncClient) -> None:
    answer = (await predict(client, WORKFLOW)).json()
    PredictResponse.model_validate(answer)
    assert answer["workflow"]["direct"]["support"]["runtime_seconds"] == {"trained": True, "records": 12}
    names = [job["name"] for job in answer["predictions"]]
    assert len(names) == 3
    assert all(job["needs"] == ["lint"] for job in answer["predictions"] if job["name"] != "lint")
    picked = (await predict(client, WORKFLOW, job=names[-1])).json()
    assert picked["predictions"][0]["source"] == "cache"
    given = await predict(client, WORKFLOW, job=names[-1], given={"cpu_cores": 2.0})
    assert "cpu_cores" not in given.json()["predictions"][0]


async def test_reordered_keys_comments_and_whitespace_hit_the_cache(client: httpx.AsyncClient) -> None:
    first = (await predict(client, WORKFLOW)).json()
    second = (await predict(client, REORDERED)).json()
    assert second["workflow"]["direct"]["source"] == "cache"
    assert {job["source"] for job in second["predictions"]} == {"cache"}

    def values(answer: dict[str, list[dict[str, object]]]) -> dict[object, object]:
        return {job["name"]: job["runtime_seconds"] for job in answer["predictions"]}

    assert values(first) == values(second)


async def test_history_changes_the_question(client: httpx.AsyncClient) -> None:
    history = [{"runtime_seconds": 300, "age_seconds": 3600}]
    await predict(client, WORKFLOW)
    answer = (await predict(client, WORKFLOW, history=history)).json()
    assert answer["workflow"]["direct"]["source"] == "model"
    assert {job["source"] for job in answer["predictions"]} == {"cache"}


@pytest.mark.parametrize("kind", ["github-actions", "slurm", "spark", "eda.openroad", "eda.vtr", "text"])
async def test_hostile_configs_are_the_clients_problem(client: httpx.AsyncClient, kind: str) -> None:
    deep: object = CANARY
    for _ in range(900):
        deep = {"a": [deep]} if isinstance(deep, str) else {"a": deep}
    for config in (deep, "[" * 30_000 + CANARY, f"{CANARY}: [", f"\x00{CANARY}", "", {}):
        response = await client.post("/predict", json={"kind": kind, "config": config})
        assert response.status_code in (200, 422), response.text
        assert response.status_code == 200 or CANARY not in response.text
    response = await client.post(
        "/predict", json={"kind": kind, "config": "a: b", "context": {"stage": deep}}
    )
    assert response.status_code in (200, 422), response.text


def test_the_command_line_predicts_without_a_server(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCAST_CHECKPOINT", str(stored))
    monkeypatch.setenv("JOBCAST_ENGINE", "fake")
    file = tmp_path / "ci.yml"
    file.write_text(WORKFLOW)
    table = CliRunner().invoke(cli, ["predict", str(file), "--kind", "github-actions"])
    assert table.exit_code == 0
    assert "the whole run" in table.output
    assert "lint" in table.output
    answer = CliRunner().invoke(cli, ["predict", str(file), "--kind", "github-actions", "--json"])
    PredictResponse.model_validate(json.loads(answer.output))


def test_the_command_line_takes_all_that_a_request_can_say(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBCAST_CHECKPOINT", str(stored))
    monkeypatch.setenv("JOBCAST_ENGINE", "fake")
    file, past = tmp_path / "ci.yml", tmp_path / "past.json"
    file.write_text(WORKFLOW)
    runs = [{"runtime_seconds": 300.0, "age_seconds": 60.0, "job": "lint"}]
    past.write_text("\ufeff" + json.dumps(runs))
    command = ["predict", str(file), "--kind", "github-actions", "--json", "--job", "lint"]
    known = ["--context", "repository=a/b", "--context", 'runner={"os": "linux"}', "--given", "cpu_cores=2"]
    for history, text in ((str(past), None), ("-", json.dumps(runs))):
        made = CliRunner().invoke(cli, [*command, *known, "--history", history], input=text)
        (prediction,) = json.loads(made.output)["predictions"]
        assert prediction["input"]["past_runs"] == 1
        assert "cpu_cores" not in prediction
    ask = question(
        "github-actions", WORKFLOW, context=['runner={"os": "linux"}', "a=b=[c"], given=["cpu_cores=2"]
    )
    assert ask.context == {"runner": {"os": "linux"}, "a": "b=[c"}
    assert ask.given == {"cpu_cores": 2.0}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"given": [CANARY]}, "given must be a name, = and a value"),
        ({"given": [f"cpu_cores={CANARY}"]}, "given must be TARGET=NUMBER"),
        ({"given": ["cpu_cores=nan"]}, "must be finite"),
        ({"context": ["a=1", "a=2"]}, "context has a name twice"),
        ({"context": [f"a={CANARY}\udcff"]}, "the command line is not UTF-8"),
        ({"job": f"{CANARY}\udcff"}, "the command line is not UTF-8"),
        ({"context": [f"a={{{CANARY}"]}, "context: not JSON: line 1, column 2"),
        ({"history": CANARY}, "history: not JSON: line 1, column 1"),
        ({"history": '{"a": 1, "a": 2}'}, "history: a key that appears twice in one JSON object"),
        ({"history": '[{"runtime_seconds": 3}]'}, "history[0].age_seconds is required"),
    ],
)
def test_what_the_command_line_is_told_wrongly(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MalformedBody) as error:
        question("github-actions", WORKFLOW, **wrong)
    assert sentence in error.value.message
    assert CANARY not in error.value.message


@pytest.mark.parametrize("name", ["\\[/red]", "[bold]x", "a\x1b[31mb"])
def test_names_of_jobs_are_printed_as_they_are(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("JOBCAST_CHECKPOINT", str(stored))
    monkeypatch.setenv("JOBCAST_ENGINE", "fake")
    file = tmp_path / "ci.json"
    job = {"name": name, "runs-on": "x", "steps": [{"run": "make"}]}
    file.write_text(json.dumps({"jobs": {"a": job}}))
    table = CliRunner().invoke(cli, ["predict", str(file), "--kind", "github-actions"])
    assert table.exit_code == 0
    assert name.replace("\x1b", "") in table.output
    assert "\x1b" not in table.output


def test_standard_input_is_read_once() -> None:
    made = CliRunner().invoke(cli, ["predict", "-", "--kind", "github-actions", "--history", "-"])
    assert made.exit_code == 2
    assert "standard input can be read once" in made.output


@pytest.mark.parametrize("checkpoint", ["nowhere", None])
def test_the_command_line_fails_in_one_sentence(
    stored: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: str | None,
) -> None:
    monkeypatch.setenv("JOBCAST_CHECKPOINT", checkpoint or str(stored))
    monkeypatch.setenv("JOBCAST_ENGINE", "fake")
    file = tmp_path / "ci.yml"
    file.write_text(WORKFLOW)
    monkeypatch.setattr(sys, "argv", ["jobcast", "predict", str(file), "--kind", CANARY])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    written = capsys.readouterr().err
    assert written.startswith("jobcast: ")
    assert len(written.splitlines()) == 1
    assert CANARY not in written


@pytest.fixture
def served(stored: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`jobcast serve` as a process of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "CHECKPOINT": str(stored),
        "ENGINE": "fake",
        "SHUTDOWN_GRACE_SECONDS": "1.2",
        "PORT": str(port),
    }
    environment = os.environ | {f"JOBCAST_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "app.cli", "serve"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def wait_until_ready(address: str) -> None:
    for _ in range(200):
        try:
            if httpx.get(f"{address}/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("never ready")


def test_the_process_serves_and_stops_gracefully(served: tuple[subprocess.Popen[str], str]) -> None:
    process, address = served
    wait_until_ready(address)
    yaml = {"Content-Type": "application/yaml"}
    response = httpx.post(f"{address}/predict?kind=github-actions", content=WORKFLOW, headers=yaml)
    assert response.status_code == 200
    lying = httpx.post(f"{address}/predict", content=(b"x" * 65536 for _ in range(64)), headers=yaml)
    assert (lying.status_code, lying.json()["code"]) == (413, "body_too_large")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.15)
    assert httpx.get(f"{address}/health/ready").status_code == 503
    assert httpx.post(f"{address}/predict?kind=github-actions", content=WORKFLOW, headers=yaml).is_success
    process.wait(5)
    assert process.stdout is not None
    lines = [json.loads(line) for line in process.stdout]
    assert {"engine_ready", "request"} <= {line["event"] for line in lines}
