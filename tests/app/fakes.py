"""Fakes at the real seams: a checkpoint, a reader and an engine that tests can hold, break and watch."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from model.engines.base import Forecast, Query
from model.errors import ConfigTooDeep, ConfigTooLarge, EngineUnavailable, InvalidConfig, UnknownKind
from model.jobs.job import Job, Reading
from model.prompt import Prompt, Standing
from model.targets import DEFAULT_TARGETS, Target

#: Settings -> an app over the fakes.
MakeApp = Callable[..., FastAPI]

#: Stands in every input of the tests about leaks, and must come out nowhere.
CANARY = "canary-7f3a9c"


class WatchedEngine:
    """Answers value = quantile * (1 + sum of the prompt's ids); `gate` holds it, `failure` breaks it."""

    concurrency = 1

    def __init__(self) -> None:
        self.batches: list[list[Query]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.alive = False
        self.seconds = 0.0
        self.closed = False

    def start(self) -> None:
        self.alive = True

    def health(self) -> bool:
        return self.alive

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        self.batches.append(list(queries))
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        if not self.alive:
            raise EngineUnavailable("the engine is not running")
        return [self._forecast(query, len(queries)) for query in queries]

    def _forecast(self, query: Query, size: int) -> Forecast:
        scale = 1.0 + sum(query.prompt) + sum(query.given.values())
        values = {target: tuple(q * scale for q in query.quantiles) for target in query.targets}
        return Forecast(values, prefill_seconds=0.001, decode_seconds=0.002, batch_size=size)

    def close(self) -> None:
        self.alive = False
        self.closed = True


class TinyCheckpoint:
    """Knows the kind `text` in scope `job`, and memory of nothing."""

    name = "tiny"
    version = "sha256:tiny"
    token_budget = 64
    targets: tuple[Target, ...] = DEFAULT_TARGETS
    summary: Mapping[str, object] = {"provenance": {"records": 3}, "evaluation": {}}

    def __init__(self) -> None:
        self.prompted: list[Job] = []
        self.calibrated: list[tuple[float, ...]] = []

    def prompt(self, job: Job) -> Prompt:
        self.prompted.append(job)
        text = repr((sorted(job.body.items()), job.history))
        ids = tuple(text.encode())
        return Prompt(ids[:64], text, max(0, len(ids) - 64))

    def support(self, kind: str, scope: str) -> dict[str, int]:
        known = kind == "text" and scope == "job"
        return {"runtime_seconds": 7 * known, "peak_memory_bytes": 0, "cpu_cores": 5 * known}

    def novelty(self, prompt: Prompt) -> float:
        return 0.25 if prompt.ids else 1.0

    def standing(self, prompt: Sequence[int]) -> Standing:
        return Standing({}, None, history=False)

    def calibrate(
        self,
        place: str,
        quantiles: Sequence[float],
        values: Sequence[float],
        standing: Standing,
        *,
        given: bool = False,
    ) -> tuple[float, ...]:
        kind, scope, target = place.split("/")
        assert target in self.support(kind, scope)
        assert 0.5 in quantiles
        self.calibrated.append(tuple(quantiles))
        return tuple(values)


def tiny_read(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """`text`: one job; `flow`: a workflow whose config is a line per job, `name: body`."""
    if kind not in ("text", "flow"):
        raise UnknownKind("unknown kind; known: text, flow")
    text = config if isinstance(config, str) else repr(sorted(config.items()))
    if "!bad" in text:
        raise InvalidConfig("not valid here", line=2, column=3)
    if "!deep" in text:
        raise ConfigTooDeep("nested deeper than 64 levels", line=1)
    if "!large" in text:
        raise ConfigTooLarge("more than 100000 values")
    if "!bug" in text:
        raise ValueError(text)
    if kind == "text":
        return Reading((Job("text", "job", "text", {"text": text}, context=dict(context)),))
    jobs = []
    for line in text.splitlines():
        name, _, body = line.partition(": ")
        jobs.append(Job("flow", "job", name, {"text": body}, needs=tuple(job.name for job in jobs)))
    return Reading(tuple(jobs), Job("flow", "workflow", "flow", {"text": text}), ("a part was left out",))


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the started app."""
    async with app.router.lifespan_context(app):
        await app.state.service.started()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://jobcast") as client:
            yield client


def ask(config: object = "make test", **rest: object) -> dict[str, object]:
    """A request body of kind text."""
    return {"kind": "text", "config": config, **rest}


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 5) -> None:
    """Wait, for at most so many seconds, until the condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.002)


async def until_metric(client: httpx.AsyncClient, line: str) -> None:
    """Wait until /metrics has this line."""

    async def shown() -> bool:
        return line in (await client.get("/metrics")).text.splitlines()

    await until(shown)
