"""The service as an ASGI app: settings -> service -> routes, handlers, middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from app.api.openapi import use_openapi
from app.api.routes import router
from app.build import build_service
from app.contracts import Checkpoint, ReadConfig
from app.errors import add_error_handlers
from app.logging import configure_logging
from app.metrics import Metrics
from app.middleware import RequestMiddleware
from app.settings import Settings
from app.tracing import NoTraces, OtlpTraces, Traces
from model import jobs
from model.engines.base import Engine

DESCRIPTION = "Predicts what a workflow job will need before it runs: wall time, peak memory and CPU."


def create_app(
    settings: Settings | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    engine: Engine | None = None,
    read: ReadConfig = jobs.read,
) -> FastAPI:
    """The app; its engine starts with it, in the background. Raises CheckpointError."""
    settings = settings or Settings()
    configure_logging(settings.log_level)
    metrics = Metrics()
    service = build_service(settings, metrics, checkpoint=checkpoint, engine=engine, read=read)
    traces = _traces(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()
        traces.close()

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
    use_openapi(app)
    add_error_handlers(app)
    app.include_router(router)
    app.add_middleware(RequestMiddleware, metrics=metrics, traces=traces)
    return app


def _traces(settings: Settings) -> Traces:
    if settings.otlp_endpoint is None:
        return NoTraces()
    return OtlpTraces(settings.otlp_endpoint, settings.trace_ratio)


def _version() -> str:
    try:
        return version("jobcast")
    except PackageNotFoundError:
        return "0"
