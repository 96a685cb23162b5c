"""Stop working for clients that have hung up."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

_Answer = TypeVar("_Answer")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Do the work in this task; cancel it when the client leaves. The body must have been read.

    Who waits for nothing, as a kept answer does, is done in one go: nobody listens, and no other request comes between.
    Raises ClientDisconnect, or what the work raises.
    """
    working = asyncio.current_task()
    assert working
    listening: asyncio.Task[None] | None = None
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        working.cancel()

    def begin() -> None:
        nonlocal listening
        listening = asyncio.ensure_future(listen())

    beginning = asyncio.get_running_loop().call_soon(begin)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone:
            raise
        working.uncancel()
        raise ClientDisconnect from None
    finally:
        beginning.cancel()
        if listening is not None:
            listening.cancel()
