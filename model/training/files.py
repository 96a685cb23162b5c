"""Files of a run that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place at the end of the block.

    A reader, or a run that goes on, never finds half of it.
    """
    new = path.with_name(path.name + ".new")
    yield new
    new.replace(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes that way."""
    with replacing(path) as new:
        new.write_bytes(content)
