"""From a raw config to prompts: what is read, chosen and tokenized, off the event loop, once per body.

The memo is local to the process: a keyed hash of what the client sent leads to the prompts it became, so that
equal bytes are read once. The key is random, so that nobody can aim at a collision.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

from cachetools import LRUCache

from app.ask import Ask, attach_history
from app.contracts import Checkpoint, ReadConfig
from app.json import dump
from app.metrics import Metrics
from model.errors import ConfigTooDeep
from model.jobs import select
from model.jobs.job import Job, Reading, Scope
from model.jobs.names import with_masked_names


@dataclass(frozen=True)
class Unit:
    """One thing to predict for: a job, or the workflow as a whole."""

    kind: str
    scope: Scope
    name: str
    needs: tuple[str, ...]
    prompt: tuple[int, ...]
    left_out_characters: int
    novelty: float


@dataclass(frozen=True)
class Units:
    """All that one config asks to predict; `warnings` are the reader's."""

    workflow: Unit | None
    jobs: tuple[Unit, ...]
    warnings: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Unit, ...]:
        """The workflow first, then its jobs."""
        return (self.workflow, *self.jobs) if self.workflow else self.jobs


class UnitReader:
    """Reads configs on threads of its own and remembers what they became."""

    def __init__(
        self, read: ReadConfig, checkpoint: Checkpoint, metrics: Metrics, *, threads: int, memo_tokens: int
    ) -> None:
        self._read = read
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._memo: LRUCache[bytes, Units] = LRUCache(memo_tokens, getsizeof=_tokens)
        self._memo_key = secrets.token_bytes(32)

    async def units(self, ask: Ask) -> Units:
        """The prompts of an ask. Raises UnknownKind, InvalidConfig, UnknownJob, InvalidHistory."""
        key = self._key(ask)
        units = self._memo.get(key)
        if units is None:
            units = await asyncio.get_running_loop().run_in_executor(self._threads, self._make, ask)
            if _tokens(units) <= self._memo.maxsize:
                self._memo[key] = units
        return units

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _key(self, ask: Ask) -> bytes:
        runs = [[run.values, run.age_seconds, run.same_config, run.status, run.job] for run in ask.history]
        sent = dump([ask.kind, ask.config, ask.context, ask.job, runs])
        return blake2b(sent, key=self._memo_key, digest_size=32).digest()

    def _make(self, ask: Ask) -> Units:
        try:
            with self._metrics.timed("read"):
                reading = with_masked_names(self._read(ask.kind, ask.config, ask.context))
            chosen = _choose(reading, ask.job)
            jobs = attach_history(chosen, ask.history)
            units = [self._unit(job) for job in jobs]
        except RecursionError:  # a text may open more levels than its reader takes
            raise ConfigTooDeep("the config is nested too deep") from None
        workflow = next((unit for unit in units if unit.scope == "workflow"), None)
        return Units(workflow, tuple(unit for unit in units if unit is not workflow), reading.warnings)

    def _unit(self, job: Job) -> Unit:
        start = time.perf_counter()
        prompt = self._checkpoint.prompt(job)
        self._metrics.stage("serialize", time.perf_counter() - start - prompt.tokenize_seconds)
        self._metrics.stage("tokenize", prompt.tokenize_seconds)
        return Unit(
            kind=job.kind,
            scope=job.scope,
            name=job.name,
            needs=job.needs,
            prompt=prompt.ids,
            left_out_characters=prompt.left_out_characters,
            novelty=self._checkpoint.novelty(prompt),
        )


def _choose(reading: Reading, name: str | None) -> Sequence[Job]:
    """The one job that is asked for, or everything. Raises UnknownJob."""
    if name is not None:
        return [select(reading, name)]
    return [reading.workflow, *reading.jobs] if reading.workflow else reading.jobs


def _tokens(units: Units) -> int:
    return sum(len(unit.prompt) + 64 for unit in units.all)
