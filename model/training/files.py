"""Files of a run that are there whole or not at all."""

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write by way of a file beside it: a reader, or a run that goes on, never finds half of it."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)
