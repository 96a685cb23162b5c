"""Every knob of the service: environment variables `JOBCAST_<NAME>`, with defaults that start as they are."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import model
from app.auth.keys import looks_default
from app.auth.rates import Rate

DEFAULT_CHECKPOINT = Path(model.__file__).parent / "checkpoints" / "default"
DEFAULT_PORT = 8080
#: prometheus_client's own variable, the directory of several workers' series; made by app/supervisor.py.
MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def _own_port(port: object) -> object:
    """Kubernetes sets JOBCAST_PORT to tcp://... in pods beside a service called jobcast: that says nothing."""
    return DEFAULT_PORT if isinstance(port, str) and port.startswith("tcp://") else port


def _rate(text: str) -> str:
    if text:
        Rate.parse(text)
    return text


def _origins(listed: object) -> object:
    """Comma separated. Raises ValueError for what is no origin: scheme and host, and nothing behind."""
    if not isinstance(listed, str):
        return listed
    origins = tuple(origin.strip() for origin in listed.split(",") if origin.strip())
    if not all(origin == "*" or re.fullmatch(r"https?://[^/\s*]+", origin) for origin in origins):
        raise ValueError("must be origins such as https://ci.example.org, separated by commas, or *")
    return origins


def _networks(listed: object) -> object:
    """Comma separated. Raises ValueError."""
    if not isinstance(listed, str):
        return listed
    networks = tuple(network.strip() for network in listed.split(",") if network.strip())
    try:
        for network in networks:
            ipaddress.ip_network(network)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.0/8, separated by commas") from None
    return networks


def _no_default(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and looks_default(secret.get_secret_value()):
        raise ValueError("is a default secret, as examples have them")
    return secret


Secret = Annotated[SecretStr | None, AfterValidator(_no_default)]


class Settings(BaseSettings):
    """Settings of one process. Times carry their unit in the name."""

    model_config = SettingsConfigDict(env_prefix="JOBCAST_", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535), BeforeValidator(_own_port)] = DEFAULT_PORT
    #: Processes that answer, each with an engine of its own; they share the port.
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    #: /metrics on a port of its own, without a key, instead of the main one.
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int | None, Field(ge=0, le=65535)] = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    #: Where traces go (OTLP over HTTP, such as http://collector:4318/v1/traces); none without. Needs jobcast[traces].
    otlp_endpoint: str | None = None
    #: The share of the traces that begin here; a caller's own trace is followed as the caller says.
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    #: Lines `name:sha256:<hex>[:expires=DATE][:rate=N/UNIT]`; followed when the file changes. See docs/operations.md.
    api_keys_file: Path | None = None
    #: The same lines, separated by commas or newlines.
    api_keys: SecretStr | None = None
    #: Without keys, listen where other machines can ask.
    allow_anonymous: bool = False
    #: Answer without a key: /, /docs, /openapi.json; /metrics.
    open_docs: bool = False
    open_metrics: bool = False
    #: Of a key without a rate of its own, such as 600/minute; empty: no limit.
    rate_limit: Annotated[str, AfterValidator(_rate)] = ""
    #: Pages of these origins may ask; comma separated.
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = ()
    #: Whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks; comma separated.
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ()
    #: TLS ends in front of the service: browsers are told to come that way only.
    tls_in_front: bool = False

    checkpoint: Path = DEFAULT_CHECKPOINT
    engine: Literal["torch", "vllm", "vllm-server", "fake"] = "torch"
    #: Threads of the engine's own arithmetic; None leaves the choice to the engine.
    engine_threads: Annotated[int | None, Field(ge=1)] = None
    #: An engine call hangs when it stands still for eight times what it should take, and longer than this: then the
    #: engine is replaced. None: 0.75, or 5 where vLLM computes elsewhere.
    engine_stall_seconds: Annotated[float | None, Field(gt=0)] = None
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
    vllm_api_key: Secret = None
    #: engine=vllm-server: how long a back end may take for a batch.
    vllm_answer_seconds: Annotated[float, Field(gt=0)] = 10.0

    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    #: How long an idle connection stays open: longer than a load balancer keeps its own, or requests race with the end.
    keep_alive_seconds: Annotated[int, Field(ge=1)] = 75
    #: How long the head of a request may take to arrive, and then its body, however steadily it trickles.
    head_seconds: Annotated[float, Field(gt=0)] = 10.0
    body_seconds: Annotated[float, Field(gt=0)] = 10.0
    max_head_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024
    max_batch_items: Annotated[int, Field(ge=1)] = 64
    default_deadline_ms: Annotated[int, Field(ge=10, le=60_000)] = 10_000
    #: Threads that read configs and tokenize, off the event loop.
    reader_threads: Annotated[int, Field(ge=1)] = 2
    #: Processor time that the reading of one config may take, from its text to its tokens.
    read_seconds: Annotated[float, Field(gt=0)] = 2.0

    #: Prompt tokens that may wait for the engine, those of all requests together.
    max_queue_tokens: Annotated[int, Field(ge=1)] = 262_144
    #: Prompts of one engine call, and tokens.
    max_batch: Annotated[int, Field(ge=1)] = 32
    max_batch_tokens: Annotated[int, Field(ge=1)] = 16_384
    #: How long a prompt may wait for company after a busy engine comes free; an idle engine never waits.
    batch_wait_ms: Annotated[float, Field(ge=0)] = 2.0

    cache_entries: Annotated[int, Field(ge=0)] = 50_000
    cache_ttl_seconds: Annotated[float, Field(gt=0)] = 3600.0
    #: A cache and rates that processes share, beside those in each of them: docs/operations.md has the URL's forms.
    redis_url: SecretStr | None = None
    #: How long one look-up in Redis may take; then it counts as a miss.
    redis_timeout_ms: Annotated[float, Field(gt=0)] = 50.0
    #: The beginning of every key.
    redis_prefix: str = "jobcast"
    #: Shared by the processes of a service: without it nobody can tell from a key of the cache, or from a row of the
    #: outcome store, which config it stands for.
    cache_secret: Secret = None

    #: Where outcomes are kept: postgresql://user:password@host:5432/name or sqlite:///path/to/file.db; none without.
    database_url: SecretStr | None = None
    #: How long past runs may be looked up on the way of a prediction; then it is answered without.
    database_timeout_ms: Annotated[float, Field(gt=0)] = 50.0
    #: Connections of one process.
    database_connections: Annotated[int, Field(ge=1, le=100)] = 5
    #: Predictions and outcomes that are older are deleted.
    outcome_days: Annotated[int, Field(ge=1, le=36_500)] = 180

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
