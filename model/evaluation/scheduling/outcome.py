"""What a replay came to."""

from collections.abc import Sequence

import numpy as np

from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.options import GB, HOUR
from model.evaluation.scheduling.replay import Cluster, Span, Trace

#: Shorter jobs count as this long in the slowdown, s: a wait of a second is not a disaster for a job of 0.1 s.
TAU = 10.0

METRICS = (
    "mean_wait",
    "p95_wait",
    "bounded_slowdown",
    "utilisation",
    "makespan",
    "wasted_gb_hours",
    "killed",
)


def outcome(trace: Trace, spans: Sequence[Span], cluster: Cluster) -> dict[str, float]:
    """The metrics of a replay.

    mean_wait, p95_wait: s from submission to the start of the attempt that succeeds, so a killed one counts as
    waiting. bounded_slowdown: mean of max(1, (wait + run time) / max(run time, TAU)). utilisation: share of the
    core-seconds up to the end that successful attempts held. makespan: s from the first submission to the last
    end. wasted_gb_hours: memory allocated and not used, all jobs. killed: share of jobs killed at least once.
    """
    start, end = np.zeros_like(trace.submit), np.zeros_like(trace.submit)
    killed = np.zeros(len(start), dtype=bool)
    wasted = 0.0
    for span in spans:
        if span.succeeded:
            start[span.job], end[span.job] = span.start, span.end
        killed[span.job] |= not span.succeeded
        used = float(trace.memory[span.job]) if span.succeeded else 0.0
        wasted += (span.memory - used) * (span.end - span.start)
    wait = start - trace.submit
    makespan = float(end.max() - trace.submit[0])
    capacity = makespan * cluster.cores * cluster.nodes
    return {
        "mean_wait": float(wait.mean()),
        "p95_wait": float(np.quantile(wait, 0.95)),
        "bounded_slowdown": float(bounded_slowdown(wait, trace.runtime).mean()),
        "utilisation": float((trace.runtime * trace.cores).sum() / capacity),
        "makespan": makespan,
        "wasted_gb_hours": wasted / GB / HOUR,
        "killed": float(killed.mean()),
    }


def bounded_slowdown(wait: FloatArray, runtime: FloatArray) -> FloatArray:
    """[jobs] of at least 1, from seconds."""
    slowdown: FloatArray = np.maximum(1.0, (wait + runtime) / np.maximum(runtime, TAU))
    return slowdown
