"""docs/capacity.md says what was measured, and which bounds were missed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from loadtest.capacity.page import write_page
from loadtest.capacity.plan import Assumptions
from loadtest.capacity.results import save
from loadtest.capacity.verdicts import verdicts_of
from loadtest.load.objectives import Measured
from tests.loadtest.test_simulation import COSTS

COMPARED = [
    f"simulation beside run cold 0.7, {what}, worst figure" for what in ("all requests", "the machine steady")
]


def run(*, simulated: float = 1.0, tail: float = 3.0, errors: float = 0.0) -> dict[str, Any]:
    """simulated: of what was measured; tail: p99 / p50."""
    measured = Measured(20.0, 20.0, 2000, errors, 40.0, 80.0, 40.0 * tail)
    answer = {name: value * simulated for name, value in asdict(measured).items() if isinstance(value, float)}
    return {
        "measured": asdict(measured),
        "steady": asdict(measured),
        "lost": 0.0,
        "simulated": answer,
        "simulated_steady": answer,
        "times": [0.9, 1.1],
        "busy": [15.0, 16.0],
        "capacity": 28.0,
        "rate": 20.0,
        "seed": 1,
        "seconds": 40.0,
    }


def missed(content: dict[str, Any]) -> list[str]:
    return [verdict.what for verdict in verdicts_of(content) if not verdict.holds]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (run(simulated=0.81), []),
        (run(simulated=1.21), COMPARED),
        (run(simulated=0.79), COMPARED),
        (run() | {"simulated_steady": run(simulated=1.21)["simulated"]}, COMPARED[1:]),
        (run(tail=5.1), ["p99 / p50 at 70 %, cold, the machine steady"]),
        (run(errors=0.001), ["errors at 70 %, cold"]),
        (
            run(tail=float("nan")),
            ["p99 / p50 at 70 %, cold, the machine steady", *COMPARED],
        ),
    ],
)
def test_a_bound_that_is_passed_is_missed(found: dict[str, Any], told: list[str]) -> None:
    assert missed({"run cold 0.7": found}) == told


def test_a_quantile_with_hardly_a_request_beyond_it_is_not_judged() -> None:
    found = run()
    found["simulated_steady"] = found["simulated"] | {"p99": 2 * found["steady"]["p99"]}
    assert missed({"run cold 0.7": found}) == COMPARED[1:]
    found["steady"]["requests"] = 999
    assert missed({"run cold 0.7": found}) == []
    assert "p95" not in verdicts_of({"run cold 0.7": found})[-1].measured
    assert "of 999 requests: p99" in verdicts_of({"run cold 0.7": found})[-1].measured


def test_bulk_scoring_must_keep_the_pace_and_the_bytes() -> None:
    good = {"of_the_engine": 0.9, "killed_twice_is_equal": True, "ray_is_equal": True}
    assert missed({"bulk": good}) == []
    bad = {"of_the_engine": 0.89, "killed_twice_is_equal": False, "ray_is_equal": False}
    assert len(missed({"bulk": bad})) == 3


def test_the_page_is_made_of_what_is_there(tmp_path: Path) -> None:
    results = tmp_path / "capacity.json"
    (tmp_path / "capacity-notes.md").write_text("## What this says\n\nA note.\n")
    assert write_page(Assumptions(), results, tmp_path / "none.json")
    assert "Nothing was measured here" in (tmp_path / "capacity.md").read_text()
    save("costs", asdict(COSTS), results)
    save("most cold", {"answered": 28.0, "client_seconds": 0.002}, results)
    save("run cold 0.7", run(tail=6.0), results)
    save(
        "loops",
        {
            "open": run()["measured"],
            "closed": run()["measured"],
            "clients": 2,
            "rate": 20.0,
            "frozen_seconds": 2.0,
        },
        results,
    )
    shown = {"due": [0.5, 1.0], "milliseconds": [2.0, 30.0], "steady": [True, False]}
    paces = tmp_path / "paces.json"
    save("run hot 0.7", {"profile": [{"since": 0.9, "to": 1.1, "pace": 0.2}], **shown}, paces)
    assert not write_page(Assumptions(core_hour=0.5), results, paces)
    page = (tmp_path / "capacity.md").read_text()
    for part in (
        "**missed**",
        "A note.",
        "What a request costs",
        "What a load needs",
        "closed loop, 2 clients",
        "0.5000 $",
    ):
        assert part in page
    for plot in ("runs", "costs", "pace"):
        assert (tmp_path / "img" / f"capacity-{plot}.png").stat().st_size > 1000
    assert json.loads(results.read_text())["run cold 0.7"]["measured_on"]
