"""What a measurement started is stopped with it, however it ends."""

import signal
from types import FrameType


def stop_on_sigterm() -> None:
    """Make SIGTERM end this process as Ctrl-C does, by an exception: its services and servers are stopped on the way.

    Without it the process is gone at once, and what it started goes on, on the cores that the next run measures.
    """

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not cut the stopping short
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
