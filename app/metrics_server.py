"""A listener that serves /metrics and nothing else, beside the main one or in the process that watches the workers."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.exposition import Exposition
from app.headers import SecurityHeaders


class BesideServer(uvicorn.Server):
    """Serves beside the main server, or in a process without one: signals are not its business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def metrics_server(exposition: Callable[[str], Awaitable[Exposition]]) -> BesideServer:
    """Serves `exposition(accept)` as GET /metrics, and nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        response: Response
        if scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            told = await exposition(Headers(scope=scope).get("accept", ""))
            response = Response(told.body, headers={"Content-Type": told.content_type})
        else:
            response = PlainTextResponse("only GET /metrics\n", 404)
        await response(scope, receive, send)

    return BesideServer(
        uvicorn.Config(
            SecurityHeaders(app, tls=False),
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )
