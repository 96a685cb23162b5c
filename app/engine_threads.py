"""Threads for an engine's calls that never keep the process from ending, stuck in a call as they may be.

concurrent.futures joins its threads when the interpreter exits: a call that hangs would hang the exit.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from app.priority import step_back

_Result = TypeVar("_Result")
_Task = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class EngineThreads:
    """Up to `most` daemon threads, started as they are needed and kept: arithmetic libraries hold state per thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)

    def run(self, call: Callable[[], _Result]) -> "asyncio.Future[_Result]":
        """Run it on a thread. The future may be settled by others before: the result is dropped then."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        if not self._idle.acquire(blocking=False) and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name=f"engine-{self._threads}", daemon=True).start()
        self._tasks.put((loop, future, call))
        return future

    def close(self) -> None:
        """Let the threads end after what they are at; nobody waits for them."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        step_back()
        while (task := self._tasks.get()) is not None:
            loop, future, call = task
            settle: Callable[[asyncio.Future[Any], Any], None] = _resolve
            try:
                value = call()
            except BaseException as error:
                settle, value = _reject, error
            self._idle.release()
            try:
                loop.call_soon_threadsafe(settle, future, value)
            except RuntimeError:  # the loop is closed: nobody is left to be told
                return
            del task, future, call, value


def _resolve(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _reject(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
