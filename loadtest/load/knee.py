"""The knee: the highest rate at which answers still come as they do on a quiet service.

Rates rise by a factor until one is too much, then the gap is halved. Too much: p99 above so many times the p50 that the
first, quiet step had; an error; answers that fall behind what is asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.load.objectives import Measured, Objectives

_FACTOR, _HALVINGS = 1.5, 3
#: Beyond this nobody measures on one machine.
_MOST_PER_SECOND = 2000.0


@dataclass
class Knee:
    """rate: the highest that held, in requests a second; steps: all that was measured, in order."""

    rate: float = 0.0
    too_much: float = float("inf")
    steps: list[Measured] = field(default_factory=list)
    why: str = ""


def find_knee(
    measure: Callable[[float], Measured], first: float, *, times_quiet: float = 10.0, answered: float = 0.95
) -> Knee:
    """measure: a run of an open loop at a rate. Where even the first rate is too much, the knee is at 0."""
    knee = Knee()
    limits: Objectives | None = None

    def holds(rate: float) -> bool:
        nonlocal limits
        run = measure(rate)
        knee.steps.append(run)
        limits = limits or Objectives(p99=times_quiet * run.p50, errors=0.0, answered=answered)
        missed = list(limits.missed(run))
        if missed:
            knee.too_much, knee.why = rate, missed[0]
        else:
            knee.rate = rate
        return not missed

    rate = first
    while rate <= _MOST_PER_SECOND and holds(rate):
        rate *= _FACTOR
    for _ in range(_HALVINGS if knee.rate and knee.too_much < float("inf") else 0):
        holds((knee.rate + knee.too_much) / 2)
    return knee
