"""One of several workers: `python -m app.worker PLACE WHEN PARENT SOCKET...`, started by app/supervisor.py.

PLACE counts the workers from 0; whoever replaces a dead one takes its place, and goes on counting where it stopped.
WHEN is `at-once`, or `engine-first` where other workers answer meanwhile. PARENT and the SOCKETs are file descriptors:
over PARENT the worker says that its configuration holds, then that its event loop turns; it stops when nobody listens.
"""

import socket
import sys

from prometheus_client import values

from app.cores import usable_cores
from app.main import create_app
from app.server import HEARTBEAT, serve
from app.settings import Settings
from app.sockets import listen
from app.startup import check_database, load_settings, reporting_faults


def run_worker(place: int, parent: int, listening: list[int], *, engine_first: bool) -> None:
    """Serve on the sockets until told to stop. Raises ConfigurationError."""
    # Series are kept in files by process number unless told otherwise: every death would leave some behind.
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    settings = _fair_share(load_settings())
    channel = socket.socket(fileno=parent)
    sockets = [socket.socket(fileno=number) for number in listening]
    check_database(settings)
    app = create_app(settings, engine_first=engine_first)
    listen(sockets)
    channel.sendall(HEARTBEAT)
    serve(app, settings, sockets, parent=channel)


def _fair_share(settings: Settings) -> Settings:
    """Without a choice of its own every engine would take all cores, and they would wait for each other."""
    if settings.engine_threads is not None:
        return settings
    return settings.model_copy(update={"engine_threads": max(1, usable_cores() // settings.workers)})


if __name__ == "__main__":
    with reporting_faults():
        own_place, when, own_parent, *sockets_given = sys.argv[1:]
        run_worker(
            int(own_place),
            int(own_parent),
            [int(number) for number in sockets_given],
            engine_first=when == "engine-first",
        )
