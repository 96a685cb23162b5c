"""Every knob of the service: environment variables `JOBCAST_<NAME>`, with defaults that start as they are."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

import model

DEFAULT_CHECKPOINT = Path(model.__file__).parent / "checkpoints" / "default"


class Settings(BaseSettings):
    """Settings of one process. Times carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="JOBCAST_", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    #: Where traces go (OTLP over HTTP, such as http://collector:4318/v1/traces); none without. Needs jobcast[traces].
    otlp_endpoint: str | None = None
    #: The share of the traces that begin here; a caller's own trace is followed as the caller says.
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0

    checkpoint: Path = DEFAULT_CHECKPOINT
    engine: Literal["torch", "vllm", "vllm-server", "fake"] = "torch"
    #: Threads of the engine's own arithmetic; None leaves the choice to the engine.
    engine_threads: Annotated[int | None, Field(ge=1)] = None
    #: An engine call hangs when it takes eight times what it should, and longer than this: the engine is replaced.
    engine_stall_seconds: Annotated[float, Field(gt=0)] = 0.75
    #: Lost or not started so many times in a row, the engine is given up, and the process ends.
    engine_attempts: Annotated[int, Field(ge=1)] = 5

    #: engine=vllm: its core in a process of its own. None: where more than four cores are to be had.
    vllm_own_process: bool | None = None
    #: engine=vllm: compiled layers; needs a C++ compiler and a minute at the start.
    vllm_compiled: bool = False
    #: engine=vllm on a CPU: memory for keys and values.
    vllm_cache_gib: Annotated[int, Field(ge=1)] = 1
    #: engine=vllm-server: the back ends, as a JSON list of http://host:port.
    vllm_urls: tuple[str, ...] = ()
    vllm_api_key: SecretStr | None = None
    #: engine=vllm-server: how long a back end may take for a batch.
    vllm_answer_seconds: Annotated[float, Field(gt=0)] = 10.0

    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    max_batch_items: Annotated[int, Field(ge=1)] = 64
    default_deadline_ms: Annotated[int, Field(ge=10, le=60_000)] = 10_000
    #: Threads that read configs and tokenize, off the event loop.
    reader_threads: Annotated[int, Field(ge=1)] = 2

    #: Prompt tokens that may wait for the engine, those of all requests together.
    max_queue_tokens: Annotated[int, Field(ge=1)] = 262_144
    #: Prompts of one engine call, and tokens.
    max_batch: Annotated[int, Field(ge=1)] = 32
    max_batch_tokens: Annotated[int, Field(ge=1)] = 16_384
    #: How long a prompt may wait for company after a busy engine comes free; an idle engine never waits.
    batch_wait_ms: Annotated[float, Field(ge=0)] = 2.0

    cache_entries: Annotated[int, Field(ge=0)] = 50_000
    cache_ttl_seconds: Annotated[float, Field(gt=0)] = 3600.0
    #: A cache that processes share, beside the one in each of them: docs/operations.md lists the forms of the URL.
    redis_url: SecretStr | None = None
    #: How long one look-up in Redis may take; then it counts as a miss.
    redis_timeout_ms: Annotated[float, Field(gt=0)] = 50.0
    #: The beginning of every key.
    redis_prefix: str = "jobcast"
    #: Shared by the processes of a service: without it nobody can tell from a key which config it stands for.
    cache_secret: SecretStr | None = None
    #: Prompt tokens that the memo of read bodies may hold.
    memo_tokens: Annotated[int, Field(ge=0)] = 4_000_000

    #: Between the signal to stop and the refusal of new connections: not ready, still answering.
    shutdown_grace_seconds: Annotated[float, Field(ge=0)] = 0.0
    #: How long accepted requests may take to finish once connections are refused.
    drain_seconds: Annotated[float, Field(ge=0)] = 20.0

    @model_validator(mode="after")
    def _with_back_ends(self) -> Self:
        if self.engine == "vllm-server" and not self.vllm_urls:
            raise ValueError("JOBCAST_ENGINE=vllm-server needs JOBCAST_VLLM_URLS")
        return self
