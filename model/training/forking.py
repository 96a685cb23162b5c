"""Work over forked processes, one thread each: faster than threads within one fit, and deaf to other programs."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def forked(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterator[Result]:
    """`work` on every item, results in order. What `work` holds, such as a corpus, is inherited rather than sent."""
    if processes <= 1:
        yield from map(work, items)
        return
    global _work
    _work = work
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(_call, items)


#: What the forked processes run.
_work: Callable[[Any], Any]


def _call(item: Any) -> Any:
    from threadpoolctl import threadpool_limits

    # A process forked from one that used OpenMP hangs as soon as it starts OpenMP threads of its own.
    with threadpool_limits(1):
        return _work(item)
