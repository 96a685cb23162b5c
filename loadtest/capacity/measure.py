"""Load tests of a running service on one core, and the simulation of the same loads beside them.

costs ─► capacity (closed loop), scales the costs ─► open loops at 50, 70, 90 % of it ─► the same schedules, simulated

A machine may stand still by itself (`loadtest.pace`). The simulation is told when it did, and has to come out at what
all requests together met. What the service does is seen in the requests that no standstill met, nor what it left to do:
which those are follows from when they were due, never from how long they took.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from scipy.optimize import brentq

from loadtest.capacity.costs import UnitCosts, kind_of, measure_costs
from loadtest.capacity.results import PACES, load, save
from loadtest.capacity.simulation import Asked, Simulation
from loadtest.load.locust_process import run_locust
from loadtest.load.objectives import Measured, Run
from loadtest.load.scenarios import Mix, endless, schedule, warm_up
from loadtest.pace import Pace, Slow, watched_pace
from loadtest.reliability.running import RunningService, running_service

SCENARIO = "steady"
MIXES: tuple[Mix, ...] = ("cold", "hot")
SHARES = (0.5, 0.7, 0.9)
_SERVICE_CORE, _LOCUST_CORE = 0, 1
_CLIENTS, _CAPACITY_SECONDS, _CAPACITY_SEED = 32, 20.0, 91
#: Between which factors the costs are scaled.
_TIMES = (0.3, 3.0)
#: Of a run at a share of capacity: some thousand requests each, so that no single burst decides the 99th percentile.
_SECONDS = {"cold": 120.0, "hot": 20.0}
_QUIET_SHARE, _QUIET_SECONDS = 0.15, 10.0
#: The closed loop's own way to hide: the service stands still for so long, in the middle.
_FROZEN_SECONDS, _LOOP_SECONDS, _LOOP_SHARE = 2.0, 40.0, 0.7
console = Console()


def measure() -> None:
    """Everything but bulk scoring; about twelve minutes."""
    with running_service({"log_level": "warning"}, core=_SERVICE_CORE) as service:
        with watched_pace(_LOCUST_CORE) as pace:
            alone = measure_costs(service, _SERVICE_CORE)
        costs = replace(alone, probe=pace.usual)  # known once the probe has ended
        console.print(
            f"costs of a new request, ms: { {k: round(1000 * v, 2) for k, v in costs.cold.items()} }"
        )
        capacities = {mix: _capacity(service, mix) for mix in MIXES}
        # The generator's seconds are those that it has when it has many requests, so that what it does besides counts
        # little.
        costs = replace(costs, client=capacities["hot"].client_seconds)
        save("costs", asdict(costs))
        _quiet(service, capacities["hot"])
        for mix, capacity in capacities.items():
            for seed, share in enumerate(SHARES, 10):
                name = f"run {mix} {share}"
                found = _at(service, name, mix, share * capacity.answered, share, seed)
                save(name, found)
                console.print(f"{mix} at {share:.0%}: {found['measured']}, steady: {found['steady']}")
        _loops(service)
    simulate()


def _at(service: RunningService, name: str, mix: Mix, rate: float, share: float, seed: int) -> dict[str, Any]:
    """A load at a share of capacity, and how steady the machine was meanwhile."""
    seconds = _SECONDS[mix]
    with watched_pace(_LOCUST_CORE) as pace:
        run = run_locust(service.url, SCENARIO, mix, seconds, rate=rate, seed=seed, core=_LOCUST_CORE)
    slow = _save_pace(name, run, pace, seconds).profile
    return {
        "measured": asdict(run.measured),
        "steady": asdict(steady(run, pace, share)),
        "stood_still": sum((1 - one.pace) * (one.to - one.since) for one in slow) / seconds,
        "probe": pace.usual,
        "rate": rate,
        "share": share,
        "seed": seed,
        "seconds": seconds,
    }


def _save_pace(name: str, run: Run, pace: Pace, seconds: float) -> Pace:
    """How the pace went, from the first request on."""

    def since_then(spans: Sequence[Slow]) -> list[Slow]:
        return [
            Slow(one.since - run.began, one.to - run.began, one.pace)
            for one in spans
            if run.began <= one.since and one.to <= run.began + seconds
        ]

    found = replace(pace, slow=since_then(pace.slow), profile=since_then(pace.profile))
    save(name, asdict(found), PACES)
    return found


def _pace_of(name: str) -> Pace:
    found = load(PACES)[name]
    return Pace(*([Slow(**one) for one in found[spans]] for spans in ("slow", "profile")))


def steady(run: Run, pace: Pace, share: float) -> Measured:
    """Of the requests that no standstill met. share: of capacity; what is left is worked off by the rest of it.

    A standstill meets what was due up to the usual time of a request before it. Failures count, whenever they were.
    """

    def backlog(slow: Slow) -> float:
        return (1 - slow.pace) * (slow.to - slow.since) * share / (1 - share)

    usual = run.measured.p50 / 1000
    kept = [
        milliseconds
        for due, milliseconds in zip(run.due, run.milliseconds, strict=True)
        if not pace.was_slow(due, before=usual, backlog=backlog)
    ]
    measured = run.measured
    found = Measured.of(kept, measured.failures, measured.offered, 1.0)
    return replace(found, answered=measured.answered)


def _capacity(service: RunningService, mix: Mix) -> Measured:
    """What clients get that ask one after another; the first seconds of a service are its slowest, and not counted."""
    for seconds, seed in ((5.0, 90), (_CAPACITY_SECONDS, _CAPACITY_SEED)):
        with watched_pace(_LOCUST_CORE) as pace:
            run = run_locust(
                service.url, SCENARIO, mix, seconds, clients=_CLIENTS, seed=seed, core=_LOCUST_CORE
            )
    found = run.measured
    _save_pace(f"capacity {mix}", run, pace, _CAPACITY_SECONDS)
    save(f"capacity {mix}", {**asdict(found), "probe": pace.usual})
    console.print(f"{mix}: capacity {found.answered:.1f} requests a second")
    return found


def _quiet(service: RunningService, capacity: Measured) -> None:
    """Kept answers where hardly anything waits, but the cores do not sleep. capacity: of kept answers."""
    rate = _QUIET_SHARE * capacity.answered
    with watched_pace(_LOCUST_CORE) as pace:
        run = run_locust(service.url, SCENARIO, "hot", _QUIET_SECONDS, rate=rate, seed=80, core=_LOCUST_CORE)
    save("quiet hot", {**asdict(run.measured), "probe": pace.usual})


def to_capacities(costs: UnitCosts, content: dict[str, Any]) -> UnitCosts:
    """Costs with which the clients of the capacity tests get from the simulation what they got from the service.

    What a kept answer takes beyond them, on a quiet service, it takes outside of it.
    """
    costs = _to_capacity(costs, "hot", UnitCosts.with_kept, content["capacity hot"])
    quiet = content["quiet hot"]
    taken = quiet["p50"] / 1000 * costs.probe / quiet["probe"]
    costs = replace(costs, outside=max(0.0, taken - costs.hit - costs.wake - costs.client))
    return _to_capacity(costs, "cold", UnitCosts.with_new, content["capacity cold"])


def _to_capacity(
    costs: UnitCosts, mix: Mix, scaled: Callable[[UnitCosts, float], UnitCosts], measured: dict[str, Any]
) -> UnitCosts:
    """The costs, scaled by the factor that gives the capacity of one mix; the larger it is, the less that is."""
    then, slow = costs.at_pace(costs.probe / measured["probe"]), _pace_of(f"capacity {mix}").profile

    def excess(times: float) -> float:
        return capacity_of(scaled(then, times), mix, slow) - float(measured["answered"])

    return scaled(costs, float(brentq(excess, *_TIMES, xtol=0.002)))


def capacity_of(costs: UnitCosts, mix: Mix, slow: Sequence[Slow] = ()) -> float:
    """Requests a second that the simulation gives to the clients of the capacity test."""
    asked = (Asked(0.0, due.body, kind_of(due.body)) for due in endless(SCENARIO, mix, _CAPACITY_SEED))
    simulation = Simulation(costs, known=warm_up(SCENARIO, mix), slow=slow)
    return simulation.run_closed(asked, _CLIENTS, _CAPACITY_SECONDS)


def simulate() -> None:
    """The runs that were measured once more, by the simulation."""
    content = load()
    costs = to_capacities(costs_of(content["costs"]), content)
    save("costs", asdict(costs))
    for name, run in content.items():
        if name.startswith("run "):
            mix = name.split()[1]
            pace = _pace_of(name)
            then = costs.at_pace(costs.probe / run["probe"])
            found = simulated(then, mix, run["rate"], run["seconds"], run["seed"], pace.profile)  # type: ignore[arg-type]
            by_itself = steady(found, pace, run["share"])
            save(name, {**run, "simulated": asdict(found.measured), "simulated_steady": asdict(by_itself)})


def simulated(
    costs: UnitCosts, mix: Mix, rate: float, seconds: float, seed: int, slow: Sequence[Slow] = ()
) -> Run:
    """What the simulation says to the very schedule that Locust keeps, on a machine that is slow now and then."""
    planned = schedule(SCENARIO, mix, rate, seconds, seed)
    simulation = Simulation(costs, known=warm_up(SCENARIO, mix), slow=slow)
    milliseconds = list(
        1000 * simulation.run([Asked(one.seconds, one.body, kind_of(one.body)) for one in planned])
    )
    due = [moment for moment, _ in simulation.answered]
    last = max(moment + waited for moment, waited in simulation.answered)
    measured = Measured.of(milliseconds, {}, len(planned) / seconds, last)
    return Run(measured, due, milliseconds, 0.0)


def costs_of(content: dict[str, Any]) -> UnitCosts:
    """From the file of results."""
    fields: dict[str, Any] = {name: content[name] for name in UnitCosts.__dataclass_fields__}
    for name, one in fields.items():
        if isinstance(one, list):
            fields[name] = tuple(one)
    return UnitCosts(**fields)


def _loops(service: RunningService) -> None:
    """The same scenario in both loops, the service standing still for a while in the middle of each."""
    capacity = load()["capacity cold"]["answered"]
    rate = _LOOP_SHARE * capacity
    clients = max(1, round(rate * load()[f"run cold {_LOOP_SHARE}"]["measured"]["p50"] / 1000))
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
                core=_LOCUST_CORE,
            ).measured
        found[loop] = asdict(run)
    save("loops", {**found, "clients": clients, "rate": rate, "frozen_seconds": _FROZEN_SECONDS})
    console.print(f"open and closed: {json.dumps(found)}")


@contextmanager
def _standstill(service: RunningService, after: float) -> Iterator[None]:
    """SIGSTOP for a while, some seconds from now."""

    def freeze() -> None:
        time.sleep(after)
        service.process.send_signal(signal.SIGSTOP)
        time.sleep(_FROZEN_SECONDS)
        service.process.send_signal(signal.SIGCONT)

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
