import pytest

from model.errors import ConfigTooLarge
from model.jobs.graph import graph_features, jobs_of, longest_chain
from model.jobs.job import Job, Value
from model.jobs.time_limit import time_limit
from tests.model.jobs_fixtures import CHAIN, workflow_of


def test_the_graph_of_a_workflow_is_counted() -> None:
    found = graph_features(workflow_of(CHAIN).body)
    expected = {
        "jobs": 4,
        "edges": 3,
        "largest fan-in": 2,
        "largest fan-out": 1,
        "first jobs": 2,
        "last jobs": 1,
        "longest chain of jobs": 3,
        "longest chain of steps": 4,
        "steps": 5,
        "most steps of a job": 2,
        "largest matrix": 6,
        "matrix axes": 2,
        "jobs after the matrix": 9,
        "actions used": 1,
        "command lines": 5,
    }
    assert {name: found[name] for name in expected} == expected


def test_the_tree_of_a_body_is_counted() -> None:
    body: dict[str, Value] = {"a": {"b": [1, 2], "c": "two words"}, "inputs": [{"bytes": 10}, {"bytes": 32}]}
    found = graph_features({**body, "parents": {"sort": 3, "cut": "1"}})
    assert (found["leaves"], found["depth"]) == (7, 3)
    assert (found["leaves of a"], found["words of a"]) == (3, 4)
    assert (found["sum of bytes"], found["largest bytes"]) == (42, 32)
    assert (found["distinct parents"], found["largest share of parents"]) == (2, 3)


def a_job(jobs: dict[str, Value]) -> Job:
    return Job("github-actions", "workflow", "w", {"jobs": jobs})


def test_jobs_that_wait_for_each_other_in_a_circle_count_for_themselves() -> None:
    circle = a_job(
        {"a": {"needs": "b"}, "b": {"needs": ["a", "a"]}, "c": {"needs": "c"}, "d": {"needs": "x"}}
    )
    found = graph_features(circle.body)
    assert (found["longest chain of jobs"], found["edges"], found["first jobs"]) == (1, 3, 1)


def test_a_called_workflow_counts_inside_its_job() -> None:
    inner = {"jobs": {"one": {"steps": [{"run": "x"}]}, "two": {"needs": "one", "steps": [{"run": "y"}]}}}
    job = a_job({"before": {"steps": [{"run": "z"}]}, "call": {"needs": "before", "called": inner}})
    assert longest_chain(jobs_of(job.body), lambda one: 1.0) == 3
    assert graph_features(job.body)["jobs"] == 3


def test_ten_thousand_jobs_in_a_row_and_all_waiting_for_one_are_counted() -> None:
    row = a_job({str(n): {"needs": [str(n - 1)] if n else []} for n in range(10_000)})
    assert graph_features(row.body)["longest chain of jobs"] == 10_000
    crowd = a_job({str(n): {"needs": ["0"] if n else []} for n in range(10_000)})
    assert graph_features(crowd.body)["largest fan-out"] == 9_999


@pytest.mark.parametrize("written", ["9" * 400, 10**400, None])
def test_a_matrix_without_end_has_a_bound(written: Value) -> None:
    axes: dict[str, Value] = {f"axis{n}": ["x"] * 10 for n in range(400)}
    strategy: dict[str, Value] = {"matrix": axes, "combinations": written}
    assert graph_features(a_job({"a": {"strategy": strategy}}).body)["largest matrix"] == 1e9


def test_counting_ends_with_the_time_for_reading() -> None:
    with time_limit(-1), pytest.raises(ConfigTooLarge):
        graph_features(a_job({"a": {"steps": [{"run": "x"}]}}).body)
