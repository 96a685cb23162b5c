"""Stop working for clients that have hung up."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

_Answer = TypeVar("_Answer")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Run the work; cancel it when the client leaves. The body must have been read.

    Raises ClientDisconnect, or what the work raises.
    """
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_hangup(request))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        for task in (working, listening):
            task.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)


async def _hangup(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
