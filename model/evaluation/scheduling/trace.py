"""Traces of a source's test jobs, and the cluster that replays them.

Most sources have no reliable times of submission, so arrivals are a Poisson process, as fast as makes the drawn
jobs, with perfect knowledge of their memory, use the stated share of the cluster's cores or memory, whichever is
scarcer. Jobs are drawn with replacement, all alike.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling.demand import MEMORY, Rows, Source, rounded_up
from model.evaluation.scheduling.options import Options
from model.evaluation.scheduling.replay import Cluster, Trace


@dataclass(frozen=True)
class Drawn:
    """A trace, and the row of the source that each of its jobs is [jobs]."""

    trace: Trace
    rows: NDArray[np.int64]


def cluster_of(source: Source, options: Options) -> Cluster:
    """Nodes whose memory, a power of two GiB, holds any peak of the source and any request of its authors."""
    asked = source.requested[MEMORY]
    most = max(
        (float(v[np.isfinite(v)].max()) for v in (source.memory, asked) if np.isfinite(v).any()), default=0
    )
    return Cluster(options.nodes, options.cores, max(options.least_memory, rounded_up(most, MEMORY)))


def traces(source: Source, rows: Rows, cluster: Cluster, load: float, options: Options) -> Iterator[Drawn]:
    """`options.draws` traces of the marked jobs [jobs of the source], which have run times.

    One draw has the same jobs, in the same order, at every load.
    """
    for draw in range(options.draws):
        digest = hashlib.blake2b(f"{options.seed}:{source.name}:{draw}".encode(), digest_size=8).digest()
        random = np.random.default_rng(int.from_bytes(digest, "big"))
        chosen = random.choice(np.flatnonzero(rows), size=options.jobs)
        runtime, memory = source.runtime[chosen], np.nan_to_num(source.memory[chosen])
        # More than a node has is a whole node: the measured run time is kept.
        cores = np.minimum(source.cores[chosen], cluster.cores)
        work = max(
            (runtime * cores).sum() / (cluster.nodes * cluster.cores),
            (runtime * memory).sum() / (cluster.nodes * cluster.memory),
        )
        gaps = random.exponential(work / load / options.jobs, size=options.jobs)
        killed_after = random.uniform(size=options.jobs)
        submit: FloatArray = np.cumsum(gaps)
        yield Drawn(Trace(submit, runtime, memory, cores, killed_after), chosen)
