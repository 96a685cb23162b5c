"""Work over forked processes, one thread each: faster than threads within one fit, and deaf to other programs."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Records of the corpus that a process takes at a time: reading one is little work.
RECORDS = 64


def forked(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int, *, chunk: int = 1
) -> Iterator[Result]:
    """`work` on every item, results in order. What `work` holds, such as a corpus, is inherited rather than sent.

    chunk: items that a process takes at a time; many where an item is little work. One process alone has one thread
    too: sums of floats differ with their number, and so would results.
    """
    if processes <= 1:
        with _one_thread():
            yield from map(work, items)
        return
    global _work
    _work = work
    with multiprocessing.get_context("fork").Pool(processes, _one_thread) as pool:
        yield from pool.imap(_call, items, chunksize=chunk)


#: What the forked processes run.
_work: Callable[[Any], Any]


def _one_thread() -> AbstractContextManager[Any]:
    from threadpoolctl import threadpool_limits

    # A process forked from one that used OpenMP hangs as soon as it starts OpenMP threads of its own.
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _call(item: Any) -> Any:
    return _work(item)
