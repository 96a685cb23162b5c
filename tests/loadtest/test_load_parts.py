"""Schedules, objectives and the search for the knee, without a service."""

import json

import numpy as np
import pytest

from loadtest.load.bodies import push_requests, scheduler_request, sweep_request
from loadtest.load.bounds import fault
from loadtest.load.knee import find_knee
from loadtest.load.objectives import Measured, Objectives
from loadtest.load.popularity import draw, fit
from loadtest.load.scenarios import HOT_JOBS, MIXES, SCENARIOS, endless, schedule, warm_up
from model.jobs import read, select


@pytest.mark.parametrize("scenario", list(SCENARIOS))
@pytest.mark.parametrize("mix", MIXES)
def test_a_schedule_ascends_keeps_its_rate_and_is_the_same_again(scenario: str, mix: str) -> None:
    planned = schedule(scenario, mix, 40.0, 60.0, seed=3)  # type: ignore[arg-type]
    moments = [due.seconds for due in planned]
    assert moments == sorted(moments)
    assert moments[0] >= 0
    assert moments[-1] < 60
    rate = len(planned) / 60
    assert 20 < rate < 34 if scenario == "sweep" else 32 < rate < 48
    assert planned == schedule(scenario, mix, 40.0, 60.0, seed=3)  # type: ignore[arg-type]


def test_a_cold_mix_repeats_nothing_not_even_of_another_seed() -> None:
    bodies = [due.body for seed in (1, 2) for due in schedule("steady", "cold", 50.0, 20.0, seed)]
    bodies += warm_up("steady", "cold")
    assert len(set(bodies)) == len(bodies)


def test_a_hot_mix_asks_what_the_warm_up_asked() -> None:
    warm = set(warm_up("steady", "hot"))
    assert len(warm) == HOT_JOBS
    assert {due.body for due in schedule("steady", "hot", 50.0, 20.0, 1)} <= warm


def test_a_zipf_mix_repeats_some_jobs_often() -> None:
    bodies = [due.body for due in schedule("steady", "zipf", 100.0, 30.0, 1)]
    share = len(set(bodies)) / len(bodies)
    assert 0.3 < share < 0.8


def test_a_push_comes_at_one_moment() -> None:
    planned = schedule("burst", "cold", 40.0, 30.0, 1)
    moments, counts = np.unique([due.seconds for due in planned], return_counts=True)
    assert set(counts) == {len(push_requests(1))}
    assert len(moments) > 10


def test_a_closed_loop_asks_the_same_kind_of_requests() -> None:
    asked = endless("burst", "cold", 1)
    assert [next(asked).body for _ in range(8)] == push_requests(11_000_000)


def test_every_body_is_a_request_that_its_reader_takes() -> None:
    for number in range(10):
        for body in (scheduler_request(number), sweep_request(number), *push_requests(number)):
            request = json.loads(body)
            reading = read(request["kind"], request["config"], request.get("context", {}))
            if "job" in request:
                assert select(reading, request["job"])


def test_the_exponent_of_drawn_popularity_is_found_again() -> None:
    ranks = draw(np.random.default_rng(0), 300, 50_000, exponent=0.7)
    assert fit(np.bincount(ranks, minlength=300).tolist()) == pytest.approx(0.7, abs=0.05)


RUN = Measured(offered=100.0, answered=99.0, requests=1000, errors=0.0, p50=10.0, p95=30.0, p99=80.0)


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (Objectives(), None),
        (Objectives(p50=10.0, p95=30.0, p99=80.0, p99_over_p50=8.0, answered=0.99), None),
        (Objectives(p99=79.0), "p99 is 80 ms"),
        (Objectives(p99_over_p50=5.0), "p99 / p50 is 8"),
        (Objectives(answered=0.995), "answered 99 of 100"),
    ],
)
def test_an_objective_is_missed_where_its_limit_is_passed(limits: Objectives, told: str | None) -> None:
    missed = list(limits.missed(RUN))
    assert len(missed) == bool(told)
    assert told is None or missed[0].startswith(told)


@pytest.mark.parametrize(
    ("host", "rate", "seconds", "clients", "told"),
    [
        ("http://127.0.0.1:8080", 10.0, 10.0, 1, None),
        ("http://localhost", 2000.0, 3600.0, 512, None),
        ("http://192.0.2.1", 10.0, 10.0, 1, "not this machine"),
        ("http://localhost.example", 10.0, 10.0, 1, "not this machine"),
        ("http://127.0.0.1", 2001.0, 10.0, 1, "--rate"),
        ("http://127.0.0.1", float("nan"), 10.0, 1, "--rate"),
        ("http://127.0.0.1", 10.0, 4000.0, 1, "--seconds"),
        ("http://127.0.0.1", 10.0, 10.0, 513, "--users"),
    ],
)
def test_a_load_is_bounded(host: str, rate: float, seconds: float, clients: int, told: str | None) -> None:
    found = fault(host, rate=rate, seconds=seconds, clients=clients)
    assert found is None if told is None else told in str(found)


def test_another_machine_may_be_loaded_where_somebody_says_so() -> None:
    assert fault("http://192.0.2.1", rate=1.0, seconds=1.0, clients=1, remote=True) is None


def test_a_run_without_answers_misses_its_objectives() -> None:
    run = Measured.of([], {"503": 10}, offered=5.0, seconds=2.0)
    assert len(list(Objectives(p99=1000.0, answered=0.9).missed(run))) == 3


def test_the_knee_is_where_a_queue_begins_to_grow() -> None:
    def service(rate: float) -> Measured:
        """Of a server that takes 10 ms, as an M/D/1 queue waits; it breaks at 100 a second."""
        busy = min(rate / 100, 0.999)
        wait = 10 * (1 + 5 * busy / (2 * (1 - busy)))
        return Measured(rate, min(rate, 100), 1000, 0.0, 10.0, wait, wait)

    knee = find_knee(service, 5.0, times_quiet=10.0)
    assert 70 < knee.rate < 85
    assert knee.rate < knee.too_much < 1.3 * knee.rate
    assert "p99" in knee.why


def test_a_service_that_fails_at_once_has_its_knee_at_zero() -> None:
    knee = find_knee(lambda rate: Measured(rate, 0.0, 10, 1.0, 1.0, 1.0, 1.0), 5.0)
    assert knee.rate == 0
    assert len(knee.steps) == 1
