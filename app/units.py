"""From a raw config to prompts: what is read, chosen and tokenized, off the event loop, once per body.

remembered ─────────────────────────┬─► prompts ─► past runs? ─ none ─► prompts
else read ─► jobs ─► tokenized ─────┘                 └─ some ─► remembered with them, or tokenized with them
"""

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeAlias, TypeVar

from app.ask import Ask, attach_history
from app.contracts import Checkpoint, ReadConfig
from app.memo import Memo, Remembered
from app.metrics import Metrics
from app.outcomes.identity import Digests, Identity
from app.priority import step_back
from app.timings import current
from app.turns import Turns, never
from app.unit import Unit, Units
from model.errors import ConfigTooDeep, ValueOutOfRange
from model.evidence.history import SHOWN, counted, lower_bounds, telling
from model.jobs import select
from model.jobs.job import Job, Outcome, Reading
from model.jobs.names import with_masked_names
from model.jobs.time_limit import check_time, time_limit
from model.prompt import Prompt

#: A job, and whether it is all that its config holds.
_ReadJob: TypeAlias = tuple[Job, bool]
_Made = TypeVar("_Made")

NOT_LOOKED_UP = "past runs could not be looked up: this answer knows none"


class LooksUp(Protocol):
    """Past runs of jobs (app/outcomes/history.py)."""

    async def of(self, units: Sequence[Identity]) -> list[tuple[Outcome, ...]] | None:
        """Of each, newest first; None where they could not be looked up."""
        ...


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
        digests: Digests | None = None,
        histories: LooksUp | None = None,
        held: Callable[[int], bool] = never,
    ) -> None:
        """held: whether, with so many waiting to be read, none may begin now; `go_on` says that it is over."""
        self._read = read
        self._checkpoint = checkpoint
        self._metrics = metrics
        self._digests, self._histories = digests, histories
        self._read_seconds = read_seconds
        self._threads = ThreadPoolExecutor(threads, "reader", step_back)
        self._turns = Turns(threads, held)
        self.memo = Memo(memo_tokens)

    def go_on(self) -> None:
        """Nothing is held back any more."""
        self._turns.go_on()

    def known(self, ask: Ask) -> bool:
        """Whether it need not be read."""
        return self.memo.units_of(ask) is not None

    async def units(self, ask: Ask, deadline: float, caller: str = "") -> Units:
        """The prompts of an ask, as read; callers are read for in fair turns.

        `deadline` is a `time.perf_counter()`, after which no thread works for it. Raises UnknownKind, InvalidConfig,
        UnknownJob, InvalidHistory, DeadlineExceeded.
        """
        return (await self._units(ask, deadline, caller))[0].units

    async def units_with_history(self, ask: Ask, deadline: float, caller: str = "") -> Units:
        """The same, with the past runs that the store has where the ask says nothing of any."""
        remembered, jobs = await self._units(ask, deadline, caller)
        units = remembered.units
        if self._histories is None or ask.history is not None:
            return units
        found = await self._histories.of([unit.identity for unit in units.all if unit.identity])
        if found is None:
            return replace(units, warnings=(*units.warnings, NOT_LOOKED_UP))
        if not any(found):
            return units
        return await self._given_history(ask, remembered, jobs, found, deadline, caller)

    async def _given_history(
        self,
        ask: Ask,
        remembered: Remembered,
        jobs: Sequence[_ReadJob] | None,
        found: Sequence[tuple[Outcome, ...]],
        deadline: float,
        caller: str,
    ) -> Units:
        """The units anew, those that have past runs; remembered with these runs."""
        known = self.memo.units_given(remembered, found)
        if known is not None:
            return known
        whole = await ask.whole() if ask.whole else ask
        before = remembered.units.all

        def make() -> Units:
            with self._limited(deadline):
                read = self._jobs(whole)[0] if jobs is None else jobs
                units = [
                    self._with_runs(job, runs, unit)
                    for (job, _), runs, unit in zip(read, found, before, strict=True)
                ]
            return _units(units, remembered.units.warnings)

        units = await self._in_thread(make, caller)
        self.memo.remember_given(remembered, found, units)
        return units

    def _with_runs(self, job: Job, runs: Sequence[Outcome], unit: Unit) -> Unit:
        """The unit anew with its past runs; as it is where this checkpoint cannot write them, which no client chose."""
        if not runs:
            return unit
        try:
            return self._unit(job.with_history(runs), before=unit)
        except ValueOutOfRange:
            return unit

    async def _units(
        self, ask: Ask, deadline: float, caller: str
    ) -> tuple[Remembered, Sequence[_ReadJob] | None]:
        """What an ask became, and its jobs where they were read just now."""
        remembered = self.memo.units_of(ask)
        if remembered is not None:
            return remembered, None
        if ask.whole is not None:  # forgotten since it was recalled
            ask = await ask.whole()
        units, jobs = await self._in_thread(lambda: self._make(ask, deadline), caller)
        return self.memo.remember(ask, units), jobs

    async def _in_thread(self, work: Callable[[], _Made], caller: str) -> _Made:
        """What the work makes, on a thread that reads, in the caller's turn."""
        run = contextvars.copy_context().run
        async with self._turns.turn(caller, current()):
            made: _Made = await asyncio.get_running_loop().run_in_executor(self._threads, run, work)
        return made

    def make(self, ask: Ask, deadline: float = math.inf) -> Units:
        """As `units`, read by the calling thread and not remembered. Raises what `units` does."""
        return self._make(ask, deadline)[0]

    def _make(self, ask: Ask, deadline: float) -> tuple[Units, Sequence[_ReadJob]]:
        with self._limited(deadline):
            jobs, warnings = self._jobs(ask)
            given = attach_history([job for job, _ in jobs], ask.history or ())
            units = [
                self._unit(job, named=ask.series, alone=alone)
                for job, (_, alone) in zip(given, jobs, strict=True)
            ]
        return _units(units, warnings), jobs

    @contextmanager
    def _limited(self, deadline: float) -> Iterator[None]:
        try:
            with time_limit(self._read_seconds, deadline):
                check_time()  # it may have waited for a thread
                yield
        except RecursionError:  # a text may open more levels than its reader takes
            raise ConfigTooDeep("the config is nested too deep") from None

    def _jobs(self, ask: Ask) -> tuple[Sequence[_ReadJob], tuple[str, ...]]:
        """The jobs that are asked for, without past runs, and the reader's warnings."""
        with self._metrics.timed("read"):
            reading = with_masked_names(self._read(ask.kind, ask.config, ask.context))
        alone = len(reading.jobs) + (reading.workflow is not None) == 1
        return [(job, alone) for job in _choose(reading, ask.job)], reading.warnings

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _unit(
        self, job: Job, *, named: str | None = None, alone: bool = False, before: Unit | None = None
    ) -> Unit:
        """One unit; before: the same without past runs, where that is known already."""
        told = {name for run in telling(job.history)[:SHOWN] for name in run.values}
        untold = {target.name for target in self._checkpoint.targets} - told if told else set()
        untold_prompt: tuple[int, ...] = ()
        if untold:
            untold_prompt = before.prompt if before else self._prompt(job.with_history(())).ids
        prompt = self._prompt(job)
        identity = before.identity if before else None
        if identity is None and self._digests is not None:
            identity = self._digests.identity(job, prompt.text, named=named, alone=alone)
        return Unit(
            kind=job.kind,
            scope=job.scope,
            name=job.name,
            needs=job.needs,
            prompt=prompt.ids,
            left_out_characters=prompt.left_out_characters,
            novelty=self._checkpoint.novelty(prompt),
            past_runs=counted(job.history),
            bounds=lower_bounds(job.history),
            untold=frozenset(untold),
            untold_prompt=untold_prompt,
            identity=identity,
        )

    def _prompt(self, job: Job) -> Prompt:
        start = time.perf_counter()
        prompt = self._checkpoint.prompt(job)
        self._metrics.stage("tokenize", prompt.tokenize_seconds)
        self._metrics.stage("serialize", time.perf_counter() - start - prompt.tokenize_seconds, start)
        return prompt


def _units(units: Sequence[Unit], warnings: tuple[str, ...]) -> Units:
    workflow = next((unit for unit in units if unit.scope == "workflow"), None)
    return Units(workflow, tuple(unit for unit in units if unit is not workflow), warnings)


def _choose(reading: Reading, name: str | None) -> Sequence[Job]:
    """The one job that is asked for, or everything. Raises UnknownJob."""
    if name is not None:
        return [select(reading, name)]
    return [reading.workflow, *reading.jobs] if reading.workflow else reading.jobs
