"""The three stages of a window: read its requests, ask the engine, write the answers. Anybody may run them.

What a request becomes is decided by the service's own parts: its checks, its reader, its calibration.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import structlog

from app.answer import AnswerWriter
from app.api.requests import parse_json
from app.api.schemas import PredictRequest, validated
from app.ask import asked
from app.batch.windows import is_id
from app.cache import Codec, Found, Values, joined
from app.errors import BodyTooLarge, MalformedBody, problem
from app.json import dump
from app.metrics import Metrics
from app.settings import Settings
from app.unit import Units
from app.units import UnitReader
from model import jobs
from model.checkpoint import Checkpoint
from model.engines.base import Engine, Query
from model.errors import EngineUnavailable, JobcastError

log = structlog.get_logger()

#: What an engine said to a prompt: its values, or what is wrong with the question.
Said = Values | JobcastError


@dataclass(frozen=True)
class Read:
    """A request that was read; `queries` by their keys, for each of `units.all`."""

    units: Units
    question: Query
    quantiles: tuple[float, ...]
    queries: tuple[Mapping[bytes, Query], ...]


@dataclass(frozen=True)
class ReadWindow:
    """requests: in order; a problem's JSON in place of what could not be read.

    calls: what the engine is asked at a time, each prompt once.
    """

    requests: tuple[Read | bytes, ...]
    calls: tuple[tuple[tuple[bytes, Query], ...], ...]


class Stages:
    """The first and the last stage, for one checkpoint; several processes each have their own."""

    def __init__(self, settings: Settings, checkpoint: Checkpoint) -> None:
        metrics = Metrics()
        self._settings, self._checkpoint = settings, checkpoint
        self._codec = Codec(checkpoint.version)
        self._answers = AnswerWriter(checkpoint, metrics)
        self._reader = UnitReader(
            jobs.read, checkpoint, metrics, threads=1, memo_tokens=0, read_seconds=settings.read_seconds
        )

    def read(self, lines: Sequence[bytes | None]) -> ReadWindow:
        """From requests to calls of the engine, the shortest prompts first."""
        requests = tuple(self._read_or_problem(line) for line in lines)
        prompts = {
            key: query
            for request in requests
            if isinstance(request, Read)
            for queries in request.queries
            for key, query in queries.items()
        }
        ordered = sorted(prompts.items(), key=lambda entry: (len(entry[1].prompt), entry[0]))
        calls = _cut(ordered, self._settings.max_batch, self._settings.max_batch_tokens)
        return ReadWindow(requests, tuple(calls))

    def answer(self, window: ReadWindow, said: Mapping[bytes, Said]) -> list[bytes]:
        """An answer's or a problem's JSON per request, without its request id."""
        return [
            request if isinstance(request, bytes) else self._answer(request, said)
            for request in window.requests
        ]

    def _read_or_problem(self, line: bytes | None) -> Read | bytes:
        try:
            return self._read(line)
        except JobcastError as error:
            return _problem(error)
        except Exception as error:  # a defect of ours: the others must not suffer for it
            log.error("internal_error", exc_info=error)
            return _problem(error)

    def _read(self, line: bytes | None) -> Read:
        if line is None:
            raise BodyTooLarge(f"a request may have {self._settings.max_body_bytes} bytes")
        content = parse_json(line)
        if isinstance(content, dict):
            name = content.pop("id", None)
            if name is not None and not is_id(name):
                raise MalformedBody("id must be text or a whole number")
        ask = validated(PredictRequest, content).ask()
        question, quantiles = asked(ask, self._checkpoint.targets)
        units = self._reader.make(ask)
        units.check_given(ask.given)
        question = units.question(question)
        queries = tuple(
            {self._codec.key(query): query for query in unit.queries(question)} for unit in units.all
        )
        return Read(units, question, quantiles, queries)

    def _answer(self, request: Read, said: Mapping[bytes, Said]) -> bytes:
        found = []
        for queries in request.queries:
            parts = []
            for one in map(said.__getitem__, queries):
                if isinstance(one, JobcastError):
                    return _problem(one)
                parts.append(Found(one, "miss"))
            found.append(joined(parts))
        try:
            answer = self._answers.write(request.units, found, request.question, request.quantiles, "")
        except JobcastError as error:
            return _problem(error)
        del answer["request_id"]
        return dump(answer)


def compute(engine: Engine, window: ReadWindow, threads: Executor | None = None) -> dict[bytes, Said]:
    """What the engine says to every prompt of a window. threads: for engines that take several calls at a time.

    Raises EngineUnavailable: a run can go on when it is well again.
    """
    said: dict[bytes, Said] = {}
    for answers in (threads.map if threads else map)(lambda call: _call(engine, call), window.calls):
        said |= answers
    return said


def _call(engine: Engine, call: Sequence[tuple[bytes, Query]]) -> dict[bytes, Said]:
    try:
        forecasts = engine.predict([query for _, query in call])
    except JobcastError as error:
        if error.status >= 500:
            raise
        if len(call) == 1:
            return {call[0][0]: error}
        # Find the one at fault; the others must not suffer for it.
        return {key: answer for one in call for key, answer in _call(engine, [one]).items()}
    except Exception as error:
        raise EngineUnavailable(
            f"the engine failed: {type(error).__name__}; the same command goes on"
        ) from error
    return {key: forecast.values for (key, _), forecast in zip(call, forecasts, strict=True)}


def is_problem(body: bytes) -> bool:
    """Whether it is a problem's JSON rather than an answer's."""
    return body.startswith(b'{"type":')


def _problem(error: BaseException) -> bytes:
    document = problem(error, "")
    del document["request_id"]
    return dump(document)


def _cut(
    prompts: Sequence[tuple[bytes, Query]], most: int, most_tokens: int
) -> Iterator[tuple[tuple[bytes, Query], ...]]:
    """Bounded in prompts and tokens, as the service's own calls are."""
    call: list[tuple[bytes, Query]] = []
    tokens = 0
    for key, query in prompts:
        size = len(query.prompt)
        if call and (len(call) == most or tokens + size > most_tokens):
            yield tuple(call)
            call, tokens = [], 0
        call.append((key, query))
        tokens += size
    if call:
        yield tuple(call)
