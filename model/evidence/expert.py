"""The estimates that the decoder reads as evidence: one expert per kind and scope, in one file of arrays.

An expert tells, per target, a value from the job's facts, moved by its past runs where there are some, and how familiar
the job is: how many of its joint keys, from coarse to fine, past jobs had.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS, Columns
from model.evidence.encodings import Encodings, KeyTable
from model.evidence.facts import facts_of
from model.evidence.history import SHAPE, Blend, median_of_three, past_of
from model.evidence.trees import Trees
from model.jobs.job import Job, Scope

_HEADER = "header"


@dataclass(frozen=True)
class Evidence:
    """values: target -> estimate in the target's unit (absent: none). familiarity: 0 .. LEVELS."""

    values: Mapping[str, float]
    familiarity: int


@dataclass(frozen=True)
class Expert:
    """The expert of one kind and scope. `by_history`: per target, how past runs move its estimate."""

    columns: Columns
    encodings: Encodings
    trees: Trees
    by_history: Mapping[int, Blend] = field(default_factory=dict)

    def estimate(self, job: Job, targets: Sequence[str]) -> tuple[NDArray[np.float64], int]:
        """The ln value per target from the job's facts alone (NaN: none), and its familiarity."""
        facts = [facts_of(job)]
        encoded, familiarity = self.encodings.rows(self.columns.keys(facts))
        row = np.concatenate([self.columns.values(facts)[0], encoded[0]])
        return self.trees.predict(row, len(targets)), int(familiarity[0])

    def advise(self, job: Job, targets: Sequence[str]) -> Evidence:
        """The evidence for a job and its history."""
        estimates, familiarity = self.estimate(job, targets)
        values = {}
        for place, name in enumerate(targets):
            value = float(estimates[place])
            if past := past_of(job.history, name):
                value = self.by_history.get(place, median_of_three())(past, value, familiarity)
            if np.isfinite(value):
                values[name] = float(np.exp(value))
        return Evidence(values, familiarity)


def field_of(kind: str, scope: Scope) -> str:
    """What one expert knows: whole workflows and single jobs of a kind are different things."""
    return f"{kind}/{scope}"


class Experts:
    """The experts of a checkpoint, by `field_of` what they know."""

    def __init__(self, targets: Sequence[str], by_field: Mapping[str, Expert]) -> None:
        self._targets = tuple(targets)
        self.by_field = dict(by_field)

    def advise(self, job: Job) -> Evidence | None:
        """None for a kind and scope that have no expert."""
        expert = self.by_field.get(field_of(job.kind, job.scope))
        return expert.advise(job, self._targets) if expert else None

    def to_bytes(self) -> bytes:
        """A compressed .npz; equal experts give equal arrays."""
        arrays: dict[str, NDArray[Any]] = {}
        header: dict[str, Any] = {"targets": self._targets, "fields": {}}
        for place, expert in self.by_field.items():
            names = {f.name: getattr(expert.columns, f.name) for f in fields(Columns)}
            lists = {name: value for name, value in names.items() if isinstance(value, tuple)}
            header["fields"][place] = {**lists, "targets_of_history": sorted(expert.by_history)}
            _put(arrays, f"{place}/columns", {n: v for n, v in names.items() if n not in lists})
            tables = expert.encodings.tables
            header["fields"][place]["key_tables"] = [len(table.keys) for table in tables]
            for part in ("keys", "means", "counts"):
                arrays[f"{place}/encodings/{part}"] = np.concatenate([getattr(t, part) for t in tables])
            _put(arrays, f"{place}/trees", _arrays_of(expert.trees))
            for target, blend in expert.by_history.items():
                arrays[f"{place}/history/{target}"] = blend.weights
        arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        out = io.BytesIO()
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Experts":
        """Raises ValueError for content that `to_bytes` did not write."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                header = json.loads(stored[_HEADER].tobytes())
                targets = tuple(header["targets"])
                parts = header["fields"].items()
                return cls(targets, {place: _expert(stored, place, h, len(targets)) for place, h in parts})
        except Exception as error:  # zip, zlib, npy and JSON each fail in their own ways
            raise ValueError(f"malformed experts: {type(error).__name__}") from error


def _put(arrays: dict[str, NDArray[Any]], prefix: str, parts: Mapping[str, NDArray[Any]]) -> None:
    arrays.update({f"{prefix}/{name}": part for name, part in parts.items()})


def _arrays_of(trees: Trees) -> dict[str, NDArray[Any]]:
    return {f.name: getattr(trees, f.name) for f in fields(Trees)}


def _expert(
    stored: Mapping[str, NDArray[Any]], place: str, header: Mapping[str, Any], targets: int
) -> Expert:
    lists = {f.name: tuple(header[f.name]) for f in fields(Columns) if f.name in header}
    columns = Columns(
        **lists, idf=stored[f"{place}/columns/idf"], directions=stored[f"{place}/columns/directions"]
    )
    ends = np.cumsum(header["key_tables"])[:-1]
    parts = [np.split(stored[f"{place}/encodings/{part}"], ends) for part in ("keys", "means", "counts")]
    tables = tuple(KeyTable(*table) for table in zip(*parts, strict=True))
    lengths = [[len(part) for part in table] for table in zip(*parts, strict=True)]
    if lengths != [[size] * 3 for size in header["key_tables"]] or len(tables) != columns.keys_per_job:
        raise ValueError("key tables of another size")
    width = len(columns.numbers) + columns.directions.shape[1] + len(tables) * targets + LEVELS
    by_history = {
        target: Blend(stored[f"{place}/history/{target}"]) for target in header["targets_of_history"]
    }
    if any(blend.weights.shape != SHAPE for blend in by_history.values()):
        raise ValueError("weights of histories of another shape")
    trees = _trees(stored, f"{place}/trees").checked(width, targets)
    return Expert(columns, Encodings(tables, targets), trees, by_history)


def _trees(stored: Mapping[str, NDArray[Any]], prefix: str) -> Trees:
    return Trees(**{f.name: stored[f"{prefix}/{f.name}"] for f in fields(Trees)})
