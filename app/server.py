"""uvicorn, stopped gracefully: not ready first, then no new connections, then the queue is drained.

uvicorn alone refuses connections at once on SIGTERM, while a load balancer still sends them.
"""

import signal
import sys
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.protocol import bounded_protocol
from app.service import Service
from app.settings import Settings

#: A thread that wants to run waits so long before it interrupts another. Every system call of the event loop is such a
#: wait while configs are read: with Python's 5 ms a request takes a hundred of them.
SWITCH_SECONDS = 0.0005


class DrainingServer(uvicorn.Server):
    """On SIGTERM, stay up for the grace period with readiness off; a second signal stops at once."""

    def __init__(self, config: uvicorn.Config, service: Service, grace_seconds: float) -> None:
        super().__init__(config)
        self._service = service
        self._grace_seconds = grace_seconds
        self._draining = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.drain()
        if sig == signal.SIGTERM and self._grace_seconds and not self._draining:
            self._draining = True
            timer = threading.Timer(self._grace_seconds, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
        else:
            super().handle_exit(sig, frame)


def serve(app: FastAPI, settings: Settings) -> None:
    """Run until a signal says stop. One process: the engine and the cache are in it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_config=None,
        server_header=False,
        http=bounded_protocol(settings),
        ws="none",
        timeout_graceful_shutdown=int(settings.drain_seconds) + 1,
    )
    DrainingServer(config, app.state.service, settings.shutdown_grace_seconds).run()
