"""Work is cancelled for clients that leave, and nobody listens while nothing is waited for."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from app.api.disconnect import unless_disconnected

pytestmark = pytest.mark.anyio


class Client:
    """A request whose client leaves when it is told to."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.listened = 0
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self) -> Message:
        self.listened += 1
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def ask(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await unless_disconnected(self.request, work)
        finally:
            task = asyncio.current_task()
            assert task
            self.cancelling = task.cancelling()


async def test_what_waits_for_nothing_is_done_in_one_go() -> None:
    client, order = Client(), list[str]()

    async def work() -> str:
        order.append("work")
        return "answer"

    asyncio.get_running_loop().call_soon(order.append, "another request")
    assert await client.ask(work()) == "answer"
    order.append("answered")
    await asyncio.sleep(0.01)
    assert order == ["work", "answered", "another request"]
    assert client.listened == 0


async def test_a_client_that_leaves_ends_the_work() -> None:
    client, ended = Client(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    asking = asyncio.ensure_future(client.ask(work()))
    await asyncio.sleep(0.01)
    client.left.set()
    with pytest.raises(ClientDisconnect):
        await asyncio.wait_for(asking, 1)
    assert ended.is_set()
    assert client.cancelling == 0  # whoever answers may wait again


async def test_whoever_cancels_the_request_gets_a_cancellation() -> None:
    client = Client()
    asking = asyncio.ensure_future(client.ask(asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert client.listened == 1


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_deadline_inside_of_the_work_is_told_from_a_client_that_leaves(leaves: bool) -> None:
    client = Client()

    async def work() -> None:
        async with asyncio.timeout(0.05):
            if leaves:
                client.left.set()
            await asyncio.sleep(60)

    with pytest.raises(ClientDisconnect if leaves else TimeoutError):
        await client.ask(work())
    assert client.cancelling == 0


async def test_nobody_listens_any_more_when_the_answer_is_there() -> None:
    client = Client()

    async def work() -> str:
        await asyncio.sleep(0.01)
        return "answer"

    assert await client.ask(work()) == "answer"
    assert client.listened == 1
    client.left.set()
    await asyncio.sleep(0.01)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "listen" in repr(task)]
    task = asyncio.current_task()
    assert task
    assert task.cancelling() == 0
