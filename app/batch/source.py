"""What a bulk run reads: a record per line of JSON Lines, or per row of Parquet, as the JSON of a request.

Any place can be returned to: a position is a byte (JSON Lines) or a row (Parquet).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from app.json import dump
from app.startup import ConfigurationError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

#: Columns that hold text; text in any other column of Parquet is JSON.
_TEXT_COLUMNS = ("id", "kind", "config", "job", "series")
_ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Record:
    """One request of the input. line: its JSON; None where it is longer than a request may be."""

    position: int
    end: int
    line: bytes | None


class Source(Protocol):
    """Records, from any position that one of them has."""

    #: Behind the last position.
    end: int

    def records(self, position: int = 0) -> Iterator[Record]:
        """Those from there on."""
        ...

    def fetch(self, positions: Iterable[int]) -> list[bytes | None]:
        """The lines of the records at these positions, which ascend."""
        ...


def open_source(path: Path, longest: int) -> Source:
    """By the suffix of the name. longest: bytes of a request. Raises ConfigurationError."""
    try:
        if path.suffix == ".parquet":
            return ParquetSource(path, longest)
        if path.suffix in (".jsonl", ".ndjson"):
            return LineSource(path, longest)
    except OSError as error:
        raise ConfigurationError(f"the input cannot be read: {type(error).__name__}") from None
    raise ConfigurationError("the input's name must end in .jsonl, .ndjson or .parquet")


class LineSource:
    """JSON Lines; an empty line is a record too, so that answers have the numbers of their lines."""

    def __init__(self, path: Path, longest: int) -> None:
        self._path, self._longest = path, longest
        self.end = path.stat().st_size

    def records(self, position: int = 0) -> Iterator[Record]:
        with self._path.open("rb") as file:
            file.seek(position)
            while line := file.readline(self._longest + 1):
                short = len(line) <= self._longest
                while not line.endswith(b"\n") and (line := file.readline(self._longest)):
                    short = False
                yield Record(position, position := file.tell(), line.rstrip(b"\r\n") if short else None)

    def fetch(self, positions: Iterable[int]) -> list[bytes | None]:
        return [next(self.records(position)).line for position in positions]


class ParquetSource:
    """Parquet; read a group of rows at a time. Nulls count as absent, lists and structs as JSON has them.

    Raises ConfigurationError where pyarrow is missing or the file is none of its own.
    """

    def __init__(self, path: Path, longest: int) -> None:
        self._file = open_parquet(path)
        self._longest = longest
        metadata = self._file.metadata
        #: The first row of every group.
        self._starts: list[int] = [0]
        for group in range(metadata.num_row_groups):
            self._starts.append(self._starts[-1] + metadata.row_group(group).num_rows)
        self.end = metadata.num_rows

    def records(self, position: int = 0) -> Iterator[Record]:
        for group in range(len(self._starts) - 1):
            row = self._starts[group]
            if self._starts[group + 1] <= position:
                continue
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[group]):
                skipped = max(0, position - row)
                row += min(skipped, batch.num_rows)
                for content in batch.slice(skipped).to_pylist(maps_as_pydicts="strict"):
                    yield Record(row, row + 1, self._line(content))
                    row += 1

    def fetch(self, positions: Iterable[int]) -> list[bytes | None]:
        wanted = list(positions)
        if not wanted:
            return []
        lines: list[bytes | None] = []
        for record in self.records(wanted[0]):
            if record.position == wanted[len(lines)]:
                lines.append(record.line)
                if len(lines) == len(wanted):
                    break
        return lines

    def _line(self, row: Mapping[str, Any]) -> bytes | None:
        content = {name: _value(name, value) for name, value in row.items() if value is not None}
        try:
            line = dump(content)
        except TypeError:  # bytes, decimals and the like: nothing that a request could hold
            return b""
        return line if len(line) <= self._longest else None


def open_parquet(path: Path) -> "ParquetFile":
    """Raises ConfigurationError where pyarrow is missing or the file is none of its own."""
    pyarrow_needed()
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(path)
    except ArrowInvalid:
        raise ConfigurationError("the input is not a Parquet file") from None


def pyarrow_needed() -> None:
    """Raises ConfigurationError where it is missing."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'jobcast[batch]'") from None


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str) and name not in _TEXT_COLUMNS:
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value  # refused like any value of a wrong type
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """A struct has all its fields in every row; those that are null were not said."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
