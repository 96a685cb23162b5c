"""Memory sizing and the replayed queue: traces worked out by hand, invariants of random ones, the whole section."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.cells import QUANTILES, TARGETS, Case, Cell
from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import MEMORY, RUNTIME, rounded_up, sources_of
from model.evaluation.scheduling.memory import AUTHORS, PERFECT, allocations, attempts, size
from model.evaluation.scheduling.options import GB, GIB, HOUR, Options
from model.evaluation.scheduling.outcome import bounded_slowdown, outcome
from model.evaluation.scheduling.replay import (
    POLICIES,
    Cluster,
    Estimates,
    Policy,
    Span,
    Trace,
    _Replay,
    replay,
)
from model.evaluation.scheduling.report import Gains, gains, plot, render
from model.evaluation.scheduling.sizing import sizing
from model.evaluation.scheduling.trace import cluster_of, traces
from model.jobs.job import Outcome
from model.training.corpus import Record

ONE_NODE = Cluster(nodes=1, cores=4, memory=100.0)


def a_trace(*jobs: tuple[float, float, float, float], killed_after: float = 0.5) -> Trace:
    """From (submit, runtime, cores, memory) of each job."""
    submit, runtime, cores, memory = (
        np.array(column, dtype=np.float64) for column in zip(*jobs, strict=True)
    )
    return Trace(submit, runtime, memory, cores, np.full(len(jobs), killed_after))


def perfect(trace: Trace) -> Estimates:
    return Estimates(trace.runtime, trace.runtime, trace.memory)


def starts(spans: Sequence[Span]) -> list[float]:
    """Of the successful attempts, by job."""
    return [span.start for span in sorted(spans) if span.succeeded]


# --- hand-computed traces -------------------------------------------------------------------------------------

# A long job on 3 of 4 cores, a wide one that must wait for it, and two narrow ones behind the wide one.
QUEUE = a_trace((0, 10, 3, 0), (1, 5, 4, 0), (2, 8, 1, 0), (3, 20, 1, 0))


def test_first_come_first_served_makes_everyone_wait_for_the_head() -> None:
    assert starts(replay(QUEUE, perfect(QUEUE), ONE_NODE, "FCFS")) == [0, 10, 15, 15]


def test_backfilling_starts_what_ends_before_the_reservation() -> None:
    # The third job ends at 10, just as the head's reservation begins; the fourth would end long after it.
    assert starts(replay(QUEUE, perfect(QUEUE), ONE_NODE, "EASY")) == [0, 10, 2, 15]


def test_backfilling_starts_what_fits_beside_the_head() -> None:
    # The head leaves one core free at its reservation: a job that outlives it may have that core.
    trace = a_trace((0, 10, 2, 0), (1, 5, 3, 0), (2, 50, 1, 0), (3, 50, 1, 0))
    assert starts(replay(trace, perfect(trace), ONE_NODE, "EASY")) == [0, 10, 2, 15]


def test_shortest_job_first_follows_the_estimates_and_not_the_truth() -> None:
    trace = a_trace((0, 10, 4, 0), (1, 6, 4, 0), (2, 5, 4, 0), (3, 4, 4, 0))
    assert starts(replay(trace, perfect(trace), ONE_NODE, "SJF")) == [0, 19, 14, 10]
    wrong = replace(perfect(trace), order=np.array([1.0, 2.0, 9.0, 3.0]))
    assert starts(replay(trace, wrong, ONE_NODE, "SJF")) == [0, 10, 20, 16]


def test_a_job_that_outlives_its_estimate_runs_on_and_its_reservation_moves() -> None:
    # The first job is thought to take 4 s and takes 10: until 4 it is expected to end then, from 4 on at 8.
    trace = a_trace((0, 10, 3, 0), (1, 5, 4, 0), (2, 3, 1, 0), (5, 3, 1, 0))
    estimates = replace(perfect(trace), reserve=np.array([4.0, 5.0, 3.0, 3.0]))
    spans = replay(trace, estimates, ONE_NODE, "EASY")
    # At 2 a job of 3 s would end after the reservation, at 5 just as it begins. At 8 it moves to 16, and the last
    # job is let in: it ends at 11, a second after the head could have started.
    assert starts(spans) == [0, 11, 5, 8]
    assert all(span.succeeded for span in spans)


def test_a_job_killed_for_memory_comes_back_to_its_place_with_twice_as_much_and_then_a_node() -> None:
    trace = a_trace((0, 10, 4, 50), (1, 2, 4, 10), killed_after=0.5)
    estimates = replace(perfect(trace), memory=np.array([20.0, 10.0]))
    spans = replay(trace, estimates, ONE_NODE, "FCFS")
    assert spans == [
        Span(0, 0, 0.0, 5.0, 20.0, False),
        Span(0, 0, 5.0, 10.0, 40.0, False),
        Span(0, 0, 10.0, 20.0, 100.0, True),
        Span(1, 0, 20.0, 22.0, 10.0, True),
    ]
    metrics = outcome(trace, spans, ONE_NODE)
    assert metrics["mean_wait"] == (10 + 19) / 2
    assert metrics["killed"] == 0.5
    assert metrics["makespan"] == 22
    assert metrics["utilisation"] == pytest.approx(48 / 88)
    assert metrics["wasted_gb_hours"] * GB * HOUR == pytest.approx(5 * 20 + 5 * 40 + 10 * 50)


def test_memory_alone_can_make_a_job_wait() -> None:
    trace = a_trace((0, 10, 1, 60), (0, 10, 1, 60))
    assert starts(replay(trace, perfect(trace), ONE_NODE, "FCFS")) == [0, 10]
    assert starts(replay(trace, perfect(trace), replace(ONE_NODE, nodes=2), "FCFS")) == [0, 0]


def test_a_job_that_no_node_can_hold_is_refused() -> None:
    for job in ((0, 1, 5, 0), (0, 1, 1, 101)):
        with pytest.raises(ValueError, match="more than a node"):
            replay(a_trace(job), perfect(a_trace(job)), ONE_NODE, "FCFS")


def test_slowdown_is_bounded_below_ten_seconds() -> None:
    slowdown = bounded_slowdown(np.array([0.0, 10.0, 10.0, 90.0]), np.array([1.0, 1.0, 10.0, 10.0]))
    assert slowdown.tolist() == [1.0, 1.1, 2.0, 10.0]


# --- invariants of random traces ------------------------------------------------------------------------------

TWO_NODES = Cluster(nodes=2, cores=4, memory=64.0)


def a_random_trace(seed: int, jobs: int = 60) -> tuple[Trace, Estimates]:
    """Crowded, with bursts of equal arrivals; the estimates are off by any factor up to ten."""
    random = np.random.default_rng(seed)
    trace = Trace(
        submit=np.sort(random.integers(0, 60, jobs)).astype(np.float64),
        runtime=random.lognormal(1.0, 1.0, jobs),
        memory=random.uniform(1.0, 64.0, jobs),
        cores=random.integers(1, 5, jobs).astype(np.float64),
        killed_after=random.uniform(size=jobs),
    )
    wrong = 10 ** random.uniform(-1, 1, (3, jobs))
    return trace, Estimates(trace.runtime * wrong[0], trace.runtime * wrong[1], trace.memory * wrong[2])


seeds = st.integers(0, 10**6)
policies = st.sampled_from(POLICIES)


@settings(max_examples=20)
@given(seeds, policies)
def test_no_node_ever_holds_more_than_it_has(seed: int, policy: Policy) -> None:
    trace, estimates = a_random_trace(seed)
    spans = replay(trace, estimates, TWO_NODES, policy)
    for node in range(TWO_NODES.nodes):
        here = [span for span in spans if span.node == node]
        for moment in {span.start for span in here}:
            held = [span for span in here if span.start <= moment < span.end]
            assert sum(trace.cores[span.job] for span in held) <= TWO_NODES.cores
            assert sum(span.memory for span in held) <= TWO_NODES.memory


@settings(max_examples=20)
@given(seeds, policies)
def test_every_job_completes_once_after_its_arrival_and_kills_come_before(seed: int, policy: Policy) -> None:
    trace, estimates = a_random_trace(seed)
    spans = replay(trace, estimates, TWO_NODES, policy)
    assert sorted(span.job for span in spans if span.succeeded) == list(range(len(trace.submit)))
    for job in range(len(trace.submit)):
        own = [span for span in spans if span.job == job]
        assert own[0].start >= trace.submit[job]
        assert all(earlier.end <= later.start for earlier, later in pairwise(own))
        assert [span.succeeded for span in own] == [False] * (len(own) - 1) + [True]
        assert own[-1].end - own[-1].start == pytest.approx(trace.runtime[job])
        assert all((span.memory >= trace.memory[job]) == span.succeeded for span in own)
        given_memory = list(attempts(float(np.ceil(estimates.memory[job])), TWO_NODES.memory))
        assert [span.memory for span in own] == given_memory[: len(own)]


@settings(max_examples=20)
@given(seeds)
def test_first_come_first_served_starts_in_order_of_arrival(seed: int) -> None:
    trace, _ = a_random_trace(seed)
    times = starts(replay(trace, perfect(trace), TWO_NODES, "FCFS"))
    assert times == sorted(times)


@settings(max_examples=20)
@given(seeds)
def test_shortest_job_first_never_passes_over_a_shorter_waiting_job(seed: int) -> None:
    trace, estimates = a_random_trace(seed)
    estimates = replace(estimates, memory=trace.memory)
    spans = replay(trace, estimates, TWO_NODES, "SJF")
    times = starts(spans)
    for span in spans:
        waiting = [j for j, t in enumerate(times) if trace.submit[j] <= span.start < t]
        assert all(estimates.order[job] >= estimates.order[span.job] for job in waiting)


class Promises(_Replay):
    """Remembers the first start that each head of the queue was promised."""

    def _reservation(self, head: int) -> tuple[int, float, float, float]:
        found = super()._reservation(head)
        self.promised: dict[int, float] = getattr(self, "promised", {})
        self.promised.setdefault(head, found[1])
        return found


@settings(max_examples=30)
@given(seeds)
def test_backfilling_never_delays_the_reservation_when_estimates_are_perfect(seed: int) -> None:
    trace, _ = a_random_trace(seed)
    run = Promises(trace, perfect(trace), TWO_NODES, "EASY")
    times = starts(run.run())
    assert run.promised
    assert all(times[head] <= promised for head, promised in run.promised.items())


def test_backfilling_shortens_the_waits_of_a_crowded_queue() -> None:
    waits = dict.fromkeys(POLICIES, 0.0)
    for seed in range(20):
        trace, _ = a_random_trace(seed)
        for policy in POLICIES:
            spans = replay(trace, perfect(trace), TWO_NODES, policy)
            waits[policy] += outcome(trace, spans, TWO_NODES)["mean_wait"]
    assert waits["EASY"] < waits["FCFS"]
    assert waits["SJF"] < waits["FCFS"]


# --- memory ---------------------------------------------------------------------------------------------------


def test_sizes_are_those_worked_out_by_hand() -> None:
    peak, runtime = np.array([10.0, 10.0, 50.0, 100.0]), np.array([2.0, 2.0, 2.0, 2.0])
    sized = size(peak, runtime, np.array([10.0, 15.0, 30.0, 20.0]), node=100.0)
    assert sized.killed.tolist() == [False, False, True, True]
    # Third: 30 for half the time, then 60; fourth: 20 and 40 for half the time each, then the node.
    assert sized.wasted.tolist() == [0.0, 10.0, 30.0 + 20.0, 20.0 + 40.0]
    assert sized.allocated.tolist() == [20.0, 30.0, 30.0 + 120.0, 60.0 + 200.0]


@given(st.floats(1.0, 100.0), st.floats(0.1, 500.0))
def test_what_is_allocated_is_what_is_needed_and_what_is_wasted(peak: float, allocation: float) -> None:
    sized = size(np.array([peak]), np.array([3.0]), np.array([allocation]), node=100.0)
    assert sized.allocated[0] == pytest.approx(3.0 * peak + sized.wasted[0])
    assert sized.wasted[0] >= -1e-9
    assert sized.killed[0] == (min(allocation, 100.0) < peak)


def test_a_peak_above_the_node_is_refused() -> None:
    with pytest.raises(ValueError, match="more memory"):
        size(np.array([2.0]), np.array([1.0]), np.array([1.0]), node=1.0)


def test_limits_are_rounded_as_administrators_do() -> None:
    assert rounded_up(3601.0, RUNTIME) == 2 * HOUR
    assert rounded_up(1.0, RUNTIME) == HOUR
    assert rounded_up(5 * GIB, MEMORY) == 8 * GIB
    assert rounded_up(8 * GIB, MEMORY) == 8 * GIB
    assert rounded_up(1.0, MEMORY) == GIB


# --- from cells to the section --------------------------------------------------------------------------------


def a_record(number: int, source: str, split: str) -> Record:
    """Of `asking`, authors ask for 8 GiB and an hour; the truth follows the group and the number."""
    group = number % 5
    memory = {MEMORY: GIB * (0.5 + group)} if source != "timed" else {}
    asked: dict[str, object] = {"requested_memory_bytes": str(int(8 * GIB)), "requested_time_seconds": "3600"}
    return Record(
        id=f"{source}{number}",
        source=source,
        family="workflow",
        kind="nextflow",
        group=f"group {group}",
        key=None,
        date=None,
        config={"task": f"t{number}", **(asked if source == "asking" else {})},
        context={},
        targets={RUNTIME: 10.0 * (1 + group) * (1 + number % 7), "cpu_cores": 1.5, **memory},
        split=split,
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    splits = ["train"] * 20 + ["test_seen"] * 20 + ["test_unseen"] * 20
    return [
        a_record(number, source, split)
        for source in ("asking", "silent", "timed")
        for number, split in enumerate(splits)
    ]


@pytest.fixture(scope="module")
def cells(records: list[Record]) -> list[Cell]:
    past = (Outcome({MEMORY: 2 * GIB}, 1.0), Outcome({MEMORY: 3 * GIB, RUNTIME: 5.0}, 2.0))
    found = []
    for source in ("asking", "silent", "timed"):
        for split in ("test_seen", "test_unseen"):
            cases = tuple(Case(r, past) for r in records if (r.source, r.split) == (source, split))
            found.append(Cell(source, source, "workflow", split, len(cases), cases))
    return [*found, replace(found[0], name="another view", counts=False)]


def spread_around(cells: Sequence[Cell], width: float, *, point: bool = False) -> list[FloatArray]:
    """The truth times e**width to both sides at the outer quantiles; with `point` only the median."""
    factors = np.exp(width * (2 * np.array(QUANTILES) - 1))
    if point:
        factors = np.where(np.array(QUANTILES) == 0.5, factors, np.nan)
    return [np.stack([cell.truth(t)[:, None] * factors for t in TARGETS], axis=1) for cell in cells]


SMALL = Options(jobs=40, draws=3)


@pytest.fixture(scope="module")
def predictions(cells: list[Cell]) -> dict[str, list[FloatArray]]:
    return {
        "kind median": spread_around(cells, 1.0),
        "last run": spread_around(cells, 0.0, point=True),
        "jobcast": spread_around(cells, 0.3),
        "silent method": [np.full_like(one, np.nan) for one in spread_around(cells, 0.0)],
    }


@pytest.fixture(scope="module")
def result(cells: list[Cell], predictions: dict[str, list[FloatArray]], records: list[Record]) -> Gains:
    return gains(cells, predictions, records, SMALL)


def test_requests_come_from_the_configuration_and_defaults_from_train(
    cells: list[Cell], records: list[Record]
) -> None:
    asking, silent, timed = sources_of(cells, {}, records)
    assert asking.asked().all()
    assert not silent.asked().any()
    assert len(asking.runtime) == 40  # the other view does not count
    assert set(asking.request(MEMORY)) == {8 * GIB}
    # The largest of train is 4.5 GiB, and 350 s: 8 GiB and an hour cover them.
    assert set(silent.request(MEMORY)) == {8 * GIB}
    assert set(silent.request(RUNTIME)) == {HOUR}
    assert set(timed.cores) == {2.0}
    assert set(asking.largest_past) == {3 * GIB}


def test_the_median_of_requested_is_preferred_to_reading_the_configurations(
    cells: list[Cell], records: list[Record]
) -> None:
    asked = [np.full_like(one, np.nan) for one in spread_around(cells, 0.0)]
    for one in asked:
        one[:, TARGETS.index(MEMORY), QUANTILES.index(0.5)] = 5 * GIB
    for source in sources_of(cells, {"requested": asked}, records):
        assert set(source.requested[MEMORY]) == {5 * GIB}
        assert np.isnan(source.requested[RUNTIME]).all()


def test_a_silent_method_allocates_the_request_and_a_point_is_doubled(
    cells: list[Cell], records: list[Record], predictions: dict[str, list[FloatArray]]
) -> None:
    source = sources_of(cells, predictions, records)[0]
    found = allocations(source, predictions)
    assert found["silent method ×1"].tolist() == source.request(MEMORY).tolist()
    assert found["last run ×2"] == pytest.approx(2 * source.memory)
    assert found["jobcast"] == pytest.approx(source.memory * np.exp(0.3 * 0.9))
    assert found["max of past ×2"].tolist() == [6 * GIB] * 40
    assert found[PERFECT].tolist() == source.memory.tolist()


def test_nodes_hold_every_peak_and_every_request(cells: list[Cell], records: list[Record]) -> None:
    asking, _, timed = sources_of(cells, {}, records)
    assert cluster_of(replace(asking, memory=asking.memory * 10), SMALL).memory == 64 * GIB
    assert cluster_of(timed, SMALL).memory == SMALL.least_memory


def test_arrivals_offer_the_stated_load(cells: list[Cell], records: list[Record]) -> None:
    source = sources_of(cells, {}, records)[0]
    options = Options(jobs=4000, draws=1)
    cluster = cluster_of(source, options)
    for load in (0.5, 0.9):
        (drawn,) = traces(source, np.isfinite(source.runtime), cluster, load, options)
        work = (drawn.trace.runtime * drawn.trace.cores).sum() / (cluster.nodes * cluster.cores)
        assert work / drawn.trace.submit[-1] == pytest.approx(load, rel=0.05)
        assert (np.diff(drawn.trace.submit) >= 0).all()


def test_waste_is_relative_to_the_requests_and_perfect_knowledge_wastes_nothing(result: Gains) -> None:
    rows = {
        row["strategy"]: row
        for row in result["memory_summary"]
        if row["scope"] == "asked" and row["split"] == "both"
    }
    assert rows[AUTHORS]["ratio"] == 1.0
    assert rows[PERFECT]["cost"] == 1.0
    assert rows["jobcast"]["killed"] == 0.0
    # e**(0.3 x 0.9) of the peak is allocated, to every job.
    assert rows["jobcast"]["cost"] == pytest.approx(np.exp(0.27), rel=1e-3)
    interval = rows["jobcast"]["interval"]
    assert interval is not None
    assert interval[0] < rows["jobcast"]["ratio"] < interval[1] < 1.0  # type: ignore[operator]


def test_only_sources_whose_authors_asked_count_in_the_headline(result: Gains) -> None:
    counts = {(row["scope"], row["sources"]) for row in result["memory_summary"]}
    assert counts == {("asked", 1), ("all", 2)}
    counts = {(row["scope"], row["sources"]) for row in result["queue_summary"]}
    assert counts == {("asked", 1), ("all", 3)}


def test_a_source_whose_authors_all_asked_has_its_rows_once(result: Gains) -> None:
    assert {row["scope"] for row in result["memory"]} == {"all"}
    assert {row["scope"] for row in result["queue"]} == {"all"}
    sizes = [(row["source"], row["split"], row["strategy"]) for row in result["memory"]]
    assert len(sizes) == len(set(sizes))


def test_groups_weigh_the_same_however_many_jobs_they_have(cells: list[Cell], records: list[Record]) -> None:
    cell = cells[0]
    small = tuple(case for case in cell.cases if case.record.group == "group 0")
    crowded = replace(cell, cases=cell.cases + small * 20)
    plain, same = (sizing(sources_of([one], {}, records), {}, SMALL)[1] for one in (cell, crowded))
    assert plain[0]["strategy"] == AUTHORS
    assert plain[0]["cost"] > 2.0
    assert same == plain


def test_a_better_predictor_waits_less_under_shortest_job_first(result: Gains) -> None:
    rows = {
        row["predictor"]: row
        for row in result["queue_summary"]
        if (row["scope"], row["load"], row["policy"]) == ("all", 0.9, "SJF")
    }
    assert rows[AUTHORS]["ratio"]["mean_wait"] == 1.0
    # All requests are alike, so they order nothing; the medians of jobcast here are the truth.
    assert rows["jobcast"]["ratio"]["mean_wait"] < 1.0
    assert rows["jobcast"]["ratio"]["wasted_gb_hours"] < 1.0
    assert rows[PERFECT]["mean"]["killed"] == 0.0


def test_the_same_input_gives_the_same_result_and_another_seed_another(
    cells: list[Cell], predictions: dict[str, list[FloatArray]], records: list[Record], result: Gains
) -> None:
    again = gains(cells, predictions, records, SMALL)
    assert json.dumps(again) == json.dumps(result)
    other = gains(cells, predictions, records, replace(SMALL, seed=1))
    assert other["queue"] != result["queue"]


def test_the_section_can_be_written_again_from_its_json(result: Gains, tmp_path: Path) -> None:
    reread = json.loads(json.dumps(result, allow_nan=False))
    section = render(reread)
    assert section == render(result)
    assert "nan" not in section
    for row in result["memory_summary"]:
        assert row["strategy"] in section
    written = plot(reread, tmp_path)
    assert [path.name for path in written] == ["scheduling-wait.png", "scheduling-memory.png"]
    for path in written:
        assert f"(img/{path.name})" in section
        assert path.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_the_same_bytes_for_the_same_gains(result: Gains, tmp_path: Path) -> None:
    first, second = plot(result, tmp_path / "a"), plot(result, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_without_any_measurement_the_section_says_so(records: list[Record]) -> None:
    nothing = gains([], {}, records, SMALL)
    assert "Nothing was measured here." in render(nothing)
