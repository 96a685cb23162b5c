"""vLLM's engine, stepped on a thread; its core in this process or in one of its own.

    query ─► one request per target and quantile ─► inbox ─► stepping thread: add, step, deliver ─► values

In this process the ends of the walks are taken from the processor directly. From another process only tokens and the
probabilities of the number tokens come back: the walk is done again from them, which gives the same symbols and what is
left of tau after the last one.
"""

import copy
import itertools
import math
import os
import queue
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model.engines.base import Forecast, Query
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.engines.vllm.requests import Request, forecasts_of, requests_of
from model.engines.vllm.walks import ENDED, Walks
from model.errors import EngineUnavailable
from model.precision import fastest_dtype
from model.prompt import PromptEncoder

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

#: Both interfaces live beside each other; which one a vLLM wants depends on its model runner.
PROCESSORS = {
    False: "model.engines.vllm.v1:QuantileProcessor",
    True: "model.engines.vllm.v2:QuantileProcessor",
}
#: How often a waiting caller looks whether the stepping thread still lives.
_LOOK_SECONDS = 0.5
#: No usage reports, no network; read by vLLM when it is imported.
QUIET = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


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
    #: Further arguments of vLLM's engine, as they are.
    more: Mapping[str, Any] = field(default_factory=dict)


class _Call:
    """What one caller waits for. asked: by name, the prompt's token ids and vLLM's sampling parameters."""

    def __init__(self, asked: Mapping[str, tuple[Sequence[int], Any]]) -> None:
        self.asked = asked
        self.outputs: dict[str, Any] = {}
        self.started = time.perf_counter()
        self.first_step = 0.0
        self.failure: EngineUnavailable | None = None
        self.done = threading.Event()

    def fail(self, failure: EngineUnavailable) -> None:
        """Wake the waiting caller with an error."""
        self.failure = failure
        self.done.set()


class VllmEngine:
    """Engine over a checkpoint directory; see `model.engines.base.Engine`.

    A thread steps vLLM's engine; what several callers ask meanwhile joins the running batch.
    """

    concurrency = 4

    def __init__(
        self, path: Path | str, encoder: PromptEncoder, settings: VllmSettings | None = None
    ) -> None:
        self._path, self._encoder = Path(path), encoder
        self._settings = settings or VllmSettings()
        self._alphabet = Alphabet.of(encoder)
        self._walks = Walks(self._alphabet)
        # Other engines of this process have names of their own.
        self._names = map(f"{uuid.uuid4().hex[:12]}-{{}}".format, itertools.count())
        self._inbox: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._stepper: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._template: Any = None

    def start(self) -> None:
        """Load vLLM and the weights, and answer one query."""
        self._stepper = threading.Thread(target=self._step_on, name="vllm-step", daemon=True)
        self._stepper.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        targets = tuple(self._encoder.target_ids)
        self.predict([Query((1,) * self._encoder.token_budget, targets, (0.1, 0.5, 0.9))])

    def health(self) -> bool:
        """False before the start, after the close, and when vLLM has failed or its process has died."""
        return self._running() and self._failure is None

    def close(self) -> None:
        stepper, self._stepper = self._stepper, None
        if stepper is not None:
            self._inbox.put(None)
            stepper.join()

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """Exact quantiles of every query. Raises EngineUnavailable."""
        requests = {next(self._names): request for request in requests_of(queries, self._encoder)}
        call = self._served(
            {name: (one.tokens, self._params(name, one.tau)) for name, one in requests.items()}
        )
        values = [self._value(call.outputs[name], request) for name, request in requests.items()]
        done = time.perf_counter()
        times = call.first_step - call.started, done - call.first_step
        return forecasts_of(queries, list(requests.values()), values, *times)

    def generate(self, asked: Sequence[tuple[Sequence[int], Any]]) -> list[Any]:
        """Plain decoding beside the walks: token ids and vLLM's SamplingParams -> vLLM's RequestOutputs, in order."""
        named = {next(self._names): one for one in asked}
        outputs = self._served(named).outputs
        return [outputs[name] for name in named]

    def _served(self, asked: Mapping[str, tuple[Sequence[int], Any]]) -> _Call:
        if not self.health():
            raise EngineUnavailable("the engine is not running")
        call = _Call(asked)
        if asked:
            self._inbox.put(call)
            while not call.done.wait(_LOOK_SECONDS):
                if not self._running():
                    raise EngineUnavailable("vLLM's engine stopped")
        if call.failure is not None:
            raise call.failure
        return call

    def _running(self) -> bool:
        return self._stepper is not None and self._stepper.is_alive()

    def _step_on(self) -> None:
        """What the stepping thread does, from the start to the close or to a failure."""
        try:
            engine = self._made()
        except Exception as error:
            self._failure = _told("vLLM did not start", error)
            self._ready.set()
            return
        self._ready.set()
        calls: dict[str, _Call] = {}
        try:
            while self._admit(engine, calls):
                for output in engine.step():
                    self._deliver(output, calls)
        except Exception as error:
            self._failure = _told("vLLM failed", error)
        finally:
            for call in {id(call): call for call in calls.values()}.values():
                call.fail(EngineUnavailable("vLLM's engine stopped"))
            engine.engine_core.shutdown()

    def _admit(self, engine: "LLMEngine", calls: dict[str, _Call]) -> bool:
        """Take in what was asked; waits for it where nothing runs. False to stop."""
        while not self._inbox.empty() or not engine.has_unfinished_requests():
            call = self._inbox.get()
            if call is None:
                return False
            try:
                for name, (tokens, params) in call.asked.items():
                    engine.add_request(name, {"prompt_token_ids": list(tokens)}, params)
                    calls[name] = call
            except (
                Exception
            ):  # vLLM's admission has its own errors: a prompt beyond its longest, for instance
                engine.abort_request([name for name in call.asked if calls.pop(name, None)])
                call.fail(EngineUnavailable("vLLM refused a request"))
        return True

    @staticmethod
    def _deliver(output: Any, calls: dict[str, _Call]) -> None:
        call = calls.get(output.request_id)
        if call is None:  # refused together with another one
            return
        call.first_step = call.first_step or time.perf_counter()
        if output.finished:
            del calls[output.request_id]
            call.outputs[output.request_id] = output
            if len(call.outputs) == len(call.asked):
                call.done.set()

    def _made(self) -> "LLMEngine":
        settings = self._settings
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.own_process))
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(settings.cache_gib))
        # vLLM would take all but one thread from every product in this process, its own and ours.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        # Pinning would take the whole service's threads along.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise EngineUnavailable("vLLM is not installed: docs/engines.md says how") from error
        chosen = {
            "dtype": str(settings.dtype or fastest_dtype()).removeprefix("torch."),
            "skip_tokenizer_init": True,
            "enable_prefix_caching": True,
            "enforce_eager": not settings.compiled,
            "max_num_seqs": settings.max_sequences,
            "disable_log_stats": True,
        }
        arguments = EngineArgs(model=str(self._path), **{**chosen, **settings.more})
        runner_v2 = bool(arguments.create_engine_config().use_v2_model_runner)
        arguments.logits_processors = [PROCESSORS[runner_v2]]
        return LLMEngine.from_engine_args(arguments, enable_multiprocessing=settings.own_process)

    def _params(self, name: str, tau: float) -> Any:
        if self._template is None:
            self._template = self._greedy()
        params = copy.copy(self._template)  # its checks are done once
        params.extra_args = Ask(name, tau).to_extra_args()
        return params

    def _greedy(self) -> Any:
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
            skip_clone=True,  # nobody else holds it: vLLM need not copy what is in it
        )

    def _value(self, output: Any, request: Request) -> float:
        (written,) = output.outputs
        if not self._settings.own_process:
            value = ENDED.pop(output.request_id, math.nan)
            if math.isnan(value):
                raise EngineUnavailable("a quantile walk was lost")
            return value
        # Per position: the written token first, then the number tokens in order.
        table = np.array(written.logprobs.logprobs).reshape(len(written.token_ids), -1)[:, 1:]
        return self._walks.followed(request.tau, written.token_ids, table)


def _told(what: str, error: Exception) -> EngineUnavailable:
    """The failure as operators should read it: vLLM's own errors speak of settings, never of what was asked."""
    if isinstance(error, EngineUnavailable):
        return error
    first = str(error).strip().splitlines()[:1]
    told = EngineUnavailable(": ".join([what, type(error).__name__, *first]))
    told.__cause__ = error
    return told
