"""Puts the service together from its settings; the server and the command line share it."""

import os
from collections.abc import Callable

from app.batcher import Batcher
from app.cache import ForecastCache, MemoryStore
from app.contracts import Checkpoint, ReadConfig
from app.metrics import Metrics
from app.service import Service
from app.settings import Settings
from app.units import UnitReader
from model import jobs
from model.checkpoint import Checkpoint as StoredCheckpoint
from model.engines.base import Engine

#: With more cores vLLM's core is better off in a process of its own.
_FEW_CORES = 4


def build_service(
    settings: Settings,
    metrics: Metrics,
    *,
    checkpoint: Checkpoint | None = None,
    engine: Engine | None = None,
    read: ReadConfig = jobs.read,
) -> Service:
    """The service, not yet started. Raises CheckpointError.

    What is not passed in comes from the settings; an engine's heavy imports wait until its thread starts it.
    """
    given = engine
    build_engine: Callable[[], Engine]
    if checkpoint is None or given is None:
        stored = StoredCheckpoint.load(settings.checkpoint)
        checkpoint = checkpoint or stored
        build_engine = _engine_builder(settings, stored)
    if given is not None:
        build_engine = lambda: given  # noqa: E731
    return Service(
        checkpoint,
        UnitReader(
            read,
            checkpoint,
            metrics,
            threads=settings.reader_threads,
            memo_tokens=settings.memo_tokens,
            read_seconds=settings.read_seconds,
        ),
        ForecastCache(MemoryStore(settings.cache_entries, settings.cache_ttl_seconds), metrics),
        Batcher(
            build_engine,
            metrics,
            max_queue=settings.max_queue,
            max_batch=settings.max_batch,
            wait_seconds=settings.batch_wait_ms / 1000,
            stall_seconds=settings.engine_stall_seconds,
        ),
        metrics,
        default_deadline_ms=settings.default_deadline_ms,
        drain_seconds=settings.drain_seconds,
    )


def _engine_builder(settings: Settings, checkpoint: StoredCheckpoint) -> Callable[[], Engine]:
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
