"""The batches of one process: its share of the one seeded stream, made ahead of the step that needs them."""

import queue
import threading
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from model.prompt import PromptEncoder
from model.training.batches import Batch, Bundles, batches

Item = TypeVar("Item")


def share_of_batches(
    bundles: Bundles, encoder: PromptEncoder, trees_per_batch: int, *, skip: int, rank: int, size: int
) -> Iterator[Batch]:
    """Every `size`-th batch of the stream behind its first `skip` (a multiple of size), from number `rank` on."""
    return islice(batches(bundles, encoder, trees_per_batch, skip_batches=skip), rank, None, size)


def ahead(items: Iterator[Item], depth: int = 4) -> Iterator[Item]:
    """The same items, made by a thread up to `depth` before they are taken; its error is raised here.

    Worth it where the device works by itself meanwhile; on a CPU the thread would only take the cores' time.
    """
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Item | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
