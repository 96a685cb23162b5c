"""What a scrape gets: the series in the format that it asks for.

OpenMetrics is the one that holds exemplars, the traces of single requests; Prometheus asks for it. The series of
several workers are plain text: prometheus_client keeps no exemplars in the files that workers share.
"""

import asyncio
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics


@dataclass(frozen=True)
class Exposition:
    """The answer to a scrape."""

    body: bytes
    content_type: str


def exposition_of(registry: CollectorRegistry, accept: str) -> Exposition:
    """The series of this process; accept: the scrape's own header of that name, empty where there is none."""
    if "application/openmetrics-text" in accept:
        body = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return Exposition(body, openmetrics.CONTENT_TYPE_LATEST)
    return Exposition(generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)


async def merged_exposition(_: str = "") -> Exposition:
    """The series of all workers together, in any process that knows their directory."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    # Reading every worker's files takes some ten milliseconds, too long for the event loop.
    return await asyncio.to_thread(exposition_of, registry, "")
