"""What the kernel knows of threads: which of them go first, and what they have used.

The event loop goes first: refusals, cached answers and health must not wait behind threads that compute.
"""

import contextlib
import os
import threading
from pathlib import Path

_NICE = 5


def step_back() -> None:
    """Let the calling thread, and those that it starts, be scheduled behind the others. On Linux; elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def processor_seconds(thread: int, process: int | str = "self") -> float | None:
    """Processor time that a thread of a process has used, by their native ids; None where that cannot be known."""
    try:
        return int(Path(f"/proc/{process}/task/{thread}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None
