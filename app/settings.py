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

    checkpoint: Path = DEFAULT_CHECKPOINT
    engine: Literal["torch", "vllm", "vllm-server", "fake"] = "torch"
    #: Threads of the engine's own arithmetic; None leaves the choice to the engine.
    engine_threads: Annotated[int | None, Field(ge=1)] = None
    #: An engine call that takes longer than this makes the service not ready.
    engine_stall_seconds: Annotated[float, Field(gt=0)] = 60.0

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
    #: How long the head of a request may take to arrive, and then its body, however steadily it trickles.
    head_seconds: Annotated[float, Field(gt=0)] = 10.0
    body_seconds: Annotated[float, Field(gt=0)] = 10.0
    max_head_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024
    max_batch_items: Annotated[int, Field(ge=1)] = 64
    default_deadline_ms: Annotated[int, Field(ge=10, le=60_000)] = 10_000
    #: Threads that read configs and tokenize, off the event loop.
    reader_threads: Annotated[int, Field(ge=1)] = 2
    #: How long the reading of one config may take, from its text to its tokens.
    read_seconds: Annotated[float, Field(gt=0)] = 2.0

    #: Prompts that may wait for the engine, those of all requests together.
    max_queue: Annotated[int, Field(ge=1)] = 512
    #: Prompts of one engine call.
    max_batch: Annotated[int, Field(ge=1)] = 32
    #: How long a prompt may wait for company after a busy engine comes free; an idle engine never waits.
    batch_wait_ms: Annotated[float, Field(ge=0)] = 2.0

    cache_entries: Annotated[int, Field(ge=0)] = 50_000
    cache_ttl_seconds: Annotated[float, Field(gt=0)] = 3600.0
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
