"""Fair turns: so many at a time, nobody starved, nothing lost when somebody gives up."""

import asyncio

import pytest

from app.turns import Turns

pytestmark = pytest.mark.anyio


class Log:
    """Who had a turn, in order."""

    def __init__(self, at_a_time: int) -> None:
        self.turns = Turns(at_a_time)
        self.order: list[str] = []
        self.inside = self.most = 0

    async def go(self, caller: str, request: str, name: str) -> None:
        async with self.turns.turn(caller, request):
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(name)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.inside -= 1


async def test_a_batch_and_a_noisy_caller_let_others_in_between() -> None:
    log = Log(1)
    tasks = [asyncio.create_task(log.go("a", "batch", f"batch{number}")) for number in range(5)]
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(log.go("a", "single", "single"))]
    tasks += [asyncio.create_task(log.go("b", "other", f"b{number}")) for number in range(2)]
    await asyncio.gather(*tasks)
    assert log.order == ["batch0", "batch1", "b0", "single", "b1", "batch2", "batch3", "batch4"]
    assert log.most == 1


async def test_those_who_give_up_cost_nobody_a_turn() -> None:
    log = Log(2)
    tasks = [asyncio.create_task(log.go("a", str(number), str(number))) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[5:35]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log.order == [str(number) for number in (*range(5), *range(35, 40))]
    assert log.most == 2
    async with log.turns.turn("a", "x"), log.turns.turn("a", "y"):  # both places are free again
        pass


async def test_a_turn_that_comes_in_the_moment_of_giving_up_is_passed_on() -> None:
    log = Log(1)
    first = asyncio.create_task(log.go("a", "1", "first"))
    await asyncio.sleep(0)
    second = asyncio.create_task(log.go("a", "2", "second"))
    third = asyncio.create_task(log.go("a", "3", "third"))
    await first  # has passed its turn on, and the second one does not know yet
    second.cancel()
    await asyncio.wait_for(third, 1)
    assert log.order[-1] == "third"


async def test_nobody_begins_while_turns_are_held_unless_many_wait() -> None:
    held = True
    turns = Turns(1, lambda waiting: held and waiting <= 3)
    order: list[int] = []

    async def go(number: int) -> None:
        async with turns.turn("a", str(number)):
            order.append(number)

    async def soon() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(go(number)) for number in range(3)]
    await soon()
    assert order == []
    tasks.append(asyncio.create_task(go(3)))
    await soon()
    assert order == [0]  # three wait again
    tasks[1].cancel()
    held = False
    turns.go_on()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2, 3]
