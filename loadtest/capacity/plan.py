"""Replicas and prices for a load, from unit costs.

A replica is what was measured: one process on one core. It is planned for a share of its capacity at which its answers
still come evenly. On a GPU nothing was measured: its figures are scaled, and say so.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from loadtest.capacity.costs import UnitCosts
from loadtest.capacity.simulation import Asked, Simulation

RATES = (10, 1_000, 100_000)
HIT_SHARES = (0.0, 0.5, 0.9)


@dataclass(frozen=True)
class Assumptions:
    """What was not measured here. Prices are examples and belong to whoever plans.

    busy: the share of a replica's capacity that is planned with. core_hour, gpu_hour: US dollars.
    gpu_flops: peak of dense bf16; gpu_share: what so small a model gets of it; parameters: of the decoder, two
    operations each for a token.
    """

    busy: float = 0.7
    core_hour: float = 0.0816 / 2
    core_source: str = "m7g.large (2 vCPU) on demand, us-east-1, 0.0816 $/h in June 2026"
    gpu_hour: float = 1.006
    gpu_source: str = "g5.xlarge (one A10G) on demand, us-east-1, 1.006 $/h in June 2026"
    gpu_flops: float = 125e12
    gpu_flops_source: str = "NVIDIA's data sheet of the A10, dense bf16"
    gpu_share: float = 0.02
    parameters: int = 1_565_760


@dataclass(frozen=True)
class Need:
    """What a rate of predictions a second takes, a share of them kept. p50, p99: ms, simulated at `busy`."""

    rate: int
    hits: float
    replicas: int
    dollars_a_month: float
    front_ends: int
    gpus: int
    gpu_dollars_a_month: float
    p50: float
    p99: float


_HOURS_A_MONTH = 730


def needs(costs: UnitCosts, assumed: Assumptions) -> list[Need]:
    """One for every rate and hit share."""
    latencies = {hits: _latency(costs, hits, assumed.busy) for hits in HIT_SHARES}
    return [_need(costs, assumed, rate, hits, latencies[hits]) for rate in RATES for hits in HIT_SHARES]


def seconds_of_core(costs: UnitCosts, hits: float, *, engine: bool = True) -> float:
    """Per prediction; without the engine: of a front end whose engine is elsewhere."""
    parts = costs.cold
    new = sum(seconds for part, seconds in parts.items() if engine or part != "engine")
    return hits * costs.hit + (1 - hits) * new


def gpu_seconds(costs: UnitCosts, assumed: Assumptions) -> float:
    """Of one GPU, for a new request: scaled, not measured."""
    operations = 2 * assumed.parameters * float(np.mean(costs.tokens))
    return operations / (assumed.gpu_flops * assumed.gpu_share)


def break_even(costs: UnitCosts, assumed: Assumptions) -> float:
    """New predictions a second from which one GPU costs less than the cores that it replaces."""
    saved = costs.cold["engine"] / assumed.busy * assumed.core_hour
    return assumed.gpu_hour / saved


def _need(
    costs: UnitCosts, assumed: Assumptions, rate: int, hits: float, latency: tuple[float, float]
) -> Need:
    replicas = math.ceil(rate * seconds_of_core(costs, hits) / assumed.busy)
    fronts = math.ceil(rate * seconds_of_core(costs, hits, engine=False) / assumed.busy)
    gpus = math.ceil(rate * (1 - hits) * gpu_seconds(costs, assumed) / assumed.busy)
    month = _HOURS_A_MONTH * assumed.core_hour
    return Need(
        rate=rate,
        hits=hits,
        replicas=replicas,
        dollars_a_month=replicas * month,
        front_ends=fronts,
        gpus=gpus,
        gpu_dollars_a_month=fronts * month + gpus * _HOURS_A_MONTH * assumed.gpu_hour,
        p50=latency[0],
        p99=latency[1],
    )


def _latency(costs: UnitCosts, hits: float, busy: float) -> tuple[float, float]:
    """p50 and p99 in milliseconds of a replica at its share of capacity, so many of its requests being kept."""
    random = np.random.default_rng(3)
    count = 3000
    moments = np.cumsum(random.exponential(seconds_of_core(costs, hits) / busy, count))
    kept = random.random(count) < hits
    asked = [
        Asked(float(moment), "kept" if known else place)
        for place, (moment, known) in enumerate(zip(moments, kept, strict=True))
    ]
    # Clients are many, and on machines of their own.
    taken = Simulation(replace(costs, client=0.0), known=["kept"]).run(asked)
    return float(1000 * np.quantile(taken, 0.5)), float(1000 * np.quantile(taken, 0.99))
