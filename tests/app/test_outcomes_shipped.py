"""The whole way with the shipped checkpoint: what was reported moves what is predicted."""

import math
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.fakes import running
from tests.app.outcomes import past_runs, predict, report, sqlite_database

pytestmark = pytest.mark.anyio

EXAMPLE = (Path(__file__).resolve().parents[2] / "docs" / "examples" / "ci.yml").read_text()
BODY: dict[str, object] = {
    "kind": "github-actions",
    "config": EXAMPLE,
    "context": {"repository": "octo/app", "workflow_path": ".github/workflows/ci.yml"},
}


def median(answer: dict[str, Any]) -> float:
    return float(answer["workflow"]["direct"]["runtime_seconds"]["0.5"])


@pytest.mark.parametrize("took", [60.0, 6000.0])
async def test_three_outcomes_move_the_median_towards_them(tmp_path: Path, took: float) -> None:
    settings = Settings(
        **sqlite_database(tmp_path).settings(default_deadline_ms=60_000),
    )
    async with running(create_app(settings)) as client:
        before = await predict(client, BODY)
        for factor in (0.95, 1.0, 1.05):
            outcome = {"request_id": before["request_id"], "runtime_seconds": took * factor}
            assert await report(client, outcome) == ["accepted"]
        after = await predict(client, BODY)
        assert past_runs(after) == [3] + [0] * len(after["predictions"])
        assert after["workflow"]["direct"]["source"] == "model"
        # By more than half of the way, as ratios go; the jobs, of which nothing was reported, stay as they were.
        assert abs(_ratio(median(after), took)) < abs(_ratio(median(before), took)) / 2
        of_jobs = [[job["runtime_seconds"] for job in answer["predictions"]] for answer in (before, after)]
        assert of_jobs[0] == of_jobs[1]
        # The same as for a client that sends what the service has kept.
        entry = {"age_seconds": 0, "same_config": True}
        sent = [{**entry, "runtime_seconds": took * factor} for factor in (1.05, 1.0, 0.95)]
        assert median(await predict(client, {**BODY, "history": sent})) == median(after)
        # A changed workflow is the same recurring job.
        changed = {**BODY, "config": EXAMPLE.replace("pip install ruff mypy", "pip install ruff")}
        assert past_runs(await predict(client, changed))[0] == 3


async def test_jobs_of_which_training_saw_nothing_follow_their_past_runs(tmp_path: Path) -> None:
    settings = Settings(**sqlite_database(tmp_path).settings(default_deadline_ms=60_000))
    async with running(create_app(settings)) as client:
        before = await predict(client, BODY)
        for took in (40.0, 41.0, 42.0):
            outcome = {"request_id": before["request_id"], "job": "lint", "runtime_seconds": took}
            assert await report(client, outcome) == ["accepted"]
        (lint,) = (job for job in (await predict(client, BODY))["predictions"] if job["name"] == "lint")
    assert lint["support"]["runtime_seconds"] == {"trained": False, "records": 0}
    low, middle, high = (lint["runtime_seconds"][quantile] for quantile in ("0.1", "0.5", "0.9"))
    assert middle == pytest.approx(41, rel=0.1)
    assert 20 < low < middle < high < 80


def _ratio(value: float, truth: float) -> float:
    return math.log(value / truth)
