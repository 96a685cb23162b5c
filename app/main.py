"""The service as an ASGI app: settings -> service -> routes, handlers, middleware."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api.openapi import use_openapi
from app.api.routes import metrics_router, router
from app.auth.gate import METRICS, OPEN, PAGES, Gate
from app.auth.limiter import MemoryRateLimiter, RateLimiter
from app.auth.rates import Rate
from app.auth.ring import KeyRing
from app.build import build_service
from app.cache.redis_client import InvalidRedisUrl, redis_client
from app.contracts import Checkpoint, ReadConfig
from app.errors import add_error_handlers
from app.headers import SecurityHeaders, cors
from app.logging import configure_logging
from app.metrics import Metrics
from app.middleware import RequestMiddleware
from app.outcomes import InvalidDatabaseUrl
from app.settings import Settings
from app.startup import ConfigurationError
from app.tracing import NoTraces, OtlpTraces, Traces
from model import jobs
from model.engines.base import Engine
from model.errors import CheckpointError

DESCRIPTION = "Predicts what a workflow job will need before it runs: wall time, peak memory and CPU."


def create_app(
    settings: Settings | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    engine: Engine | None = None,
    read: ReadConfig = jobs.read,
    engine_first: bool = False,
) -> FastAPI:
    """The app; its engine starts with it. Raises ConfigurationError.

    engine_first: nothing is served before the engine has started or failed; else that goes on in the background.
    """
    settings = settings or Settings()
    configure_logging(settings.log_level)
    metrics = Metrics()
    keys = KeyRing.from_settings(settings, metrics)
    try:
        limiter = _limiter(settings)
        service = build_service(settings, metrics, checkpoint=checkpoint, engine=engine, read=read)
    except InvalidDatabaseUrl as error:
        raise ConfigurationError(f"JOBCAST_DATABASE_URL: {error}") from None
    except InvalidRedisUrl as error:
        raise ConfigurationError(f"JOBCAST_REDIS_URL: {error}") from None
    except CheckpointError as error:
        raise ConfigurationError(f"JOBCAST_CHECKPOINT: {' '.join(error.message.split())}") from None
    traces = _traces(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        await service.open()
        if engine_first:
            await service.started()
        beside = [asyncio.create_task(metrics.keep_current())]
        if keys is not None:
            beside.append(asyncio.create_task(keys.watch()))
        yield
        await service.close()
        traces.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await limiter.close()

    app = FastAPI(
        title="Jobcast",
        version=_version(),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.settings, app.state.metrics, app.state.service = settings, metrics, service
    use_openapi(app, keyed=keys is not None)
    add_error_handlers(app)
    app.include_router(router)
    if settings.metrics_port is None:
        app.include_router(metrics_router)
    for route in app.routes:  # whoever only looks whether somebody answers (RFC 9110, 9.1)
        if isinstance(route, APIRoute) and "GET" in route.methods:
            route.methods.add("HEAD")
    # Each wraps those before it: headers, then request id and log, then CORS (a preflight has no key), then the gate.
    app.add_middleware(
        Gate,
        keys=keys,
        limiter=limiter,
        default_rate=Rate.parse(settings.rate_limit) if settings.rate_limit else None,
        open_paths=OPEN
        | (PAGES if settings.open_docs else set())
        | ({METRICS} if settings.open_metrics else set()),
        metrics=metrics,
    )
    if settings.cors_origins:
        app.add_middleware(cors, origins=settings.cors_origins)
    app.add_middleware(RequestMiddleware, metrics=metrics, traces=traces)
    app.add_middleware(SecurityHeaders, tls=settings.tls_in_front)
    return app


def _traces(settings: Settings) -> Traces:
    if settings.otlp_endpoint is None:
        return NoTraces()
    try:
        return OtlpTraces(settings.otlp_endpoint, settings.trace_ratio)
    except ModuleNotFoundError as missing:
        needs = f"needs the package {missing.name}: pip install 'jobcast[traces]'"
        raise ConfigurationError(f"JOBCAST_OTLP_ENDPOINT: {needs}") from None


def _limiter(settings: Settings) -> RateLimiter:
    if settings.redis_url is None:
        return MemoryRateLimiter()
    from app.auth.redis_limiter import RedisRateLimiter

    timeout_seconds = settings.redis_timeout_ms / 1000
    client = redis_client(settings.redis_url.get_secret_value(), timeout_seconds)
    return RedisRateLimiter(client, timeout_seconds=timeout_seconds, prefix=settings.redis_prefix)


def _version() -> str:
    try:
        return version("jobcast")
    except PackageNotFoundError:
        return "0"
