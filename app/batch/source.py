"""What a bulk run reads: a record per line of JSON Lines, or per row of Parquet, as the JSON of a request.

Any place can be returned to: a position is a byte (JSON Lines) or a row (Parquet).
"""

import codecs
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.api.requests import parse_json
from app.errors import MalformedBody
from app.json import dump
from app.startup import ConfigurationError

if TYPE_CHECKING:
    from pyarrow import RecordBatch
    from pyarrow.parquet import ParquetFile

#: Columns that hold text; text in any other column of Parquet is JSON.
_TEXT_COLUMNS = ("id", "kind", "config", "job", "series")
_ROWS_AT_ONCE = 256
#: What a line may have beside a request: a mark of the byte order in front, and its end.
_AROUND = len(codecs.BOM_UTF8) + len(b"\r\n")
#: Bytes of a line that is too long.
_AT_ONCE = 1 << 16


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
        with path.open("rb") as file:  # a directory cannot be
            self.end = file.seek(0, os.SEEK_END)

    def records(self, position: int = 0) -> Iterator[Record]:
        with self._path.open("rb") as file:
            file.seek(position)
            while line := file.readline(self._longest + _AROUND):
                rest, short = line, True
                while not rest.endswith(b"\n") and (rest := file.readline(_AT_ONCE)):
                    short = False
                if position == 0:
                    line = line.removeprefix(codecs.BOM_UTF8)
                content = line.rstrip(b"\r\n")
                short = short and len(content) <= self._longest
                yield Record(position, position := file.tell(), content if short else None)

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
            for batch in self._batches(group):
                skipped = max(0, position - row)
                row += min(skipped, batch.num_rows)
                for place in range(skipped, batch.num_rows):
                    yield Record(row, row + 1, self._line(batch.slice(place, 1)))
                    row += 1

    def _batches(self, group: int) -> "Iterator[RecordBatch]":
        from pyarrow import ArrowInvalid

        try:
            yield from self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[group])
        except (OSError, ArrowInvalid):
            raise ConfigurationError(f"the input is damaged: row group {group} cannot be read") from None

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

    def _line(self, row: "RecordBatch") -> bytes | None:
        try:
            (values,) = row.to_pylist(maps_as_pydicts="strict")
            content = {name: _value(name, value) for name, value in values.items() if value is not None}
            line = dump(content)
        except (KeyError, TypeError):
            return b""  # a map with a key twice; bytes, decimals: nothing that a request could hold
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
            return parse_json(value.encode(errors="surrogatepass"))
        except MalformedBody:
            return value  # refused like any value of a wrong type
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """A struct has all its fields in every row; those that are null were not said."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
