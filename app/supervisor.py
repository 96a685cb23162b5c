"""Several workers behind one port: starts them, replaces those that die, stops them all.

    jobcast serve --workers N                    binds the port, makes the directory for metrics; loads nothing heavy
    ├── python -m app.worker                     an engine, a cache and an event loop of its own
    ├── ...                                      all accept from the same sockets
    └── /metrics on JOBCAST_METRICS_PORT         in this process, which outlives every worker

The first worker goes ahead: when its configuration does not hold, its one line is all there is to read and the start
has failed. It accepts at once, so that there is somebody to say that the service lives and is not ready yet. Those who
come while another one runs take no connection before their engine can answer. Deaths are replaced at once, or after a
growing pause where a worker did not live long. A worker whose event loop has stopped turning is killed: a probe of the
shared port would find it only now and then.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from app.logging import configure_logging
from app.settings import MULTIPROCESS_DIRECTORY, Settings

log = structlog.get_logger()

#: A worker that lived longer is replaced at once.
_STEADY_SECONDS = 60.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
#: Without a word for so long, a worker that had spoken is killed.
_HUNG_SECONDS = 30.0
#: Beyond grace and drain, before a worker that does not stop is killed.
_STOP_SECONDS = 10.0


class Supervisor:
    """Runs `settings.workers` workers on bound sockets."""

    def __init__(
        self, settings: Settings, sockets: list[socket.socket], environment: Mapping[str, str]
    ) -> None:
        self._settings, self._sockets = settings, sockets
        self._environment = dict(environment)
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._accepted = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until a signal, or a start that fails; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        keepers = [asyncio.create_task(self._keep(0))]
        await _first(self._accepted.wait(), self._stopping.wait())
        keepers += [asyncio.create_task(self._keep(place)) for place in range(1, self._settings.workers)]
        await self._stopping.wait()
        patience = self._settings.shutdown_grace_seconds + self._settings.drain_seconds + _STOP_SECONDS
        _, late = await asyncio.wait(keepers, timeout=patience)
        for worker in self._running:
            log.error("worker_killed", pid=worker.pid)
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
        if late:
            await asyncio.wait(late)
        return self._status

    def _stop(self) -> None:
        """Once: the workers drain. Again: they stop at once, as DrainingServer does on a second signal."""
        self._stopping.set()
        for worker in self._running:
            with contextlib.suppress(ProcessLookupError):
                worker.terminate()  # also for Ctrl-C: a worker that still imports would print where it was

    async def _keep(self, place: int) -> None:
        """One worker after the other, until the end."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._one_worker(place)
            if self._stopping.is_set():
                return
            if not self._accepted.is_set():
                self._status = status if status > 0 else 1
                self._stopping.set()
                return
            log.error("worker_died", status=status, lived_seconds=round(time.monotonic() - began, 1))
            if time.monotonic() - began > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            else:
                await _first(asyncio.sleep(pause), self._stopping.wait())
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _one_worker(self, place: int) -> int:
        """Start it, listen to it, and clean up behind it; its exit status."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        descriptors = [theirs.fileno(), *(bound.fileno() for bound in self._sockets)]
        when = "engine-first" if self._running else "at-once"
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "app.worker", str(place), when, *map(str, descriptors)),
            env=self._environment,
            pass_fds=descriptors,
            process_group=0,  # Ctrl-C is for this process, which tells the workers in its turn
        )
        theirs.close()
        self._running.add(worker)
        if self._stopping.is_set():
            worker.terminate()
        log.info("worker_started", pid=worker.pid)
        listening = asyncio.create_task(self._listen(ours, worker))
        try:
            return await worker.wait()
        finally:
            self._running.discard(worker)
            listening.cancel()
            ours.close()
            self._forget_gauges(place)

    async def _listen(self, channel: socket.socket, worker: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError, ProcessLookupError):  # it died; whoever waits for it knows
            if not await loop.sock_recv(channel, 1):
                return
            self._accepted.set()
            try:
                while True:
                    async with asyncio.timeout(_HUNG_SECONDS):
                        if not await loop.sock_recv(channel, 64):
                            return
            except TimeoutError:
                log.error("worker_hung", pid=worker.pid)
                worker.kill()

    def _forget_gauges(self, place: int) -> None:
        """Counters of the dead go on counting; what they last said of themselves does not."""
        for file in Path(self._environment[MULTIPROCESS_DIRECTORY]).glob(f"gauge_live*_{place}.db"):
            file.unlink(missing_ok=True)


def supervise(
    settings: Settings, sockets: list[socket.socket], metrics_sockets: list[socket.socket] | None
) -> int:
    """Serve with several workers until a signal says stop; the exit status."""
    configure_logging(settings.log_level)
    # Where somebody names a directory, it may be the only one that can be written to.
    base = os.environ.get(MULTIPROCESS_DIRECTORY)
    directory = tempfile.mkdtemp(prefix="jobcast-metrics-", dir=base)
    # Set here as well: prometheus_client looks at it when the listener below imports it.
    os.environ[MULTIPROCESS_DIRECTORY] = directory
    chosen = {"HOST": settings.host, "PORT": str(settings.port), "WORKERS": str(settings.workers)}
    environment = {**os.environ, **{f"JOBCAST_{name}": value for name, value in chosen.items()}}
    # With -P, so that a package called app in the working directory is not taken for ours.
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    try:
        return asyncio.run(_supervise(Supervisor(settings, sockets, environment), metrics_sockets))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _supervise(supervisor: Supervisor, metrics_sockets: list[socket.socket] | None) -> int:
    if metrics_sockets is None:
        return await supervisor.run()
    from app.exposition import merged_exposition
    from app.metrics_server import metrics_server

    beside = asyncio.create_task(metrics_server(merged_exposition).serve(metrics_sockets))
    try:
        return await supervisor.run()
    finally:
        beside.cancel()


async def _first(*waits: object) -> None:
    """Until one of them is over."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
