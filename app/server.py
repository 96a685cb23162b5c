"""uvicorn, stopped gracefully: not ready first, then no new connections, then the queue is drained.

uvicorn alone refuses connections at once on SIGTERM, while a load balancer still sends them.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import threading
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.metrics_server import metrics_server
from app.protocol import bounded_protocol
from app.service import Service
from app.settings import Settings

#: What a worker tells its parent, and how often.
HEARTBEAT = b"."
HEARTBEAT_SECONDS = 1.0
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


def serve(
    app: FastAPI,
    settings: Settings,
    sockets: list[socket.socket],
    *,
    metrics_sockets: list[socket.socket] | None = None,
    parent: socket.socket | None = None,
) -> None:
    """Run until a signal says stop, or no engine can be kept running: then with exit status 1.

    One process: the engine and the cache are in it.

    metrics_sockets: where /metrics is served beside it, on the same event loop. parent: a socket whose other end the
    process holds that watches this one, and that this one must not outlive.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    config = server_config(app, settings)
    server = DrainingServer(config, app.state.service, settings.shutdown_grace_seconds)
    given_up = False

    def give_up() -> None:
        nonlocal given_up
        given_up = server.should_exit = True

    app.state.service.on_given_up(give_up)

    async def run() -> None:
        beside = [asyncio.create_task(_settle(app.state.service))]
        if metrics_sockets is not None:
            exposition = app.state.metrics.exposition
            beside.append(asyncio.create_task(metrics_server(exposition).serve(metrics_sockets)))
        if parent is not None:
            parent.setblocking(False)
            beside.append(asyncio.create_task(_stop_without(parent, server)))
            beside.append(asyncio.create_task(_beat(parent)))
        await server.serve(sockets)
        for task in beside:
            task.cancel()

    # uvicorn raises the signal again once all is closed; for Ctrl-C nothing is left to say.
    with (
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        runner.run(run())
    if given_up:
        raise SystemExit(1)


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """What uvicorn needs to know beside the sockets."""
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        # uvicorn's default believes whoever connects from this machine.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        http=bounded_protocol(settings, app.state.metrics),
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=int(settings.drain_seconds) + 1,
    )


async def _settle(service: Service) -> None:
    """Once everything is loaded: what is there now stays, and no collection need walk through it again.

    A full one takes a tenth of a second with torch's modules in memory, and every request waits for it.
    """
    await service.started()
    gc.collect()
    gc.freeze()


async def _stop_without(parent: socket.socket, server: DrainingServer) -> None:
    """Stop as on SIGTERM once the other end is gone."""
    while await asyncio.get_running_loop().sock_recv(parent, 64):
        pass
    server.handle_exit(signal.SIGTERM, None)


async def _beat(parent: socket.socket) -> None:
    """Say that the event loop turns."""
    with contextlib.suppress(OSError):
        while True:
            await asyncio.get_running_loop().sock_sendall(parent, HEARTBEAT)
            await asyncio.sleep(HEARTBEAT_SECONDS)
