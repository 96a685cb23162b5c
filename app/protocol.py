"""HTTP/1.1 with bounds on what comes before a request reaches the app: the size of its head, and time.

connection ─ head (max_head_bytes, head_seconds) ─► app reads the body (app/body.py bounds its size and time)

Covered: connections that say nothing or trickle a head, endless heads, bodies that go on trickling after an early
answer, and what is not HTTP, each answered with a problem document; a client that is still sending when it is refused
gets to read why. Not covered: how many connections there are.
"""

import asyncio
import re
import uuid
from typing import Any

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import HeadTooLarge, HttpError, MalformedBody, RequestTimeout, problem_response
from app.headers import security_headers
from app.metrics import Metrics
from app.middleware import OTHER, UNMATCHED
from app.settings import Settings

log = structlog.get_logger()

#: Of the same length as what stands for it.
_UPGRADE = re.compile(rb"\nupgrade(?=[ \t]{0,8}:)", re.IGNORECASE)
#: How long, and for how many bytes, a refused client may go on sending.
LINGER_SECONDS = 1.0
LINGER_BYTES = 4 * 1024 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a watch over each request's arrival; `bounded_protocol` sets the limits."""

    head_seconds: float
    body_seconds: float
    max_head_bytes: int
    security_headers: tuple[tuple[bytes, bytes], ...]
    metrics: Metrics

    _watch: asyncio.TimerHandle | None = None
    _in_head = False
    _in_body = False
    #: Bytes that a refused client may still send; None while it is served.
    _linger_bytes: int | None = None
    #: Of the current head: bytes received while it was incomplete, and bytes of its parsed parts.
    _received = 0
    _parsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_PoliteTransport(transport, self))  # type: ignore[arg-type]
        self._watch_for(self.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._linger_bytes is not None:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.transport.abort()
            return
        if self._watch is None and not self._in_body:  # a connection's next request, or blank lines before it
            self._watch_for(self.head_seconds)
        super().data_received(data if self._in_body else _without_upgrade(data))
        if self._in_head:
            self._received += len(data)
            if self._received > self.max_head_bytes:
                self._refuse(self._head_too_large())

    def on_message_begin(self) -> None:
        self._in_head, self._received, self._parsed = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._watch_for(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_watching()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Called by uvicorn for whatever its parser refuses, and for what the callbacks above raise."""
        too_large = self._parsed > self.max_head_bytes
        self._refuse(self._head_too_large() if too_large else MalformedBody("this is not an HTTP request"))

    @property
    def lingers(self) -> bool:
        """Whether the answer is out and what still comes is thrown away."""
        return self._linger_bytes is not None

    def linger(self) -> bool:
        """Stop sending, and read on for a moment where a request is still arriving; whether it is.

        A connection that is closed with bytes unread is reset, which can take the answer from the client.
        """
        if not (self._in_head or self._in_body) or not self.transport.can_write_eof():
            return False
        self._linger_bytes = LINGER_BYTES
        self._stop_watching()
        self.transport.write_eof()
        self.flow.resume_reading()
        self._watch = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        return True

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > self.max_head_bytes:
            raise self._head_too_large()

    def _head_too_large(self) -> HeadTooLarge:
        return HeadTooLarge(f"the request line and the headers are larger than {self.max_head_bytes} bytes")

    def _watch_for(self, seconds: float) -> None:
        self._stop_watching()
        self._watch = self.loop.call_later(seconds, self._too_slow, seconds)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _too_slow(self, seconds: float) -> None:
        self._watch = None
        if self.transport.is_closing():
            return
        if not self._in_body:
            self._refuse(RequestTimeout(f"the head did not arrive within {seconds:g} seconds"))
        elif self.cycle.response_complete:
            self.transport.close()
        else:  # whoever reads the body answers
            self._watch_for(seconds)

    def _refuse(self, error: HttpError) -> None:
        """Answer without the app, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete and not self._in_body:
            # What is wrong came behind a request that is being answered: that answer is the last one.
            self.cycle.keep_alive = False
            self._stop_watching()
            return
        request_id = uuid.uuid4().hex
        response = problem_response(error, request_id)
        response.headers["Connection"] = "close"
        response.headers["X-Request-Id"] = request_id
        headers = [*response.raw_headers, *self.security_headers]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 %d \r\n%s\r\n%s" % (error.status, head, response.body))
        self.transport.close()
        self.metrics.requests.labels(UNMATCHED, OTHER, str(error.status)).inc()
        log.info("refused", request_id=request_id, status=error.status, code=error.code)


class _PoliteTransport:
    """A transport that lets a refused client finish its sentence."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._protocol.lingers or self._transport.is_closing()

    def close(self) -> None:
        if not self._protocol.lingers and (self._transport.is_closing() or not self._protocol.linger()):
            self._transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """The head of a request without an offer to speak another protocol, which a server may ignore (RFC 9110, 7.8).

    The parser would not read the body behind one. Java's client offers HTTP/2 with every request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\nignored", head) + end + rest


def bounded_protocol(settings: Settings, metrics: Metrics) -> type[BoundedProtocol]:
    """The protocol with the limits of the settings: uvicorn makes one per connection, and passes it none."""
    limits = {
        "head_seconds": settings.head_seconds,
        "body_seconds": settings.body_seconds,
        "max_head_bytes": settings.max_head_bytes,
        "security_headers": security_headers(tls=settings.tls_in_front),
        "metrics": metrics,
    }
    return type("ConfiguredProtocol", (BoundedProtocol,), limits)
