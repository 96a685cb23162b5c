"""Experts <-> one compressed .npz of arrays and a JSON header. Equal experts give equal bytes."""

import io
import json
import os
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.evidence.categories import MOST, Categories
from model.evidence.columns import Columns
from model.evidence.dialect import Dialects
from model.evidence.encodings import Encodings, KeyTable, encoded_width
from model.evidence.expert import FIRST, GROWN, MEMBERS, Basis, Expert, Experts, Panel
from model.evidence.history import SHAPE, Blend
from model.evidence.linear import Linear
from model.evidence.mix import MET, Mix
from model.evidence.names import NameTable
from model.evidence.namesakes import Namesakes
from model.evidence.neighbours import Neighbours
from model.evidence.strangeness import Strangeness
from model.evidence.trees import Trees

_HEADER = "header"
#: That read a file.
_THREADS = min(4, os.cpu_count() or 1)
Arrays = dict[str, NDArray[Any]]
Part = TypeVar("Part")


def to_bytes(experts: Experts) -> bytes:
    """The file's content."""
    arrays: Arrays = {}
    header: dict[str, Any] = {"targets": experts.targets, "fields": {}}
    for place, panel in experts.by_field.items():
        _put(arrays, f"{place}/dialects", panel.dialects)
        header["fields"][place] = {
            "names": panel.dialects.names,
            "experts": {
                name: _put_expert(arrays, f"{place}/{name}", expert) for name, expert in panel.experts.items()
            },
        }
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    out = io.BytesIO()
    # What np.savez_compressed writes, a quarter smaller.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as file:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date: equal experts give equal bytes
            member.compress_type = zipfile.ZIP_LZMA
            with file.open(member, "w") as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
    return out.getvalue()


def from_bytes(content: bytes, *, lazily: bool = False) -> Experts:
    """Raises ValueError for content that `to_bytes` did not write.

    lazily: what a kind's experts are is unpacked, and found malformed, when a job first asks for them. All of them
    together take five seconds of a core.
    """
    panels = _Panels(content)
    return Experts(panels.targets, panels if lazily else panels.unpacked())


class _Panels(Mapping[str, Panel]):
    """The panels of a file by their fields, each unpacked when it is first asked for; any thread may ask."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError."""
        with _malformed():
            self._file = zipfile.ZipFile(io.BytesIO(content))
            header = json.loads(self._arrays(lambda name: name == _HEADER)[_HEADER].tobytes())
            self.targets = tuple(header["targets"])
            self._fields: Mapping[str, Any] = dict(header["fields"])
        self._known: dict[str, Panel] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, place: str) -> Panel:
        """Raises KeyError, ValueError."""
        field = self._fields[place]
        with self._lock:
            if place not in self._known:
                with _malformed():
                    arrays = self._arrays(lambda name: name.startswith(f"{place}/"))
                    self._known[place] = self._panel(place, field, arrays)
        return self._known[place]

    def unpacked(self) -> dict[str, Panel]:
        """All of them. Raises ValueError."""
        with _malformed():
            arrays = self._arrays(lambda _: True)
            return {place: self._panel(place, field, arrays) for place, field in self._fields.items()}

    def _panel(self, place: str, field: Mapping[str, Any], stored: Arrays) -> Panel:
        dialects = _take(stored, f"{place}/dialects", Dialects, names=tuple(field["names"]))
        experts = {
            name: _expert(stored, f"{place}/{name}", one, len(self.targets))
            for name, one in field["experts"].items()
        }
        _require(set(dialects.names) == set(experts), "a dialect without an expert")
        _require(len(dialects.evidence) == len(dialects.base) == len(experts), "other dialects")
        return Panel(dialects, experts)

    def _arrays(self, wanted: Callable[[str], bool]) -> Arrays:
        """Members by name. What takes the time is LZMA, which lets other threads run."""
        names = {member: member.filename.removesuffix(".npy") for member in self._file.infolist()}
        members = [member for member, name in names.items() if wanted(name)]
        # The largest first: none is left for one thread alone at the end.
        members.sort(key=lambda member: -member.compress_size)
        with ThreadPoolExecutor(_THREADS) as threads:
            arrays = threads.map(lambda member: _array(self._file.read(member)), members)
            return {names[member]: array for member, array in zip(members, arrays, strict=True)}


@contextmanager
def _malformed() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # zip, zlib, npy and JSON each fail in their own ways
        raise ValueError(f"malformed experts: {type(error).__name__}") from error


def _array(content: bytes) -> NDArray[Any]:
    array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return array


def _put(arrays: Arrays, prefix: str, part: Any) -> dict[str, Any]:
    """Store the arrays of a dataclass; return its tuples, which go into the header."""
    values = {one.name: getattr(part, one.name) for one in fields(part)}
    arrays.update({f"{prefix}/{name}": v for name, v in values.items() if isinstance(v, np.ndarray)})
    return {name: value for name, value in values.items() if isinstance(value, tuple)}


def _take(stored: Mapping[str, NDArray[Any]], prefix: str, kind: type[Part], **given: Any) -> Part:
    names = [one.name for one in fields(kind) if one.name not in given]  # type: ignore[arg-type]
    return kind(**given, **{name: stored[f"{prefix}/{name}"] for name in names})


def _put_expert(arrays: Arrays, place: str, expert: Expert) -> dict[str, Any]:
    basis, tables = expert.basis, expert.encodings.tables
    header: dict[str, Any] = {
        "columns": _put(arrays, f"{place}/columns", basis.columns),
        "categories": [len(known) for known in basis.categories.keys],
        "key_tables": [len(table.keys) for table in tables],
        "neighbours": basis.neighbours is not None,
        "targets_of_history": sorted(expert.by_history),
    }
    arrays[f"{place}/medians"] = basis.medians
    arrays[f"{place}/categories"] = np.concatenate([np.empty(0, np.uint32), *basis.categories.keys])
    for part in ("keys", "means", "counts"):
        arrays[f"{place}/encodings/{part}"] = np.concatenate([getattr(t, part) for t in tables])
    models = {"linear": basis.linear, "plain": basis.plain, "trees": expert.trees}
    models |= {"strangeness": expert.strangeness, "mix": expert.mix}
    models |= {f"namesakes/{part}": getattr(basis.namesakes, part) for part in ("own", "words")}
    arrays[f"{place}/namesakes/center"] = basis.namesakes.center
    if basis.neighbours:
        models["neighbours"] = basis.neighbours
    for name, model in models.items():
        _put(arrays, f"{place}/{name}", model)
    for target, blend in expert.by_history.items():
        arrays[f"{place}/history/{target}"] = blend.weights
    return header


def _expert(
    stored: Mapping[str, NDArray[Any]], place: str, header: Mapping[str, Any], targets: int
) -> Expert:
    lists = {name: tuple(value) for name, value in header["columns"].items()}
    columns = _take(stored, f"{place}/columns", Columns, **lists)
    numbers, buckets = len(columns.numbers), len(columns.idf)
    categories = Categories(tuple(_split(stored[f"{place}/categories"], header["categories"])))
    _require(len(categories.keys) == len(columns.strings), "categories of other columns")
    _require(all(len(known) <= MOST for known in categories.keys), "too many categories")
    linear, plain = (_take(stored, f"{place}/{name}", Linear) for name in ("linear", "plain"))
    for model, words in ((linear, buckets), (plain, 0)):
        shapes = (model.words.shape, model.numbers.shape, model.categories.shape)
        wanted = ((words, targets), (numbers, targets), (sum(header["categories"]), targets))
        _require(shapes == wanted, "linear models of another shape")
    neighbours = _take(stored, f"{place}/neighbours", Neighbours) if header["neighbours"] else None
    if neighbours:
        _check_neighbours(neighbours, buckets, targets)
    parts = [
        _split(stored[f"{place}/encodings/{part}"], header["key_tables"])
        for part in ("keys", "means", "counts")
    ]
    tables = tuple(KeyTable(*table) for table in zip(*parts, strict=True))
    _require(len(tables) == columns.keys_per_job and all(len(t.keys) for t in tables), "other key tables")
    encodings = Encodings(tables, targets)
    encoded = encoded_width(len(tables), targets)
    width = numbers + columns.directions.shape[1] + encoded + len(columns.strings) + targets * len(FIRST)
    by_history = {
        target: Blend(stored[f"{place}/history/{target}"]) for target in header["targets_of_history"]
    }
    _require(all(blend.weights.shape == SHAPE for blend in by_history.values()), "weights of histories")
    mix = _take(stored, f"{place}/mix", Mix)
    shape = (MET, targets, len(MEMBERS))
    _require(mix.known.shape == shape == mix.new.shape, "weights of members")
    strangeness = _take(stored, f"{place}/strangeness", Strangeness)
    _require(strangeness.weights.shape == (len(tables) + 1,), "strangeness of other keys")
    trees = _take(stored, f"{place}/trees", Trees).checked(width, targets * len(GROWN))
    medians = stored[f"{place}/medians"]
    _require(medians.shape == (targets,), "medians of other targets")
    by_name, by_word = (_take(stored, f"{place}/namesakes/{part}", NameTable) for part in ("own", "words"))
    namesakes = Namesakes(by_name, by_word, stored[f"{place}/namesakes/center"])
    for table in (by_name, by_word):
        _require(table.values.shape == (len(table.names), targets), "namesakes of other targets")
    _require(namesakes.center.shape == (targets,), "namesakes of other targets")
    basis = Basis(columns, categories, linear, plain, neighbours, namesakes, medians)
    return Expert(basis, encodings, trees, strangeness, mix, by_history)


def _check_neighbours(neighbours: Neighbours, buckets: int, targets: int) -> None:
    start, entries = neighbours.start, len(neighbours.job)
    _require(start.shape == (buckets + 1,) and start[0] == 0 and start[-1] == entries, "neighbours")
    _require((np.diff(start) >= 0).all() and len(neighbours.weight) == entries, "neighbours")
    jobs = len(neighbours.values)
    _require(jobs > 0 and neighbours.values.shape == (jobs, targets), "neighbours")
    _require(entries == 0 or int(neighbours.job.max()) < jobs, "neighbours")


def _split(part: NDArray[Any], sizes: list[int]) -> list[NDArray[Any]]:
    _require(sum(sizes) == len(part), "another size")
    return np.split(part, np.cumsum(sizes)[:-1]) if sizes else []


def _require(sound: Any, what: str) -> None:
    if not sound:
        raise ValueError(what)
