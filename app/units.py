"""From a raw config to prompts: what is read, chosen and tokenized, off the event loop, once per body.

The memo is local to the process: a keyed hash of what the client sent leads to the question that it was and the prompts
it became, so that equal bytes are read once. The key is random, so that nobody can aim at a collision.
"""

import asyncio
import contextvars
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import blake2b

from cachetools import LRUCache

from app.ask import Ask, attach_history
from app.contracts import Checkpoint, ReadConfig
from app.json import dump
from app.metrics import Metrics
from app.priority import step_back
from app.timings import current
from app.turns import Turns
from model.errors import ConfigTooDeep, InvalidGiven
from model.jobs import select
from model.jobs.job import Job, Reading, Scope
from model.jobs.names import with_masked_names
from model.jobs.time_limit import check_time, time_limit


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

    def check_given(self, given: Mapping[str, float]) -> None:
        """Raises InvalidGiven where it is open whose values are known."""
        if given and len(self.all) != 1:
            raise InvalidGiven("values can be given for one job only; say which with `job`")


@dataclass(frozen=True)
class _Remembered:
    """A question without its config, and what the config became."""

    ask: Ask
    units: Units


class UnitReader:
    """Reads configs on threads of its own and remembers what they became."""

    def __init__(
        self,
        read: ReadConfig,
        checkpoint: Checkpoint,
        metrics: Metrics,
        *,
        threads: int,
        memo_tokens: int,
        read_seconds: float,
    ) -> None:
        self._read = read
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._read_seconds = read_seconds
        self._threads = ThreadPoolExecutor(threads, "reader", step_back)
        self._turns = Turns(threads)
        self._memo: LRUCache[bytes, _Remembered] = LRUCache(memo_tokens, getsizeof=_tokens)
        self._memo_key = secrets.token_bytes(32)

    def fingerprint(self, *parts: bytes) -> bytes:
        """A keyed hash of what a client sent."""
        digest = blake2b(key=self._memo_key, digest_size=32)
        for part in parts:
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()

    def recall(self, fingerprint: bytes) -> Ask | None:
        """The question that these bytes were, without its config: `units` knows what that became."""
        remembered: _Remembered | None = self._memo.get(fingerprint)
        return remembered.ask if remembered else None

    def known(self, ask: Ask) -> bool:
        """Whether it need not be read."""
        return self._remembered(ask) is not None

    async def units(self, ask: Ask, deadline: float, caller: str = "") -> Units:
        """The prompts of an ask; callers are read for in fair turns.

        `deadline` is a `time.perf_counter()`, after which no thread works for it. Raises UnknownKind, InvalidConfig,
        UnknownJob, InvalidHistory, DeadlineExceeded.
        """
        remembered = self._remembered(ask)
        if remembered is not None:
            return remembered.units
        run = contextvars.copy_context().run
        async with self._turns.turn(caller, current()):
            units = await asyncio.get_running_loop().run_in_executor(
                self._threads, run, self.make, ask, deadline
            )
        self._remember(ask, units)
        return units

    def make(self, ask: Ask, deadline: float = math.inf) -> Units:
        """The same, read by the calling thread and not remembered. Raises what `units` does."""
        try:
            with time_limit(self._read_seconds, deadline):
                check_time()  # it may have waited for a thread
                with self._metrics.timed("read"):
                    reading = with_masked_names(self._read(ask.kind, ask.config, ask.context))
                chosen = _choose(reading, ask.job)
                jobs = attach_history(chosen, ask.history)
                units = [self._unit(job) for job in jobs]
        except RecursionError:  # a text may open more levels than its reader takes
            raise ConfigTooDeep("the config is nested too deep") from None
        workflow = next((unit for unit in units if unit.scope == "workflow"), None)
        return Units(workflow, tuple(unit for unit in units if unit is not workflow), reading.warnings)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _remembered(self, ask: Ask) -> _Remembered | None:
        """By the bytes it came as, or else by what they say: the same config may come with other quantiles."""
        known: _Remembered | None = self._memo.get(ask.fingerprint) if ask.fingerprint else None
        if known is not None:
            return known
        known = self._memo.get(self._content(ask))
        if known is not None:
            self._remember(ask, known.units)
        return known

    def _remember(self, ask: Ask, units: Units) -> None:
        keys = [self._content(ask)] + ([ask.fingerprint] if ask.fingerprint else [])
        made = _Remembered(replace(ask, config="", context={}, history=()), units)
        if len(keys) * _tokens(made) <= self._memo.maxsize:
            self._memo.update(dict.fromkeys(keys, made))

    def _content(self, ask: Ask) -> bytes:
        runs = [[run.values, run.age_seconds, run.same_config, run.status, run.job] for run in ask.history]
        return self.fingerprint(b"content", dump([ask.kind, ask.config, ask.context, ask.job, runs]))

    def _unit(self, job: Job) -> Unit:
        start = time.perf_counter()
        prompt = self._checkpoint.prompt(job)
        self._metrics.stage("tokenize", prompt.tokenize_seconds)
        self._metrics.stage("serialize", time.perf_counter() - start - prompt.tokenize_seconds, start)
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


def _tokens(remembered: _Remembered) -> int:
    return sum(len(unit.prompt) + 64 for unit in remembered.units.all)
