"""Windows computed on this machine: processes that read and write, beside them the engine in this one.

    windows ─► reader process: read ─► engine thread: compute ─► reader process: answer ─► in the windows' order
                                       (kept busy: the next windows are read meanwhile)

Reading is Python and would hold the interpreter that the engine needs between two products: hence processes.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from app.batch.stages import ReadWindow, Said, Stages, compute
from app.batch.windows import Window
from app.cores import usable_cores
from app.logging import configure_logging
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.engines.base import Engine
from model.errors import EngineUnavailable

#: Calls of the engine at a time, whatever it would take.
_MOST_CALLS = 16
#: Windows beside those that are being read: one is computed, others are ready for the engine or wait to be written.
_AHEAD = 3

_stages: Stages


def default_readers(engine: str) -> int:
    """Processes that read: an engine on these cores needs about twice the time that reading does."""
    return max(1, round(usable_cores() / 3) if engine == "torch" else usable_cores() - 1)


def answered_here(
    settings: Settings, engine: Engine, windows: Iterable[Window], readers: int
) -> Iterator[tuple[Window, list[bytes]]]:
    """Every window with its answers. The engine is started and closed here.

    Raises CheckpointError, EngineUnavailable.
    """
    calls = min(engine.concurrency, _MOST_CALLS)
    pool = ProcessPoolExecutor(
        readers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(settings,)
    )
    with pool, ThreadPoolExecutor(1, "engine") as runner, ThreadPoolExecutor(calls, "call") as callers:

        def computed(read: Future[ReadWindow]) -> Future[list[bytes]]:
            started.result()
            window = read.result()
            said = compute(engine, window, callers if calls > 1 else None)
            return pool.submit(_answer, window, said)

        waiting: deque[tuple[Window, Future[Future[list[bytes]]]]] = deque()
        # Readers start and read meanwhile: either takes seconds.
        started = runner.submit(engine.start)
        try:
            for window in windows:
                waiting.append((window, runner.submit(computed, pool.submit(_read, window.lines))))
                if len(waiting) > readers + _AHEAD:
                    yield _oldest(waiting)
            while waiting:
                yield _oldest(waiting)
        except BrokenProcessPool:
            raise EngineUnavailable("a process that reads has died; the same command goes on") from None
        finally:
            for _, future in waiting:
                future.cancel()
            pool.shutdown(cancel_futures=True)
            runner.submit(engine.close).result()


def _oldest(waiting: deque[tuple[Window, Future[Future[list[bytes]]]]]) -> tuple[Window, list[bytes]]:
    window, future = waiting.popleft()
    return window, future.result().result()


def _begin(settings: Settings) -> None:
    """In a reader process."""
    global _stages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure_logging("error")
    _stages = Stages(settings, Checkpoint.load(settings.checkpoint, lazily=True))


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its children."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _read(lines: list[bytes | None]) -> ReadWindow:
    return _stages.read(lines)


def _answer(window: ReadWindow, said: dict[bytes, Said]) -> list[bytes]:
    return _stages.answer(window, said)
