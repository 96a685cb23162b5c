"""What must hold of the measured figures, and whether it does."""

import math
from dataclasses import dataclass
from typing import Any

from loadtest.capacity.measure import MIXES, deviations

#: How far the simulation may be from the measurement.
_DEVIATION = 0.20
_TAIL, _OF_THE_ENGINE = 5.0, 0.9
#: Of the requests behind a quantile: with fewer beyond it, chance decides where it is.
_BEYOND = 10
_SHARE_BEYOND = {"p50": 0.5, "p95": 0.05, "p99": 0.01}
_COMPARED = {
    "all requests": ("measured", "simulated"),
    "the machine steady": ("steady", "simulated_steady"),
}


@dataclass(frozen=True)
class Verdict:
    """One line of the page's first table."""

    what: str
    measured: str
    bound: str
    holds: bool


def verdicts_of(content: dict[str, Any]) -> list[Verdict]:
    """Of what is there: a part that was not measured has none."""
    found = []
    for mix in MIXES:
        if run := content.get(f"run {mix} 0.7"):
            tail, every = (run[part]["p99"] / run[part]["p50"] for part in ("steady", "measured"))
            told = f"{tail:.2f}" + (f" ({every:.2f} with its slow times)" if run["lost"] else "")
            what = f"p99 / p50 at 70 %, {mix}, the machine steady"
            found.append(Verdict(what, told, f"at most {_TAIL:.0f}", tail <= _TAIL))
            errors = run["measured"]["errors"]
            found.append(Verdict(f"errors at 70 %, {mix}", f"{errors:.2%}", "none", errors == 0))
    simulated = {name: run for name, run in content.items() if name.startswith("run ") and "simulated" in run}
    for name, run in simulated.items():
        for what, parts in _COMPARED.items():
            requests = run[parts[0]]["requests"]
            few = [quantile for quantile, share in _SHARE_BEYOND.items() if share * requests < _BEYOND]
            # What is not a number is worse than any.
            figure, worst = max(
                ((judged, off) for judged, off in deviations(run, *parts).items() if judged not in few),
                key=lambda entry: math.inf if math.isnan(entry[1]) else abs(entry[1]),
            )
            told = f"{figure} {worst:+.1%}"
            if few:
                told += f" (not judged, of {requests} requests: {', '.join(few)})"
            found.append(
                Verdict(
                    f"simulation beside {name}, {what}, worst figure",
                    told,
                    "within 20 %",
                    abs(worst) <= _DEVIATION,
                )
            )
    if bulk := content.get("bulk"):
        share = bulk["of_the_engine"]
        told = f"{share:.2f}"
        if "of_the_engine_error" in bulk:
            told += f" ± {bulk['of_the_engine_error']:.2f}"
        found.append(
            Verdict("bulk scoring / engine", told, f"at least {_OF_THE_ENGINE}", share >= _OF_THE_ENGINE)
        )
        equal = {"killed twice and resumed": "killed_twice_is_equal", "Ray Data": "ray_is_equal"}
        found += [
            Verdict(f"bulk scoring, {name}: the same bytes", str(bulk[key]), "True", bulk[key])
            for name, key in equal.items()
            if key in bulk
        ]
    return found
