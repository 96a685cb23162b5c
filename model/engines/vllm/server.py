"""vLLM behind its OpenAI server, asked over HTTP: front ends on CPUs, back ends on GPUs, each scaled on its own.

    predict ─► one completion request per quantile, its prompts all targets of all queries ─► walks followed ─► values

The server runs our logits processor (`jobcast vllm-server` starts one) and answers with the written tokens and the
probabilities of the number tokens, from which each walk is followed to its value. A batch goes to one back end, so that
its requests share the prompts that are cached there; the next batch goes to the next. A back end that fails is left
alone for a while, and its batch is tried on another as long as the retry budget lasts: retries must not multiply the
load of a system that is already failing.
"""

import itertools
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import orjson

from model.engines.base import Forecast, Query
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.engines.vllm.requests import Request, forecasts_of, requests_of
from model.engines.vllm.walks import Walks
from model.errors import EngineUnavailable
from model.prompt import PromptEncoder

_POLL_SECONDS = 1.0
#: A back end that failed is not asked again for so long, unless its health says otherwise.
_REST_SECONDS = 5.0
_MOST_CONNECTIONS = 64


@dataclass(frozen=True)
class ServerSettings:
    """urls: of the back ends, `http://host:port`. model: the name that they serve the checkpoint under.

    retry_share: retries that every request earns; a few are there from the start.
    """

    urls: tuple[str, ...]
    model: str
    api_key: str | None = None
    connect_seconds: float = 1.0
    answer_seconds: float = 10.0
    start_seconds: float = 300.0
    retry_share: float = 0.1
    retries_at_start: int = 3


class RetryBudget:
    """Tokens that every request adds a share of, and every retry takes one of."""

    def __init__(self, share: float, at_start: int) -> None:
        self._share, self._most = share, max(float(at_start), 10.0)
        self._left = float(at_start)
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A first attempt was made."""
        with self._lock:
            self._left = min(self._most, self._left + self._share)

    def spend(self) -> bool:
        """Whether a retry may be made; it is counted."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


@dataclass
class _Backend:
    url: str
    client: httpx.Client
    rests_until: float = field(default=0.0)

    @property
    def up(self) -> bool:
        return time.monotonic() >= self.rests_until


class _BackendFailed(Exception):
    """This back end could not answer; another one may."""


class VllmServerEngine:
    """Engine over back ends that serve the same checkpoint; see `model.engines.base.Engine`."""

    concurrency = 8

    def __init__(self, encoder: PromptEncoder, settings: ServerSettings) -> None:
        if not settings.urls:
            raise ValueError("a vLLM server engine needs at least one URL")
        self._encoder, self._settings = encoder, settings
        self._alphabet = Alphabet.of(encoder)
        self._walks = Walks(self._alphabet)
        self._budget = RetryBudget(settings.retry_share, settings.retries_at_start)
        self._backends: list[_Backend] = []
        self._turns = itertools.count()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Wait until a back end answers a query; from then on they are watched. Raises EngineUnavailable."""
        settings = self._settings
        headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        timeout = httpx.Timeout(settings.answer_seconds, connect=settings.connect_seconds)
        limits = httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS)
        self._closed.clear()
        self._backends = [
            _Backend(
                url,
                httpx.Client(base_url=url, headers=headers, timeout=timeout, limits=limits, trust_env=False),
            )
            for url in settings.urls
        ]
        self._threads = ThreadPoolExecutor(_MOST_CONNECTIONS, thread_name_prefix="vllm-request")
        until = time.monotonic() + settings.start_seconds
        query = Query((1,) * 64, tuple(self._encoder.target_ids), (0.1, 0.5, 0.9))
        while not any(self._healthy(backend) for backend in self._backends):
            if time.monotonic() > until or self._closed.wait(_POLL_SECONDS):
                raise EngineUnavailable("no vLLM server answers")
        self.predict([query])
        threading.Thread(target=self._watch, name="vllm-health", daemon=True).start()

    def health(self) -> bool:
        """True while a back end is up, as far as the last second knows."""
        return not self._closed.is_set() and any(backend.up for backend in self._backends)

    def close(self) -> None:
        self._closed.set()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        for backend in self._backends:
            backend.client.close()
        self._backends = []

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """Exact quantiles of every query. Raises EngineUnavailable when no back end can give them."""
        if self._threads is None:
            raise EngineUnavailable("the engine is not running")
        started = time.perf_counter()
        requests = list(requests_of(queries, self._encoder))
        self._budget.earn()
        values = self._values(requests)
        return forecasts_of(queries, requests, values, 0.0, time.perf_counter() - started)

    def _values(self, requests: Sequence[Request]) -> list[float]:
        """One value per request, from the first back end that gives them all."""
        turn = next(self._turns)
        order = [self._backends[(turn + i) % len(self._backends)] for i in range(len(self._backends))]
        order.sort(key=lambda backend: not backend.up)  # stable: those that rest come last
        reason = ""
        for attempt, backend in enumerate((*order, order[0])):
            if attempt and not self._budget.spend():
                break
            try:
                return self._asked(backend, requests)
            except _BackendFailed as failed:
                reason = str(failed)
                backend.rests_until = time.monotonic() + _REST_SECONDS
        raise EngineUnavailable(f"no vLLM server could answer: {reason}")

    def _asked(self, backend: _Backend, requests: Sequence[Request]) -> list[float]:
        assert self._threads is not None
        # Equal prompts at one tau have one answer; in one call, under one name, they would also share one walk,
        # though their rows may differ in the last bits.
        by_tau: defaultdict[float, dict[tuple[int, ...], list[int]]] = defaultdict(dict)
        for place, request in enumerate(requests):
            by_tau[request.tau].setdefault(request.tokens, []).append(place)
        values = [0.0] * len(requests)
        answers = self._threads.map(
            lambda one: self._completed(backend, one[0], list(one[1])), by_tau.items()
        )
        for (tau, prompts), choices in zip(by_tau.items(), answers, strict=True):
            for places, (tokens, rows) in zip(prompts.values(), choices, strict=True):
                value = self._walks.followed(tau, tokens, rows)
                for place in places:
                    values[place] = value
        return values

    def _completed(
        self, backend: _Backend, tau: float, prompts: Sequence[tuple[int, ...]]
    ) -> list[tuple[list[int], np.ndarray]]:
        """Per prompt, in order: the written tokens, and the log probabilities of the number tokens at each."""
        numbers = list(range(self._alphabet.first, self._alphabet.end))
        body = {
            "model": self._settings.model,
            "prompt": prompts,
            "max_tokens": self._alphabet.code.length,
            "temperature": 0,
            "ignore_eos": True,
            "add_special_tokens": False,
            "return_tokens_as_token_ids": True,
            "logprobs": len(numbers),
            "logprob_token_ids": numbers,
            "vllm_xargs": Ask(uuid.uuid4().hex, tau).to_extra_args(),
        }
        try:
            answer = backend.client.post(
                "/v1/completions", content=orjson.dumps(body), headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise _BackendFailed(type(error).__name__) from error
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise EngineUnavailable("the vLLM server does not serve this checkpoint")
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.BAD_REQUEST):
            raise EngineUnavailable(f"the vLLM server refused the request with {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise _BackendFailed(f"status {answer.status_code}")
        choices = sorted(orjson.loads(answer.content)["choices"], key=lambda choice: choice["index"])
        if len(choices) != len(prompts):
            raise _BackendFailed("another number of answers")
        if any(len(choice["logprobs"]["tokens"]) < self._alphabet.code.length for choice in choices):
            raise _BackendFailed("an answer that was given up")  # it was told to end, say
        return [self._read(choice["logprobs"], numbers) for choice in choices]

    @staticmethod
    def _read(logprobs: Any, numbers: Sequence[int]) -> tuple[list[int], np.ndarray]:
        tokens = [int(token.removeprefix("token_id:")) for token in logprobs["tokens"]]
        rows = [[seen[f"token_id:{number}"] for number in numbers] for seen in logprobs["top_logprobs"]]
        return tokens, np.array(rows)

    def _healthy(self, backend: _Backend) -> bool:
        try:
            return backend.client.get("/health", timeout=self._settings.connect_seconds).is_success
        except httpx.HTTPError:
            return False

    def _watch(self) -> None:
        """A back end that is down is found out, and one that came back is used again, within a second or so."""
        while not self._closed.wait(_POLL_SECONDS):
            for backend in list(self._backends):
                healthy = self._healthy(backend)
                if self._closed.is_set():
                    return
                backend.rests_until = 0.0 if healthy else time.monotonic() + _REST_SECONDS
