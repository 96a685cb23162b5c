"""The simulation beside what queueing theory knows, and the rules of the batcher that it must follow."""

from dataclasses import replace

import numpy as np
import pytest

from loadtest.capacity.costs import UnitCosts
from loadtest.capacity.measure import as_busy, of_kept, simulated, undisturbed
from loadtest.capacity.plan import Assumptions, break_even, needs, seconds_of_core
from loadtest.capacity.simulation import Asked, Limits, Simulation
from loadtest.load.objectives import Measured, Run
from loadtest.pace import Pace, Span

COSTS = UnitCosts(
    kinds=("text",),
    reading=(0.004,),
    prompts=(1,),
    tokens=(100,),
    engine_call=0.010,
    engine_prompt=0.0,
    engine_token=0.0,
    engine_seconds=(),
    hit=0.001,
    miss=0.002,
    beside=0.5,
    reader_beside=0.5,
)


def poisson(per_second: float, count: int, seed: int = 0) -> list[Asked]:
    moments = np.cumsum(np.random.default_rng(seed).exponential(1 / per_second, count))
    return [Asked(float(moment), place) for place, moment in enumerate(moments)]


def test_a_request_alone_takes_what_its_parts_take() -> None:
    assert Simulation(COSTS).run([Asked(1.0, "a")]) == pytest.approx([0.002 + 0.004 + 0.010])
    assert Simulation(COSTS, known=["a"]).run([Asked(1.0, "a")]) == pytest.approx([0.001])


def test_a_request_costs_what_its_kind_costs() -> None:
    mixed = replace(COSTS, kinds=("a", "b"), reading=(0.004, 0.104), prompts=(1, 1), tokens=(100, 100))
    taken = Simulation(mixed).run([Asked(10.0 * place, place, "ab"[place % 2]) for place in range(10)])
    assert taken[::2] == pytest.approx(0.016)
    assert taken[1::2] == pytest.approx(0.116)


def test_the_generator_has_a_core_and_a_queue_of_its_own() -> None:
    slow = replace(COSTS, client=0.02)
    taken = Simulation(slow, known=["a"]).run([Asked(0.0, "a"), Asked(0.0, "a")])
    assert taken[0] == pytest.approx(0.030)  # sent after 10 ms, received behind the second one's sending
    assert taken[1] == pytest.approx(0.040)


def test_kept_answers_wait_as_an_m_d_1_queue_does() -> None:
    share = 0.8
    asked = [Asked(one.seconds, "a") for one in poisson(share / COSTS.hit, 40_000)]
    taken = Simulation(COSTS, known=["a"]).run(asked)
    # Pollaczek-Khinchine for a constant service time.
    expected = COSTS.hit * (1 + share / (2 * (1 - share)))
    assert np.mean(taken) == pytest.approx(expected, rel=0.05)


def test_everybody_is_answered_even_above_capacity_and_the_cores_are_never_idle() -> None:
    asked = poisson(1000, 2000)
    simulation = Simulation(replace(COSTS, engine_prompt=0.001))
    assert len(simulation.run(asked)) == 2000
    end = max(due + seconds for due, seconds in simulation.answered)
    work = 2000 * (0.002 + 0.004 + 0.001) + len(simulation.calls) * 0.010
    assert end == pytest.approx(work, rel=0.02)


def test_an_idle_engine_starts_at_once_and_a_busy_one_collects() -> None:
    quick = replace(COSTS, reading=(0.0,), miss=0.0, hit=0.0)
    simulation = Simulation(quick, cores=4)
    taken = simulation.run([Asked(0.0, 0), Asked(0.001, 1), Asked(0.002, 2), Asked(0.003, 3)])
    assert simulation.calls == [1, 3]
    assert taken == pytest.approx([0.010, 0.019, 0.018, 0.017])


def test_an_engine_that_came_free_waits_for_company_as_long_as_the_oldest_may_wait() -> None:
    quick = replace(COSTS, reading=(0.0,), miss=0.0, hit=0.0)
    simulation = Simulation(quick, cores=4, limits=Limits(wait_seconds=0.002))
    taken = simulation.run([Asked(0.0, 0), Asked(0.0095, 1), Asked(0.0105, 2)])
    assert simulation.calls == [1, 2]
    assert taken[1] == pytest.approx(0.002 + 0.010)


def test_calls_keep_the_limits_of_the_batcher() -> None:
    asked = [Asked(0.0, place) for place in range(100)]
    quick = replace(COSTS, reading=(0.0,), miss=0.0, hit=0.0)
    few = Simulation(quick, limits=Limits(max_batch=7))
    few.run(asked)
    assert max(few.calls) == 7
    short = Simulation(quick, limits=Limits(max_batch_tokens=350))
    short.run(asked)
    assert max(short.calls) == 3


def test_equal_requests_under_way_are_computed_once_and_kept() -> None:
    simulation = Simulation(COSTS)
    taken = simulation.run([Asked(0.0, "a"), Asked(0.001, "a"), Asked(1.0, "a")])
    assert simulation.calls == [1]
    assert taken[-1] == pytest.approx(COSTS.hit)


def test_on_one_core_what_was_read_is_computed_before_more_is_read() -> None:
    """What comes during a call is read during it on two cores only, or where many wait."""
    alone = COSTS.reading[0] + COSTS.engine_call + COSTS.miss
    asked = [Asked(0.0, 0), Asked(0.010, 1)]
    assert Simulation(COSTS).run(asked)[0] == pytest.approx(alone + COSTS.miss / 2)
    many = Simulation(COSTS, limits=Limits(read_ahead=0)).run(asked)
    assert many[0] > alone + COSTS.miss
    assert Simulation(COSTS, cores=2).run(asked)[1] < many[1]


def test_more_cores_shorten_what_can_be_done_beside_each_other() -> None:
    asked = poisson(55, 3000)
    one, two = (float(np.quantile(Simulation(COSTS, cores=cores).run(asked), 0.95)) for cores in (1, 2))
    assert two < one


def test_a_plan_grows_with_the_load_and_shrinks_with_what_is_kept() -> None:
    found = {(need.rate, need.hits): need for need in needs(COSTS, Assumptions())}
    assert found[10, 0.0].replicas == 1
    assert found[1000, 0.0].replicas > found[1000, 0.5].replicas > found[1000, 0.9].replicas
    whole = 100_000 * seconds_of_core(COSTS, 0.5) / Assumptions().busy
    assert found[100_000, 0.5].replicas == pytest.approx(whole, abs=1)
    for need in found.values():
        assert 0 < need.p50 <= need.p99


def test_a_gpu_pays_off_sooner_where_it_is_cheaper() -> None:
    cheap, dear = (break_even(COSTS, Assumptions(gpu_hour=price)) for price in (0.5, 1.0))
    assert dear == pytest.approx(2 * cheap)


def test_an_event_loop_that_slept_costs_its_waking() -> None:
    sleepy = replace(COSTS, wake=((0.0, 0.001), (0.1, 0.005)))
    due = (0.0, 0.0, 1.0, 1.056, 1.0595)
    taken = Simulation(sleepy, known=["a"]).run([Asked(one, "a") for one in due])
    # The longer it slept the more it costs; who comes while it works pays nothing.
    assert taken == pytest.approx([0.006, 0.007, 0.006, 0.004, 0.0015])


def test_an_answer_does_not_wait_for_what_is_done_after_it() -> None:
    costs = replace(COSTS, after=0.0004)
    alone = Simulation(COSTS).run([Asked(0.0, 0)])[0]
    simulation = Simulation(costs, known=["kept"])
    # The next one does, and so does the core: it is busy as before.
    taken = simulation.run([Asked(0.0, "kept"), Asked(0.0, "kept"), Asked(1.0, 0)])
    assert taken == pytest.approx([COSTS.hit - 0.0004, 2 * COSTS.hit - 0.0004, alone - 0.0004])
    assert sum(simulation.busy) == pytest.approx(2 * COSTS.hit + alone)


def test_a_machine_that_stands_still_keeps_everybody_waiting() -> None:
    alone = Simulation(COSTS).run([Asked(0.0, 0)])[0]
    slow = [Span(0.0, 0.5, pace=0.0), Span(0.6, 0.7, pace=0.5)]
    simulation = Simulation(COSTS, known=["kept"], paces=slow)
    taken = simulation.run([Asked(0.1, 0), Asked(0.6, "kept"), Asked(0.8, "kept")])
    assert taken == pytest.approx([0.4 + alone, 2 * COSTS.hit, COSTS.hit])


def test_what_a_slow_time_met_is_told_by_when_it_was_due() -> None:
    """One of a tenth of a second at half of capacity leaves work for another 0.16 s."""
    due = np.arange(0, 2, 0.01)
    milliseconds = np.where(np.arange(200) % 2, 20.0, 10.0)
    run = Run(
        Measured.of(list(milliseconds), {"503": 2}, 100.0, 2.0), list(100.0 + due), list(milliseconds), 100.0
    )
    pace = Pace(profile=[Span(1.0, 1.1, pace=0.2)], seconds=2.0)
    found = of_kept(run, undisturbed(run, pace, 15.0, 0.5))
    # 0.975 (a usual time before, and a pause of the probe) to 1.1 + 0.02 (its edge) + 0.16 (left to do)
    assert found.requests == 2 + np.count_nonzero((due < 0.9749) | (due > 1.2799))
    assert found.failures == {"503": 2}
    assert found.p50 == pytest.approx(15.0, abs=5.1)


def test_costs_are_those_that_keep_the_service_as_busy() -> None:
    kinds = replace(
        COSTS, kinds=("slurm", "github-actions"), reading=(0.004,) * 2, prompts=(1,) * 2, tokens=(100,) * 2
    )
    run = {"rate": 30.0, "seconds": 20.0, "seed": 5}
    slow = [Span(3.0, 4.0, pace=0.2)]
    paces = np.array([1.0, 1.3])
    busy, expected = simulated(kinds, "cold", 30.0, 20.0, 5, slow, paces)
    assert 3 < busy[0] < busy[1] < 10
    times, found = as_busy(kinds.times(1.25), "cold", {**run, "busy": busy.tolist()}, slow)
    assert times == pytest.approx(paces / 1.25, rel=0.02)
    assert found.measured.p95 == pytest.approx(expected.measured.p95, rel=0.05)


def test_who_comes_to_a_core_that_sleeps_waits_until_it_is_awake() -> None:
    sleepy = replace(COSTS, asleep=0.010)
    simulation = Simulation(sleepy, known=["a"])
    taken = simulation.run([Asked(0.0, "a"), Asked(0.004, "a"), Asked(0.0115, "a"), Asked(1.0, "a")])
    # The second finds the first waiting, the third a core at work.
    assert taken == pytest.approx([0.011, 0.008, 0.0015, 0.011])
    assert simulation.busy == pytest.approx([4 * COSTS.hit])
