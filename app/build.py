"""Puts the service together from its settings; the server and the command line share it."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.admission import Admission
from app.ask import DEFAULT_QUANTILES
from app.batcher import Batcher, Limits
from app.cache import Codec, ForecastCache, MemoryStore, Store, TieredStore
from app.contracts import Checkpoint, ReadConfig
from app.cores import usable_cores
from app.engine_host import EngineHost
from app.metrics import Metrics
from app.outcomes.identity import Digests
from app.service import Service
from app.service_time import ServiceTime
from app.settings import Settings
from app.units import UnitReader
from model import jobs
from model.checkpoint import Checkpoint as StoredCheckpoint
from model.engines.base import Engine, Query

if TYPE_CHECKING:
    from app.outcomes.book import Outcomes

#: By whether the engine's arithmetic runs on other threads or machines, where nobody sees whether it moves.
_STALL_SECONDS = {False: 0.75, True: 5.0}
#: With more cores vLLM's core is better off in a process of its own.
_FEW_CORES = 4
#: Where the engine and reading share one core, no config is begun beside a call of the engine: what was read is
#: answered first. Unless more than so many wait: then the next calls should be large (docs/decisions.md).
READ_AHEAD = 16


def build_service(
    settings: Settings,
    metrics: Metrics,
    *,
    checkpoint: Checkpoint | None = None,
    engine: Engine | None = None,
    read: ReadConfig = jobs.read,
    lazily: bool = False,
) -> Service:
    """The service, not yet started. Raises CheckpointError, InvalidDatabaseUrl.

    What is not passed in comes from the settings; an engine's heavy imports wait until its thread starts it.
    lazily: the checkpoint's experts too wait for the first job of a kind.
    """
    given = engine
    build_engine: Callable[[], Engine]
    if checkpoint is None or given is None:
        stored = StoredCheckpoint.load(settings.checkpoint, lazily=lazily)
        checkpoint = checkpoint or stored
        build_engine = engine_builder(settings, stored)
    if given is not None:
        build_engine = lambda: given  # noqa: E731
    secret = settings.cache_secret.get_secret_value() if settings.cache_secret else ""
    codec = Codec(checkpoint.version, secret.encode())
    digests = None if settings.database_url is None else Digests(secret.encode())
    outcomes = _outcomes(settings, digests, metrics) if digests else None
    batcher = _batcher(settings, checkpoint, build_engine, metrics, warm=given is None)
    shares_a_core = settings.engine == "torch" and usable_cores() <= settings.workers
    reader = UnitReader(
        read,
        checkpoint,
        metrics,
        threads=settings.reader_threads,
        memo_tokens=settings.memo_tokens,
        read_seconds=settings.read_seconds,
        digests=digests,
        histories=outcomes.histories if outcomes else None,
        held=lambda waiting: shares_a_core and batcher.busy and waiting <= READ_AHEAD,
    )
    batcher.on_free = reader.go_on
    return Service(
        checkpoint,
        reader,
        codec,
        ForecastCache(_store(settings, codec, metrics), metrics),
        batcher,
        Admission(metrics, max_tokens=settings.max_queue_tokens),
        metrics,
        default_deadline_ms=settings.default_deadline_ms,
        drain_seconds=settings.drain_seconds,
        outcomes=outcomes,
    )


def _outcomes(settings: Settings, digests: Digests, metrics: Metrics) -> "Outcomes":
    from app.outcomes.book import Outcomes

    assert settings.database_url is not None
    return Outcomes(
        settings.database_url.get_secret_value(),
        digests,
        metrics,
        connections=settings.database_connections,
        timeout_seconds=settings.database_timeout_ms / 1000,
        days=settings.outcome_days,
    )


def _batcher(
    settings: Settings,
    checkpoint: Checkpoint,
    build_engine: Callable[[], Engine],
    metrics: Metrics,
    *,
    warm: bool,
) -> Batcher:
    targets = tuple(target.name for target in checkpoint.targets)
    longest = checkpoint.token_budget
    sizes = [(1, 64), (1, longest), (4, longest), (1, 64), (1, longest), (4, longest)] if warm else []
    service_time = ServiceTime()
    host = EngineHost(
        build_engine,
        metrics,
        service_time,
        stall_seconds=settings.engine_stall_seconds or _STALL_SECONDS[settings.engine.startswith("vllm")],
        attempts=settings.engine_attempts,
        warm_up=[[Query((1,) * tokens, targets, DEFAULT_QUANTILES)] * prompts for prompts, tokens in sizes],
    )
    limits = Limits(
        settings.max_batch,
        settings.max_batch_tokens,
        settings.batch_wait_ms / 1000,
    )
    return Batcher(host, metrics, limits)


def _store(settings: Settings, codec: Codec, metrics: Metrics) -> Store:
    memory = MemoryStore(settings.cache_entries, settings.cache_ttl_seconds)
    if settings.redis_url is None:
        return memory
    from app.cache.redis_client import redis_client
    from app.cache.redis_store import RedisStore

    timeout_seconds = settings.redis_timeout_ms / 1000
    shared = RedisStore(
        redis_client(settings.redis_url.get_secret_value(), timeout_seconds),
        codec,
        metrics,
        timeout_seconds=timeout_seconds,
        ttl_seconds=settings.cache_ttl_seconds,
        prefix=settings.redis_prefix,
    )
    return TieredStore(memory, shared)


def engine_builder(settings: Settings, checkpoint: StoredCheckpoint) -> Callable[[], Engine]:
    """Makes the engine that the settings name; imports what only that one needs."""

    def fake() -> Engine:
        from model.engines.fake import FakeEngine

        return FakeEngine(checkpoint.manifest.number_code)

    def torch() -> Engine:
        from model.engines.torch_engine import TorchEngine

        return TorchEngine(checkpoint.path, checkpoint.encoder, threads=settings.engine_threads)

    def vllm() -> Engine:
        from model.engines.vllm.engine import VllmEngine, VllmSettings

        own_process = settings.vllm_own_process
        chosen = VllmSettings(
            own_process=(os.cpu_count() or 1) > _FEW_CORES if own_process is None else own_process,
            compiled=settings.vllm_compiled,
            cache_gib=settings.vllm_cache_gib,
        )
        return VllmEngine(checkpoint.path, checkpoint.encoder, chosen)

    def vllm_server() -> Engine:
        from model.engines.vllm.server import ServerSettings, VllmServerEngine

        key = settings.vllm_api_key
        chosen = ServerSettings(
            settings.vllm_urls,
            checkpoint.version,
            api_key=key.get_secret_value() if key else None,
            answer_seconds=settings.vllm_answer_seconds,
        )
        return VllmServerEngine(checkpoint.encoder, chosen)

    return {"fake": fake, "torch": torch, "vllm": vllm, "vllm-server": vllm_server}[settings.engine]
