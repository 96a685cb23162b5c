"""What a bulk run writes: a line per record, in order, into NAME.partial; NAME appears when it is whole.

    window ─► lines appended, on the disk ─► ledger says so        killed before: cut off again by the next start

A request that was asked before is not computed but copied from where its answer stands.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from app.batch.ledger import Ledger, Progress
from app.batch.stages import is_problem
from app.batch.windows import Window
from app.startup import ConfigurationError


def files_of(path: Path) -> list[Path]:
    """All files that a run with this output makes, replaces or removes; a killed process leaves the journal behind."""
    endings = ("", ".partial", ".parquet-partial", ".ledger", ".ledger-journal")
    return [path.with_name(path.name + ending) for ending in endings]


class Output:
    """The output of one run. fingerprint: of all that its bytes depend on.

    Raises ConfigurationError where there is one already, or an unfinished one of another run.
    """

    def __init__(self, path: Path, fingerprint: str, *, overwrite: bool = False) -> None:
        self._path, self._run = path, fingerprint[:16]
        _, self.partial, self._whole, self._ledger_path, self._journal = files_of(path)
        if overwrite:
            for old in files_of(path):
                old.unlink(missing_ok=True)
        if path.exists() and not self._ledger_path.exists():
            raise ConfigurationError(f"{path.name} is there already; --overwrite replaces it")
        self._ledger = Ledger(self._ledger_path, fingerprint)
        self.progress = self._ledger.progress
        if self.progress.complete and path.exists() and not self.partial.exists():
            return  # it ended between its last two steps
        self.partial.touch()
        if self.partial.stat().st_size < self.progress.bytes:
            self._ledger.close()
            raise ConfigurationError(
                f"{self.partial.name} lost lines that were written; --overwrite starts anew"
            )
        self._file = self.partial.open("r+b")
        self._file.truncate(self.progress.bytes)
        self._file.seek(self.progress.bytes)

    def known(self, key: bytes) -> bool:
        """Whether a request was answered in a window that is written."""
        return self._ledger.place(key) is not None

    def write(self, window: Window, bodies: Sequence[bytes]) -> None:
        """Append a window. bodies: the answers to its new requests, in order."""
        new = dict(zip(window.new, bodies, strict=True))
        places: dict[bytes, tuple[bytes, int, int]] = {}
        lines = bytearray()
        problems = 0
        for number, place in enumerate(window.places, window.first):
            body = new[place.key] if place.key in new else self._written(place.key)
            problems += is_problem(body)
            lines += b"{" + (b'"id":%b,' % place.id if place.id else b"")
            lines += b'"request_id":"%b.%d",' % (self._run.encode(), number)
            if place.key in new and place.key not in places:
                places[place.key] = place.key, self.progress.bytes + len(lines), len(body) - 1
            lines += body[1:] + b"\n"
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())
        done = self.progress
        self.progress = Progress(
            windows=done.windows + 1,
            records=done.records + len(window.places),
            requests=done.requests + len(new),
            problems=done.problems + problems,
            position=window.end,
            bytes=done.bytes + len(lines),
        )
        self._ledger.commit(self.progress, places.values())

    def finish(self) -> None:
        """Give the output its name."""
        if self.partial.exists():
            self.progress = replace(self.progress, complete=1)
            self._ledger.commit(self.progress)
            self._file.close()
            if self._path.suffix == ".parquet":
                from app.batch.parquet import write_parquet

                write_parquet(self.partial, self._whole)
                self._whole.replace(self._path)
                self.partial.unlink()
            else:
                self.partial.replace(self._path)
        self._ledger.close()
        for left in (self._ledger_path, self._journal):
            left.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, finished or not."""
        if not self.progress.complete:
            self._file.close()
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _written(self, key: bytes) -> bytes:
        found = self._ledger.place(key)
        assert found is not None  # a window's repeats repeat what is in it or before it
        begins, length = found
        return b"{" + os.pread(self._file.fileno(), length, begins)
