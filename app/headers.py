"""Headers of every answer that keep browsers and caches from making more of it than it is; CORS where it is wanted."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_YEAR_SECONDS = 31_536_000
#: A route that sends one of these itself keeps its own.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
)
_HSTS = (b"strict-transport-security", b"max-age=%d" % _YEAR_SECONDS)


def security_headers(*, tls: bool) -> tuple[tuple[bytes, bytes], ...]:
    """tls: browsers come through TLS, which ends in front of this service."""
    return (*SECURITY_HEADERS, *((_HSTS,) if tls else ()))


class SecurityHeaders:
    """Outermost, so that refusals and answers to defects of ours have them too. Pure ASGI."""

    def __init__(self, app: ASGIApp, *, tls: bool) -> None:
        self._app = app
        self._headers = security_headers(tls=tls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in self._headers if header[0] not in own),
                ]
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)


def cors(app: ASGIApp, *, origins: tuple[str, ...]) -> CORSMiddleware:
    """Pages of these origins may ask with a key of theirs. Cookies are never let in: there are none."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("Authorization", "X-API-Key", "Content-Type", "X-Request-Id", "traceparent"),
        expose_headers=("X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"),
        allow_credentials=False,
        max_age=600,
    )
