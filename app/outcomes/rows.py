"""What the store is asked and told, as values; how they are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson


@dataclass(frozen=True)
class PastRow:
    """One outcome of a series. config: the digest of its text; finished_at: seconds since 1970."""

    config: bytes
    measured: Mapping[str, float]
    complete: bool
    finished_at: float


@dataclass(frozen=True)
class PredictionRow:
    """One unit of an answer that was remembered."""

    id: int
    scope: str
    names: tuple[bytes, ...]
    series: bytes
    config: bytes
    quantiles: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class OutcomeRow:
    """An outcome to be kept. prediction: the one that it is held against."""

    identity: bytes
    series: bytes
    config: bytes
    measured: Mapping[str, float]
    complete: bool
    finished_at: float
    received_at: float
    prediction: PredictionRow | None = None


@dataclass(frozen=True)
class Compared:
    """A value held against what was predicted for it, values at the default quantiles."""

    target: str
    value: float
    predicted: Sequence[float]


def measured_text(values: Mapping[str, float]) -> str:
    """Values as they are stored: equal ones are equal texts."""
    return orjson.dumps(
        {name: float(value) for name, value in values.items()}, option=orjson.OPT_SORT_KEYS
    ).decode()


def quantiles_text(quantiles: Mapping[str, Sequence[float]]) -> str:
    """Predicted values as they are stored."""
    return orjson.dumps(quantiles, option=orjson.OPT_SORT_KEYS, default=list).decode()
