"""Load tests of a running service on one core, and the simulation of the same loads beside them.

costs ─► capacity ─► open loops at 50, 70, 90 % of it ─► the same schedules, simulated

The simulation's costs are multiplied, all alike, until it has as much to do in a run as the service's processor time
was: a shared machine does the same work in 25 ms in one minute and in 35 ms in another. Waiting is its own finding.

A machine changes its pace by itself (`loadtest.pace`). The simulation is told how, and has to come out at what all
requests together met. What the service does is seen in the requests that no slow time met, nor what that left to do:
which those are follows from when they were due, never from how long they took.
"""

import json
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from rich.console import Console

from loadtest.capacity.costs import UnitCosts, kind_of, measure_costs, seconds_of_threads
from loadtest.capacity.results import PACES, busy_share, load, save
from loadtest.capacity.simulation import Asked, Simulation
from loadtest.load.generators import run_locust, run_open_loop
from loadtest.load.objectives import Measured, Run
from loadtest.load.scenarios import Mix, schedule, warm_up
from loadtest.pace import Pace, Span, watched_pace
from loadtest.reliability.running import RunningService, running_service

SCENARIO = "steady"
MIXES: tuple[Mix, ...] = ("cold", "hot")
SHARES = (0.5, 0.7, 0.9)
_SERVICE_CORE, _GENERATOR_CORE = 0, 1
CLIENTS, _CAPACITY_SECONDS, _OPEN_SHARE = 32, 10.0, 0.5
#: Of a run at a share of capacity: some thousand requests each, so that no single burst decides the 99th percentile.
_SECONDS = {"cold": 120.0, "hot": 20.0}
_QUIET_RATE, _QUIET_SECONDS = 150.0, 10.0
#: Between which factors the costs of a run are looked for, and how exactly.
_TIMES, _EXACTLY, _TRIALS = (0.2, 5.0), 0.005, 20
#: How far the service's busy share of a run may be from the share that was meant, and runs until it is so near.
_AS_BUSY, _TRIES = {"cold": 0.04, "hot": 0.02}, {"cold": 3, "hot": 5}
#: Of a run: costs are told for each.
_WINDOW_SECONDS, _SAMPLE_SECONDS = 2.0, 0.1
#: The closed loop's own way to hide: the service stands still for so long, in the middle.
_FROZEN_SECONDS, _LOOP_SECONDS, _LOOP_SHARE = 2.0, 40.0, 0.7
console = Console()


def measure() -> None:
    """Everything but bulk scoring; a quarter of an hour."""
    with running_service({"log_level": "warning"}, core=_SERVICE_CORE) as service, _apart():
        costs = measure_costs(service, _SERVICE_CORE)
        console.print(
            f"costs of a new request, ms: { {k: round(1000 * v, 2) for k, v in costs.cold.items()} }"
        )
        most = {mix: _most(service, mix) for mix in MIXES}
        quiet, _, _ = _loaded(service, "hot", _QUIET_SECONDS, _QUIET_RATE, 80)
        client = quiet["measured"]["client_seconds"]
        save("costs", asdict(replace(costs, client=client)))
        for mix in MIXES:
            for seed, share in enumerate(SHARES, 10):
                _at(service, mix, share, _capacity(service, mix, most[mix], 100 + seed), seed)
        _loops(service)
    simulate()


@contextmanager
def _apart() -> Iterator[None]:
    """This process too stays off the service's core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {_GENERATOR_CORE} & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _most(service: RunningService, mix: Mix) -> float:
    """What clients get that ask one after another; the first seconds of a service are its slowest, and not counted."""
    for seconds, seed in ((5.0, 90), (_CAPACITY_SECONDS, 91)):
        run = run_locust(
            service.url, SCENARIO, mix, seconds, clients=CLIENTS, seed=seed, core=_GENERATOR_CORE
        ).measured
    save(f"most {mix}", asdict(run))
    console.print(f"{mix}: at most {run.answered:.1f} requests a second")
    return run.answered


def _capacity(service: RunningService, mix: Mix, most: float, seed: int) -> float:
    """Requests for which the service's core would be busy all of a second, by what an open loop uses for one.

    most: what a closed loop got. It cannot be had in an open loop: there requests do not come in rows that are worked
    off together, and the generator works beside the service instead of in turns with it.
    """
    found, _, _ = _loaded(service, mix, _CAPACITY_SECONDS, _OPEN_SHARE * most, seed)
    return float(found["measured"]["requests"] / sum(found["busy"]))


def _at(service: RunningService, mix: Mix, share: float, capacity: float, seed: int) -> None:
    """A load at a share of what the service can do, by what it could just before.

    The machine's pace goes up and down by the minute. Where the service was busy for another share of the run, capacity
    was another one meanwhile, and there is another run, by what this one used. The one that was busy for nearest to the
    share that was meant counts; nothing else decides.
    """
    name = f"run {mix} {share}"
    nearest = math.inf
    for tried in range(1, _TRIES[mix] + 1):
        rate = share * capacity
        found, run, pace = _loaded(service, mix, _SECONDS[mix], rate, seed + 20 * tried)
        busy = busy_share(found)
        console.print(f"{mix} at {share:.0%} of {capacity:.1f}: {found['measured']}, busy {busy:.0%}")
        if abs(busy - share) < nearest:
            nearest = abs(busy - share)
            kept = undisturbed(run, pace, run.measured.p50, busy)
            by_itself = asdict(of_kept(run, kept))
            save(name, {**found, "share": share, "capacity": capacity, "steady": by_itself, "tried": tried})
            due = [moment - run.began for moment in run.due]
            each = {"due": due, "milliseconds": list(run.milliseconds), "steady": kept.tolist()}
            save(name, {**asdict(pace), **each}, PACES)
        if nearest <= _AS_BUSY[mix]:
            break
        capacity *= share / busy


def _loaded(
    service: RunningService, mix: Mix, seconds: float, rate: float, seed: int
) -> tuple[dict[str, Any], Run, Pace]:
    """An open loop: what became of it, for how long the service's core was busy, and how steady that core was.

    The probe of its pace is on that core too, and counts as work of it.
    """
    with watched_pace(_SERVICE_CORE) as watched, _watched_use(service) as used:
        run = run_open_loop(service.url, SCENARIO, mix, seconds, rate=rate, seed=seed, core=_GENERATOR_CORE)
    pace = _since_then(watched, run.began, seconds)
    moments, busy = zip(*used, strict=True)
    windows = run.began + np.linspace(0.0, seconds, round(seconds / _WINDOW_SECONDS) + 1)
    found = {
        "measured": asdict(run.measured),
        "busy": (np.diff(np.interp(windows, moments, busy)) + watched.used * np.diff(windows)).tolist(),
        "lost": pace.lost / seconds,
        "asleep": pace.asleep,
        "rate": rate,
        "seed": seed,
        "seconds": seconds,
    }
    return found, run, pace


@contextmanager
def _watched_use(service: RunningService) -> Iterator[list[tuple[float, float]]]:
    """(moment of `time.perf_counter()`, processor seconds of all threads of the service), a few times a second."""
    found: list[tuple[float, float]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            found.append((time.perf_counter(), sum(seconds_of_threads(service).values())))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _since_then(pace: Pace, began: float, seconds: float) -> Pace:
    """The profile from a moment on, which is 0 then."""
    inside = (
        replace(one, since=max(0.0, one.since - began), to=min(seconds, one.to - began))
        for one in pace.profile
    )
    return Pace(profile=[one for one in inside if one.since < one.to], seconds=seconds, asleep=pace.asleep)


def _pace_of(name: str) -> Pace:
    found = load(PACES)[name]
    return Pace(profile=[Span(**one) for one in found["profile"]], seconds=found["seconds"])


def undisturbed(run: Run, pace: Pace, usual: float, busy: float) -> np.ndarray:
    """[requests], whether no slow time met it.

    pace: its moments count from the run's beginning; usual: milliseconds of a request; busy: the service's share.
    """
    return pace.undisturbed([due - run.began for due in run.due], usual / 1000, busy)


def of_kept(run: Run, kept: np.ndarray) -> Measured:
    """Of some of the requests. Failures count, whenever they were."""
    measured = run.measured
    milliseconds: list[float] = np.asarray(run.milliseconds)[kept].tolist()
    found = Measured.of(milliseconds, measured.failures, measured.offered, 1.0)
    return replace(found, answered=measured.answered)


def simulate() -> None:
    """The runs that were measured once more, by the simulation."""
    content = load()
    costs = costs_of(content["costs"])
    for name, run in content.items():
        if name.startswith("run "):
            pace = _pace_of(name)
            mix = name.split()[1]
            then = replace(costs, client=run["measured"]["client_seconds"], asleep=run["asleep"])
            times, found = as_busy(then, mix, run, pace.profile)  # type: ignore[arg-type]
            kept = undisturbed(found, pace, run["measured"]["p50"], busy_share(run))
            by_itself = of_kept(found, kept)
            simulated_too = {"simulated": asdict(found.measured), "simulated_steady": asdict(by_itself)}
            save(name, {**run, **simulated_too, "times": list(times)})


def as_busy(
    costs: UnitCosts, mix: Mix, run: Mapping[str, Any], paces: Sequence[Span] = ()
) -> tuple[np.ndarray, Run]:
    """[windows], by how much all costs are multiplied to keep the service as busy as it was in a run; and that run.

    How busy a service is says nothing of waiting: that is what the simulation has to find.
    """
    measured = np.array(run["busy"])
    times = np.ones(len(measured))
    for _ in range(_TRIALS):
        busy, found = simulated(costs, mix, run["rate"], run["seconds"], run["seed"], paces, times)
        off = measured / np.maximum(busy, 1e-9)
        if np.abs(off - 1).max() < _EXACTLY:
            break
        times = np.clip(times * off, *_TIMES)
    return times, found


def simulated(
    costs: UnitCosts,
    mix: Mix,
    rate: float,
    seconds: float,
    seed: int,
    paces: Sequence[Span] = (),
    times: Sequence[float] | np.ndarray = (1.0,),
) -> tuple[np.ndarray, Run]:
    """What the simulation says to the very schedule that was kept, on a machine with these paces.

    Also, of each window, the seconds for which the service had work.
    """
    planned = schedule(SCENARIO, mix, rate, seconds, seed)
    simulation = Simulation(
        costs,
        known=warm_up(SCENARIO, mix),
        paces=paces,
        times=[*times, times[-1]],  # what is left after the last request goes on at the last pace
        window=seconds / len(times),
    )
    milliseconds = list(
        1000 * simulation.run([Asked(one.seconds, one.body, kind_of(one.body)) for one in planned])
    )
    due = [moment for moment, _ in simulation.answered]
    last = max(moment + waited for moment, waited in simulation.answered)
    measured = Measured.of(milliseconds, {}, len(planned) / seconds, last)
    return np.array(simulation.busy[:-1]), Run(measured, due, milliseconds, 0.0)


def costs_of(content: dict[str, Any]) -> UnitCosts:
    """From the file of results."""
    fields: dict[str, Any] = {name: content[name] for name in UnitCosts.__dataclass_fields__}
    for name, one in fields.items():
        if isinstance(one, list):
            fields[name] = tuple(one)
    return UnitCosts(**fields)


def _loops(service: RunningService) -> None:
    """The same scenario in both loops, the service standing still for a while in the middle of each."""
    before = load()[f"run cold {_LOOP_SHARE}"]
    rate = before["rate"]
    clients = max(1, round(rate * before["measured"]["p50"] / 1000))
    found: dict[str, Any] = {}
    for loop in ("open", "closed"):
        with _standstill(service, _LOOP_SECONDS / 2):
            run = run_locust(
                service.url,
                SCENARIO,
                "cold",
                _LOOP_SECONDS,
                rate=rate if loop == "open" else None,
                clients=clients if loop == "closed" else 1,
                seed=60 + len(found),
                core=_GENERATOR_CORE,
            ).measured
        found[loop] = asdict(run)
    save("loops", {**found, "clients": clients, "rate": rate, "frozen_seconds": _FROZEN_SECONDS})
    console.print(f"open and closed: {json.dumps(found)}")


@contextmanager
def _standstill(service: RunningService, after: float) -> Iterator[None]:
    """For a while, some seconds from now."""

    def freeze() -> None:
        time.sleep(after)
        service.stand_still(_FROZEN_SECONDS)

    thread = threading.Thread(target=freeze)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def deviations(
    run: dict[str, Any], measured: str = "measured", simulated: str = "simulated"
) -> dict[str, float]:
    """Of the simulation from the measurement, relative, per figure."""
    names = ("answered", "p50", "p95", "p99")
    return {name: run[simulated][name] / run[measured][name] - 1 for name in names}
