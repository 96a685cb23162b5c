"""The engine protocol: token ids in, exact quantiles out. Framework-free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Query:
    """One prompt and what is asked about it.

    prompt: token ids of the canonical text and history, without target tokens.
    targets: names of targets of the checkpoint; quantiles: each in (0, 1).
    given: known values by target name; they are written into the prompt and condition the rest.
    """

    prompt: tuple[int, ...]
    targets: tuple[str, ...]
    quantiles: tuple[float, ...]
    given: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Forecast:
    """Answer to a Query: target -> one value per quantile, in the query's order, non-decreasing with tau.

    The times are those of the whole batch the query rode in.
    """

    values: Mapping[str, tuple[float, ...]]
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    batch_size: int = 1


class Engine(Protocol):
    """Synchronous; used from at most `concurrency` threads at a time, the service's batcher sees to that."""

    concurrency: int

    def start(self) -> None:
        """Load and warm up. Raises CheckpointError."""
        ...

    def health(self) -> bool:
        """True while `predict` can answer."""
        ...

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        """One forecast per query, in order. Raises EngineUnavailable before start and after close."""
        ...

    def close(self) -> None: ...
