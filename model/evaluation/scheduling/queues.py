"""Every policy with every predictor on the same traces: means over draws, and ratios to the authors' requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np

from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import Predictions, Rows, Source
from model.evaluation.scheduling.estimates import estimates_of
from model.evaluation.scheduling.memory import AUTHORS
from model.evaluation.scheduling.options import Options, rounded
from model.evaluation.scheduling.outcome import METRICS, outcome
from model.evaluation.scheduling.replay import POLICIES, Cluster, Estimates, replay
from model.evaluation.scheduling.scopes import ALL, ASKED, scopes_of
from model.evaluation.scheduling.trace import Drawn, cluster_of, traces

#: Ratios are taken of values that are at least so large: a wait that falls from 10 ms to 1 ms gains nobody anything.
LEAST = {"mean_wait": 1.0, "p95_wait": 1.0, "wasted_gb_hours": 1e-6, "killed": 1e-3}
RATIOS = ("mean_wait", "p95_wait", "bounded_slowdown", "makespan", "wasted_gb_hours")


class QueueRow(TypedDict):
    """One source under one policy and predictor: metric -> mean and standard deviation over the draws."""

    scope: str
    source: str
    load: float
    policy: str
    predictor: str
    mean: dict[str, float]
    sd: dict[str, float]


class QueueSummary(TypedDict):
    """All sources of a scope, weighing the same.

    mean: metric -> mean over sources (shares and slowdown only). ratio, ratio_sd: metric -> geometric mean over
    sources of the ratio to the authors' requests under the same policy, mean and standard deviation over the draws.
    status_quo, status_quo_sd: the same against FCFS with the authors' requests. worse: sources whose mean wait is
    above that with the requests.
    """

    scope: str
    load: float
    policy: str
    predictor: str
    sources: int
    mean: dict[str, float]
    ratio: dict[str, float]
    ratio_sd: dict[str, float]
    status_quo: dict[str, float]
    status_quo_sd: dict[str, float]
    worse: list[str]


#: scope, source, load, policy, predictor -> metrics [draws, METRICS]
Measured = dict[tuple[str, str, float, str, str], FloatArray]


def queues(
    sources: Sequence[Source], predictions: Predictions, options: Options
) -> tuple[list[QueueRow], list[QueueSummary]]:
    """Replay every source that has run times; a row of those who asked that is all jobs' row is not repeated."""
    measured: Measured = {}
    for source in sources:
        measured |= _measured(source, predictions, options)
    rows = [
        _row(place, values)
        for place, values in measured.items()
        if place[0] == ALL or values is not measured[(ALL, *place[1:])]
    ]
    return rows, list(_summaries(measured))


def _measured(source: Source, predictions: Predictions, options: Options) -> Measured:
    known = np.isfinite(source.runtime) & (source.runtime > 0)
    cluster = cluster_of(source, options)
    beliefs = estimates_of(source, predictions)
    found: Measured = {}
    done: dict[bytes, str] = {}
    for scope, members in scopes_of(source.asked(), known).items():
        # Where every author asked for something both scopes are the same jobs: replayed once.
        same = done.setdefault(members.tobytes(), scope)
        for load in options.loads:
            if same != scope:
                found |= {
                    (scope, *place[1:]): values
                    for place, values in found.items()
                    if place[0] == same and place[2] == load
                }
                continue
            found |= _replayed(source, scope, members, cluster, load, beliefs, options)
    return found


def _replayed(
    source: Source,
    scope: str,
    members: Rows,
    cluster: Cluster,
    load: float,
    beliefs: Mapping[str, Estimates],
    options: Options,
) -> Measured:
    rows: dict[tuple[str, str, float, str, str], list[list[float]]] = {}
    for drawn in traces(source, members, cluster, load, options):
        remembered: dict[tuple[bytes, ...], list[float]] = {}
        for policy in POLICIES:
            for predictor, belief in beliefs.items():
                estimates = _of_trace(belief, drawn)
                # FCFS asks nobody for run times: without memory all predictors are one replay.
                key = _what_matters(policy, estimates)
                if key not in remembered:
                    spans = replay(drawn.trace, estimates, cluster, policy)
                    metrics = outcome(drawn.trace, spans, cluster)
                    remembered[key] = [metrics[name] for name in METRICS]
                rows.setdefault((scope, source.name, load, policy, predictor), []).append(remembered[key])
    return {place: np.array(values) for place, values in rows.items()}


def _of_trace(belief: Estimates, drawn: Drawn) -> Estimates:
    # Jobs without a measured memory are replayed without any.
    memory = np.where(drawn.trace.memory > 0, belief.memory[drawn.rows], 0.0)
    return Estimates(belief.order[drawn.rows], belief.reserve[drawn.rows], memory)


def _what_matters(policy: str, estimates: Estimates) -> tuple[bytes, ...]:
    asked = {"FCFS": (), "SJF": (estimates.order,), "EASY": (estimates.reserve,)}[policy]
    return (policy.encode(), estimates.memory.tobytes(), *(values.tobytes() for values in asked))


def _row(place: tuple[str, str, float, str, str], values: FloatArray) -> QueueRow:
    scope, source, load, policy, predictor = place
    mean, sd = values.mean(axis=0), _sd(values)
    return {
        "scope": scope,
        "source": source,
        "load": load,
        "policy": policy,
        "predictor": predictor,
        "mean": {name: rounded(float(mean[i])) for i, name in enumerate(METRICS)},
        "sd": {name: rounded(float(sd[i])) for i, name in enumerate(METRICS)},
    }


def _summaries(measured: Measured) -> Iterator[QueueSummary]:
    places = dict.fromkeys((scope, load, how, who) for scope, _, load, how, who in measured)
    for place in sorted(places, key=lambda place: place[0] != ASKED):  # stable: the order of the replays
        yield _summary(measured, *place)


def _summary(measured: Measured, scope: str, load: float, policy: str, predictor: str) -> QueueSummary:
    names = sorted({source for s, source, *_ in measured if s == scope})
    ours, same, before = (
        np.stack([measured[scope, name, load, how, who] for name in names])
        for how, who in ((policy, predictor), (policy, AUTHORS), ("FCFS", AUTHORS))
    )
    ratio, status_quo = _ratios(ours, same), _ratios(ours, before)
    wait = METRICS.index("mean_wait")
    worse = ours[..., wait].mean(axis=1) > same[..., wait].mean(axis=1)
    shares = ("bounded_slowdown", "utilisation", "killed")
    return {
        "scope": scope,
        "load": load,
        "policy": policy,
        "predictor": predictor,
        "sources": len(names),
        "mean": {name: rounded(float(ours[..., METRICS.index(name)].mean())) for name in shares},
        "ratio": {name: rounded(float(values.mean())) for name, values in ratio.items()},
        "ratio_sd": {name: rounded(float(_sd(values))) for name, values in ratio.items()},
        "status_quo": {name: rounded(float(values.mean())) for name, values in status_quo.items()},
        "status_quo_sd": {name: rounded(float(_sd(values))) for name, values in status_quo.items()},
        "worse": [name for name, is_worse in zip(names, worse, strict=True) if is_worse],
    }


def _ratios(ours: FloatArray, theirs: FloatArray) -> dict[str, FloatArray]:
    """Metric -> geometric mean over sources [draws]; ours, theirs: [sources, draws, METRICS]."""
    found = {}
    for name in RATIOS:
        column = METRICS.index(name)
        left, right = (np.maximum(side[..., column], LEAST.get(name, 0.0)) for side in (ours, theirs))
        found[name] = np.exp(np.log(left / right).mean(axis=0))
    return found


def _sd(values: FloatArray) -> FloatArray:
    """Over the first axis; zero for a single draw."""
    ddof = 1 if len(values) > 1 else 0
    return np.asarray(values.std(axis=0, ddof=ddof), dtype=np.float64)
