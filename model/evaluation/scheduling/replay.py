"""A cluster replays a trace: a discrete-event simulation of its queue.

    arrival or end of a job --heap, by time--> free what ended, queue what came --policy--> start what may start

Policies. FCFS: the queue in order of arrival; its head waits until it fits, and all behind it wait too. SJF: the
same, in order of estimated run time. EASY: FCFS, and whoever is behind the head starts early if the head's
reservation stands all the same (Mu'alem and Feitelson, IEEE TPDS 2001; with system-generated predictions instead
of requests: Tsafrir, Etsion and Feitelson, IEEE TPDS 2007). A job that outlives its estimate is not killed: the
estimate doubles until it lies ahead. A job killed for its memory goes back to its place in the queue.
"""

import heapq
from bisect import insort
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from model.evaluation.metrics import FLOORS, FloatArray
from model.evaluation.scheduling.demand import RUNTIME
from model.evaluation.scheduling.memory import attempts

Policy = Literal["FCFS", "SJF", "EASY"]
POLICIES: tuple[Policy, ...] = ("FCFS", "SJF", "EASY")

_END, _ARRIVAL = 0, 1  # of one moment, ends come first: what they free is there for who arrives


@dataclass(frozen=True)
class Cluster:
    """Equal nodes; a job runs on one of them. memory: bytes of a node."""

    nodes: int
    cores: int
    memory: float


@dataclass(frozen=True)
class Trace:
    """Jobs in order of arrival, arrays [jobs]. submit, runtime: s; memory: B; cores: whole.

    killed_after: the share of its run time at which a job too large for its allocation is killed.
    """

    submit: FloatArray
    runtime: FloatArray
    memory: FloatArray
    cores: FloatArray
    killed_after: FloatArray


@dataclass(frozen=True)
class Estimates:
    """What the scheduler believes [jobs]: run times in s (order: SJF's, reserve: EASY's), first allocation in B."""

    order: FloatArray
    reserve: FloatArray
    memory: FloatArray


class Span(NamedTuple):
    """One attempt of a job on a node."""

    job: int
    node: int
    start: float
    end: float
    memory: float
    succeeded: bool


def replay(trace: Trace, estimates: Estimates, cluster: Cluster, policy: Policy) -> list[Span]:
    """All attempts, in order of their start. Raises ValueError for a job that no node can hold."""
    if np.any(trace.memory > cluster.memory) or np.any(trace.cores > cluster.cores):
        raise ValueError("a job needs more than a node has")
    return _Replay(trace, estimates, cluster, policy).run()


class _Replay:
    """Plain lists inside: a replay reads single numbers, which numpy is slow at."""

    def __init__(self, trace: Trace, estimates: Estimates, cluster: Cluster, policy: Policy) -> None:
        jobs = len(trace.submit)
        self._policy = policy
        self._cores: list[float] = trace.cores.tolist()
        self._runtime: list[float] = trace.runtime.tolist()
        self._needed: list[float] = trace.memory.tolist()
        self._killed_after: list[float] = trace.killed_after.tolist()
        self._reserve: list[float] = np.maximum(estimates.reserve, FLOORS[RUNTIME]).tolist()
        self._order: list[float] = estimates.order.tolist() if policy == "SJF" else [0.0] * jobs
        # Whole bytes add up exactly: a node whose jobs have all ended is exactly empty.
        whole = np.ceil(estimates.memory).tolist()
        self._tries = [attempts(first, cluster.memory) for first in whole]
        self._memory = [next(tries) for tries in self._tries]
        self._free_cores = [float(cluster.cores)] * cluster.nodes
        self._free_memory = [cluster.memory] * cluster.nodes
        self._running: list[dict[int, float]] = [{} for _ in range(cluster.nodes)]  # job -> start
        self._queue: list[tuple[float, int]] = []
        self._events = [(time, _ARRIVAL, job) for job, time in enumerate(trace.submit.tolist())]
        self._on: dict[int, int] = {}
        self._spans: list[Span] = []
        self._now = 0.0

    def run(self) -> list[Span]:
        heapq.heapify(self._events)
        while self._events:
            self._now = self._events[0][0]
            while self._events and self._events[0][0] == self._now:
                _, what, job = heapq.heappop(self._events)
                if what == _END:
                    self._release(job)
                else:
                    insort(self._queue, (self._order[job], job))
            self._schedule()
        return self._spans

    def _release(self, job: int) -> None:
        node = self._on.pop(job)
        del self._running[node][job]
        self._free_cores[node] += self._cores[job]
        self._free_memory[node] += self._memory[job]
        if self._memory[job] < self._needed[job]:
            self._memory[job] = next(self._tries[job])
            insort(self._queue, (self._order[job], job))

    def _schedule(self) -> None:
        started = 0
        for _, job in self._queue:
            node = self._node_for(job)
            if node is None:
                break
            self._start(job, node)
            started += 1
        del self._queue[:started]
        if self._policy == "EASY" and len(self._queue) > 1:
            self._backfill()

    def _node_for(self, job: int, apart_from: int = -1) -> int | None:
        """The fullest node that has room (best fit: large jobs keep a place)."""
        cores, memory = self._cores[job], self._memory[job]
        best = None
        for node, free in enumerate(self._free_cores):
            fits = free >= cores and self._free_memory[node] >= memory
            if fits and node != apart_from and (best is None or free < self._free_cores[best]):
                best = node
        return best

    def _start(self, job: int, node: int) -> None:
        succeeds = self._memory[job] >= self._needed[job]
        took = self._runtime[job] * (1.0 if succeeds else self._killed_after[job])
        self._free_cores[node] -= self._cores[job]
        self._free_memory[node] -= self._memory[job]
        self._running[node][job] = self._now
        self._on[job] = node
        heapq.heappush(self._events, (self._now + took, _END, job))
        self._spans.append(Span(job, node, self._now, self._now + took, self._memory[job], succeeds))

    def _backfill(self) -> None:
        reserved, shadow, spare_cores, spare_memory = self._reservation(self._queue[0][1])
        kept = self._queue[:1]
        for place, (key, job) in enumerate(self._queue[1:], start=1):
            most = max(self._free_cores)
            if most < 1.0:
                kept += self._queue[place:]
                break
            node = self._node_for(job, apart_from=reserved) if self._cores[job] <= most else None
            if node is None and self._fits(job, reserved):
                outlives = self._now + self._reserve[job] > shadow
                if not outlives:
                    node = reserved
                elif self._cores[job] <= spare_cores and self._memory[job] <= spare_memory:
                    node = reserved
                    spare_cores -= self._cores[job]
                    spare_memory -= self._memory[job]
            if node is None:
                kept.append((key, job))
            else:
                self._start(job, node)
        self._queue = kept

    def _fits(self, job: int, node: int) -> bool:
        return self._cores[job] <= self._free_cores[node] and self._memory[job] <= self._free_memory[node]

    def _reservation(self, head: int) -> tuple[int, float, float, float]:
        """Node and time at which the head is expected to start, and the cores and bytes it leaves free there."""
        found = [(*self._opening(head, node), node) for node in range(len(self._running))]
        shadow, cores, memory, node = min(found, key=lambda one: (one[0], one[3]))
        return node, shadow, cores - self._cores[head], memory - self._memory[head]

    def _opening(self, head: int, node: int) -> tuple[float, float, float]:
        """When a node has room for the head, and the cores and bytes free then."""
        ends = sorted((self._expected_end(job, start), job) for job, start in self._running[node].items())
        time, cores, memory = self._now, self._free_cores[node], self._free_memory[node]
        for end, job in ends:
            if cores >= self._cores[head] and memory >= self._memory[head]:
                break
            time, cores, memory = end, cores + self._cores[job], memory + self._memory[job]
        return time, cores, memory

    def _expected_end(self, job: int, start: float) -> float:
        estimate = self._reserve[job]
        while start + estimate <= self._now:
            estimate *= 2.0
        return start + estimate
