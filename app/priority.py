"""The event loop goes first: refusals, cached answers and health must not wait behind threads that compute."""

import contextlib
import os
import threading

_NICE = 5


def step_back() -> None:
    """Let the calling thread, and those that it starts, be scheduled behind the others. On Linux; elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
