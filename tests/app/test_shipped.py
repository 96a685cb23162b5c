"""The whole service over the shipped checkpoint: the Must of a reordered, commented input."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.main import create_app
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.jobs import read
from tests.app.fakes import running

EXAMPLE = (Path(__file__).resolve().parents[2] / "docs" / "examples" / "ci.yml").read_text()


def reordered(value: Any) -> Any:
    """The same YAML value with every mapping's keys backwards, but for the matrix, whose axes have an order."""
    if isinstance(value, dict):
        return {k: v if k == "matrix" else reordered(v) for k, v in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value


COMMENTED = "# another header\n\n" + EXAMPLE.replace("jobs:\n", "jobs: # all of them\n").replace(
    "          ./mvnw", "          # build\n          ./mvnw"
)
SHUFFLED = "# sorted otherwise\n" + yaml.safe_dump(
    reordered(yaml.load(EXAMPLE, Loader=yaml.CBaseLoader)), sort_keys=False
)


def test_reordered_keys_and_comments_give_byte_equal_text() -> None:
    checkpoint = Checkpoint.load(Settings().checkpoint)
    texts = []
    for config in (EXAMPLE, COMMENTED, SHUFFLED):
        reading = read("github-actions", config, {})
        assert reading.workflow is not None
        texts.append(
            sorted(checkpoint.prompt(job).text.encode() for job in (reading.workflow, *reading.jobs))
        )
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.anyio
async def test_the_second_answer_comes_from_the_cache() -> None:
    app = create_app(Settings(default_deadline_ms=60_000))
    async with running(app) as client:
        first = await ask(client, EXAMPLE)
        assert {unit["source"] for unit in units(first)} == {"model"}
        for config in (EXAMPLE, COMMENTED, SHUFFLED):
            again = await ask(client, config)
            assert {unit["source"] for unit in units(again)} == {"cache"}
            assert quantiles(again) == quantiles(first)


async def ask(client: httpx.AsyncClient, config: str) -> dict[str, Any]:
    response = await client.post("/predict", json={"kind": "github-actions", "config": config})
    assert response.status_code == 200, response.text
    return dict(json.loads(response.text))


def units(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [answer["workflow"]["direct"], *answer["predictions"]]


def quantiles(answer: dict[str, Any]) -> dict[str, Any]:
    """Name -> quantiles, whatever the order in which the jobs were written."""
    named = {unit.get("name", "the whole run"): unit for unit in units(answer)}
    targets = ("runtime_seconds", "peak_memory_bytes", "cpu_cores")
    return {name: {target: unit[target] for target in targets} for name, unit in named.items()}
