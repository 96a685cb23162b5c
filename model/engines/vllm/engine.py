"""vLLM's engine, stepped by the caller's thread; its core in this process or in one of its own.

    query ─► one request per target and quantile ─► add all, step until all are done ─► values

In this process the ends of the walks are taken from the processor directly. From another process only tokens and the
probabilities of the number tokens come back: the walk is done again from them, which gives the same symbols and what is
left of tau after the last one.
"""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model.decoder import fastest_dtype
from model.engines.base import Forecast, Query
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.engines.vllm.walks import ENDED, replayed
from model.errors import EngineUnavailable
from model.prompt import PromptEncoder

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

#: Both interfaces live beside each other; which one a vLLM wants depends on its model runner.
_PROCESSORS = {
    False: "model.engines.vllm.v1:QuantileProcessor",
    True: "model.engines.vllm.v2:QuantileProcessor",
}
#: No usage reports, no network; read by vLLM when it is imported.
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


@dataclass(frozen=True)
class VllmSettings:
    """own_process: vLLM's core apart from this process, for machines with cores to spare.

    compiled: its layers compiled (a C++ compiler, a longer start); cache_gib: memory for keys and values on a CPU.
    """

    own_process: bool = False
    compiled: bool = False
    cache_gib: int = 1
    max_sequences: int = 512
    dtype: torch.dtype | None = None


@dataclass(frozen=True)
class Request:
    """One target of a query at one quantile. scale: what the value is multiplied with."""

    query: int
    target: str
    tau: float
    tokens: tuple[int, ...]
    scale: float


def requests_of(queries: Sequence[Query], encoder: PromptEncoder) -> Iterator[Request]:
    """The requests of each query: target by target, quantile by quantile, in the query's order."""
    for number, query in enumerate(queries):
        prompt = (*query.prompt, *encoder.given_ids(query.given))
        estimates = encoder.estimates(query.prompt)
        for target in query.targets:
            ask, scale = encoder.ask(target, estimates)
            for tau in query.quantiles:
                yield Request(number, target, tau, (*prompt, ask), scale)


def forecasts_of(
    queries: Sequence[Query],
    requests: Sequence[Request],
    values: Sequence[float],
    prefill: float,
    decode: float,
) -> list[Forecast]:
    """What the requests came to, per query. values: one per request, before its scale."""
    found: list[dict[str, list[float]]] = [{target: [] for target in query.targets} for query in queries]
    for request, value in zip(requests, values, strict=True):
        found[request.query][request.target].append(request.scale * value)
    return [
        # Two walks of one target see logits of different batches: quantiles a hair apart may cross.
        Forecast({t: _ordered(v, q.quantiles) for t, v in values.items()}, prefill, decode, len(queries))
        for q, values in zip(queries, found, strict=True)
    ]


def _ordered(values: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The values in ascending order of tau."""
    place = np.argsort(quantiles, kind="stable")
    found = np.empty(len(values))
    found[place] = np.maximum.accumulate(np.asarray(values)[place])
    return tuple(found.tolist())


class VllmEngine:
    """Engine over a checkpoint directory; see `model.engines.base.Engine`."""

    def __init__(
        self, path: Path | str, encoder: PromptEncoder, settings: VllmSettings | None = None
    ) -> None:
        self._path, self._encoder = Path(path), encoder
        self._settings = settings or VllmSettings()
        self._alphabet = Alphabet.of(encoder)
        self._names = map(str, itertools.count())
        self._engine: LLMEngine | None = None

    def start(self) -> None:
        """Load vLLM and the weights, and answer one query."""
        settings = self._settings
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.own_process))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.cache_gib))
        # Pinning would take the whole service's threads along.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise EngineUnavailable("vLLM is not installed: see docs/engines.md") from error
        arguments = EngineArgs(
            model=str(self._path),
            dtype=str(settings.dtype or fastest_dtype()).removeprefix("torch."),
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            enforce_eager=not settings.compiled,
            max_num_seqs=settings.max_sequences,
            disable_log_stats=True,
        )
        runner_v2 = bool(arguments.create_engine_config().use_v2_model_runner)
        arguments.logits_processors = [_PROCESSORS[runner_v2]]
        self._engine = LLMEngine.from_engine_args(arguments, enable_multiprocessing=settings.own_process)
        targets = tuple(self._encoder.target_ids)
        self.predict([Query((1,) * self._encoder.token_budget, targets, (0.1, 0.5, 0.9))])

    def health(self) -> bool:
        """False before the start, after the close, and when the core's process has died."""
        if self._engine is None:
            return False
        dead = getattr(getattr(self._engine.engine_core, "resources", None), "engine_dead", False)
        return not dead

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.engine_core.shutdown()

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """Exact quantiles of every query."""
        if self._engine is None:
            raise EngineUnavailable("the engine is not running")
        started = time.perf_counter()
        requests = list(requests_of(queries, self._encoder))
        names = [next(self._names) for _ in requests]
        for name, request in zip(names, requests, strict=True):
            self._engine.add_request(
                name, {"prompt_token_ids": list(request.tokens)}, self._params(name, request.tau)
            )
        values: dict[str, float] = {}
        prefilled = started
        while self._engine.has_unfinished_requests():
            outputs = self._engine.step()
            if prefilled == started:
                prefilled = time.perf_counter()
            for output in outputs:
                if output.finished:
                    values[output.request_id] = self._value(output, requests[names.index(output.request_id)])
        done = time.perf_counter()
        return forecasts_of(
            queries, requests, [values[name] for name in names], prefilled - started, done - prefilled
        )

    def _params(self, name: str, tau: float) -> Any:
        from vllm import SamplingParams

        apart = self._settings.own_process
        numbers = list(range(self._alphabet.first, self._alphabet.end))
        return SamplingParams(
            temperature=0.0,
            max_tokens=self._alphabet.code.length,
            ignore_eos=True,
            detokenize=False,
            logprob_token_ids=numbers if apart else None,
            flat_logprobs=apart,
            extra_args=Ask(name, tau).to_extra_args(),
        )

    def _value(self, output: Any, request: Request) -> float:
        (written,) = output.outputs
        if not self._settings.own_process:
            return ENDED.pop(output.request_id)
        rows = written.logprobs
        length, width = self._alphabet.code.length, self._alphabet.end - self._alphabet.first
        # Per position: the written token first, then the number tokens in order.
        table = np.array(rows.logprobs).reshape(length, 1 + width)[:, 1:]
        symbols, value = replayed(self._alphabet.code, request.tau, table, self._alphabet.columns)
        tokens = [int(self._alphabet.symbols[p][s]) for p, s in enumerate(symbols)]
        if tokens != list(written.token_ids):
            raise EngineUnavailable("vLLM wrote other tokens than its probabilities say")
        return value
