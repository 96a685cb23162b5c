"""One of several workers: `python -m app.worker WHEN PARENT SOCKET...`, started by app/supervisor.py.

PARENT and the SOCKETs are file descriptors. WHEN is `at-once`, or `engine-first` where other workers answer meanwhile.

It says over PARENT that its configuration holds, and stops when the other end is gone.
"""

import os
import socket
import sys

from app.main import create_app
from app.server import serve
from app.settings import Settings
from app.sockets import listen
from app.startup import load_settings, reporting_faults

#: Sent once the checkpoint and the keys are read; the engine starts after it.
ACCEPTED = b"."


def run_worker(parent: int, listening: list[int], *, engine_first: bool) -> None:
    """Serve on the sockets until told to stop. Raises ConfigurationError."""
    settings = _fair_share(load_settings())
    channel = socket.socket(fileno=parent)
    sockets = [socket.socket(fileno=number) for number in listening]
    app = create_app(settings, engine_first=engine_first)
    listen(sockets)
    channel.sendall(ACCEPTED)
    serve(app, settings, sockets, parent=channel)


def _fair_share(settings: Settings) -> Settings:
    """Without a choice of its own every engine would take all cores, and they would wait for each other."""
    if settings.engine_threads is not None:
        return settings
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings.model_copy(update={"engine_threads": max(1, cores // settings.workers)})


if __name__ == "__main__":
    with reporting_faults():
        when, parent, *listening = sys.argv[1:]
        run_worker(int(parent), [int(number) for number in listening], engine_first=when == "engine-first")
