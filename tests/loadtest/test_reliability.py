"""The experiments of docs/reliability.md, cut short: they start, and tell what they saw."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.redis_server import MISSING
from loadtest.reliability import faults, fuzz, redis, results


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's figures go, instead of docs/."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "reliability.json")
    return tmp_path / "reliability.json"


def bounds_of(saved: Path, experiment: str) -> dict[str, dict[str, Any]]:
    return {bound["what"]: bound for bound in json.loads(saved.read_text())[experiment]["bounds"]}


def test_fuzzed_configs_are_counted_by_their_answers(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "WARM_UP", 16)
    fuzz.run(80)
    found = bounds_of(saved, "fuzz")
    assert found["configs answered"]["measured"] == 80
    assert (
        found["answers of 500 and above"]["measured"] == found["requests without an answer"]["measured"] == 0
    )
    assert found["the service is alive and ready"]["holds"]
    answers = json.loads(saved.read_text())["fuzz"]["more"]
    assert sum(answers.values()) == 80 and answers["answers ok"] > 10


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_faults_of_redis_are_met_and_their_end_is_seen(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEFORE", "DURING", "AFTER"):
        monkeypatch.setattr(faults, name, 1.0)
    monkeypatch.setattr(redis, "stay_on", lambda core: None)
    redis.run(rounds=1)
    found = bounds_of(saved, "redis")
    for fault in ("killed", "frozen", "flushed", "restarted"):
        assert found[f"{fault}: failed requests"]["measured"] == 0
        assert found[f"{fault}: back in use after"]["holds"]
