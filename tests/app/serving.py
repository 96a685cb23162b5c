"""The app behind real sockets, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from app.protocol import bounded_protocol


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """The app behind uvicorn as `jobcast serve` runs it; the port."""
    config = uvicorn.Config(
        app,
        port=0,
        http=bounded_protocol(app.state.settings, app.state.metrics),
        ws="none",
        log_config=None,
        access_log=False,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
