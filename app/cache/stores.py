"""Where forecasts are kept: in this process, and behind it in a Redis that several processes share.

A store never fails: what it cannot find, reach or read is a miss.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cachetools import TTLCache

from app.cache.codec import Values
from model.engines.base import Query


@dataclass(frozen=True)
class Claim:
    """Of the keys that were missing: what this process is to compute, and what came meanwhile.

    The rest is being computed elsewhere.
    """

    own: set[bytes]
    found: dict[bytes, Values] = field(default_factory=dict)


class Store(Protocol):
    """Keys come from `Codec.key`, with the queries they stand for."""

    async def get_many(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        """What is there."""
        ...

    async def put_many(self, queries: Mapping[bytes, Query], values: Mapping[bytes, Values]) -> None:
        """Keep the values, and give up their claims."""
        ...

    async def claim(self, queries: Mapping[bytes, Query]) -> Claim:
        """Ask for the right to compute what is missing."""
        ...

    async def await_others(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        """Wait for what is computed elsewhere. What is not in the answer was given up, or cannot be asked for."""
        ...

    async def release(self, keys: set[bytes]) -> None:
        """Give up what was claimed and will not be put."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class MemoryStore:
    """In this process: the least recently used leave first, none stays longer than the time to live."""

    def __init__(self, entries: int, ttl_seconds: float) -> None:
        self._kept: TTLCache[bytes, Values] = TTLCache(entries, ttl_seconds)

    def keep(self, values: Mapping[bytes, Values]) -> None:
        """Put, without a wait."""
        if self._kept.maxsize:
            self._kept.update(values)

    async def get_many(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        found = ((key, self._kept.get(key)) for key in queries)
        return {key: values for key, values in found if values is not None}

    async def put_many(self, _: Mapping[bytes, Query], values: Mapping[bytes, Values]) -> None:
        self.keep(values)

    async def claim(self, queries: Mapping[bytes, Query]) -> Claim:
        return Claim(set(queries))

    async def await_others(self, _: Mapping[bytes, Query]) -> dict[bytes, Values]:
        return {}

    async def release(self, _: set[bytes]) -> None:
        return

    async def close(self) -> None:
        return


class TieredStore:
    """Memory in front of a store that others share; what the other one has is kept in memory too."""

    def __init__(self, memory: MemoryStore, shared: Store) -> None:
        self._memory, self._shared = memory, shared

    async def get_many(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        found = await self._memory.get_many(queries)
        missing = {key: query for key, query in queries.items() if key not in found}
        return found | self._remembered(await self._shared.get_many(missing)) if missing else found

    async def put_many(self, queries: Mapping[bytes, Query], values: Mapping[bytes, Values]) -> None:
        self._memory.keep(values)
        await self._shared.put_many(queries, values)

    async def claim(self, queries: Mapping[bytes, Query]) -> Claim:
        claim = await self._shared.claim(queries)
        self._remembered(claim.found)
        return claim

    async def await_others(self, queries: Mapping[bytes, Query]) -> dict[bytes, Values]:
        return self._remembered(await self._shared.await_others(queries))

    async def release(self, keys: set[bytes]) -> None:
        await self._shared.release(keys)

    async def close(self) -> None:
        await self._shared.close()

    def _remembered(self, values: dict[bytes, Values]) -> dict[bytes, Values]:
        self._memory.keep(values)
        return values
