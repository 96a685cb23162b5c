"""What waits for its turn, in fair turns: no caller and no request starves another one.

    caller A ─ request 1 ─ prompt, prompt, prompt, ...        A1 B1 A2 B1 A1 B1 ...
             └ request 2 ─ prompt
    caller B ─ request 1 ─ prompt, prompt, ...

Every caller with something waiting gets one turn after another, and within it every request: a single request waits for
a turn, not for the batch of 64 that came before it. The order among equals is that of arrival.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """What can wait."""

    @property
    def abandoned(self) -> bool:
        """Whether nobody wants it any more."""
        ...


_Item = TypeVar("_Item", bound=Waiting)
_Requests = OrderedDict[Hashable, deque[_Item]]


class FairQueue(Generic[_Item]):
    """Not bounded by itself: `app.admission` bounds what comes in."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, _Requests[_Item]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """All that waits."""
        return self._count

    def __iter__(self) -> Iterator[_Item]:
        """In no order that matters."""
        for requests in self._callers.values():
            for items in requests.values():
                yield from items

    def add(self, caller: str, request: Hashable, items: Iterable[_Item]) -> None:
        """Let items of a request wait, behind those of it that do already."""
        waiting = self._callers.setdefault(caller, OrderedDict()).setdefault(request, deque())
        before = len(waiting)
        waiting.extend(items)
        self._count += len(waiting) - before

    def peek(self) -> _Item:
        """The item whose turn it is. Raises StopIteration where nothing waits."""
        return next(iter(next(iter(self._callers.values())).values()))[0]

    def pop(self) -> _Item:
        """The same, and take it out. Raises KeyError where nothing waits."""
        caller, requests = self._callers.popitem(last=False)
        request, items = requests.popitem(last=False)
        item = items.popleft()
        self._count -= 1
        if items:
            requests[request] = items  # at the end
        if requests:
            self._callers[caller] = requests
        return item

    def remove_abandoned(self) -> None:
        """Forget what nobody wants any more."""
        for caller, requests in list(self._callers.items()):
            for request, items in list(requests.items()):
                wanted = deque(item for item in items if not item.abandoned)
                self._count -= len(items) - len(wanted)
                if wanted:
                    requests[request] = wanted
                else:
                    del requests[request]
            if not requests:
                del self._callers[caller]

    def clear(self) -> list[_Item]:
        """Everything that waited, out of the queue."""
        waiting = list(self)
        self._callers.clear()
        self._count = 0
        return waiting
