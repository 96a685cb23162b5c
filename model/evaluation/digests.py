"""What a stored prediction depends on, as short digests."""

import hashlib
from collections.abc import Callable, Sequence

from model.evaluation.cells import Cell
from model.training.corpus import Record


def digest_of_texts(cells: Sequence[Cell], text_of: Callable[[Record], str]) -> str:
    """Changes when a reader reads any case differently."""
    content = hashlib.blake2b(digest_size=12)
    for cell in cells:
        for case in cell.cases:
            content.update(text_of(case.record).encode() + b"\0")
    return content.hexdigest()


def digest_of_records(records: Sequence[Record]) -> str:
    """Changes when another record, or another measurement, is fitted or chosen on."""
    content = hashlib.blake2b(digest_size=12)
    for record in records:
        content.update(f"{record.split} {record.id} {sorted(record.targets.items())}\n".encode())
    return content.hexdigest()
