"""A checkpoint's answers for records of the corpus: the way of a request, in batches."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from model.checkpoint import Checkpoint
from model.engines.base import Engine, Query
from model.engines.torch_engine import TorchEngine
from model.jobs.job import Outcome
from model.training.corpus import Record, scope_of
from model.training.examples import job_of

#: Queries in one engine call, and records read ahead so that a call's prompts are of like length.
_BATCH = 16
_WINDOW = 512


class CheckpointForecaster:
    """`model.evaluation.forecast.Forecaster` over a checkpoint directory; calibrated as the service answers."""

    def __init__(self, path: Path, engine: Engine | None = None) -> None:
        self._checkpoint = Checkpoint.load(path)
        self._engine = engine or TorchEngine(path, self._checkpoint.encoder)
        self._engine.start()

    @property
    def version(self) -> str:
        """The checkpoint, its calibration included: the beginnings of their sha256."""
        calibration = repr(sorted(self._checkpoint.manifest.calibration.items()))
        digest = hashlib.sha256(calibration.encode()).hexdigest()
        return f"{self._checkpoint.version[:19]}, calibration {digest[:8]}"

    def forecast(
        self,
        records: Sequence[Record],
        histories: Sequence[tuple[Outcome, ...]],
        targets: Sequence[str],
        quantiles: Sequence[float],
    ) -> Iterator[dict[str, tuple[float, ...]]]:
        """Per record, in order: target -> one value per quantile, in the target's unit."""
        known = tuple(t for t in targets if t in self._checkpoint.encoder.target_ids)
        for start in range(0, len(records), _WINDOW):
            window = records[start : start + _WINDOW]
            queries = [
                Query(self._checkpoint.prompt(job_of(record).with_history(past)).ids, known, tuple(quantiles))
                for record, past in zip(window, histories[start : start + _WINDOW], strict=True)
            ]
            for record, query, values in zip(window, queries, self._answers(queries), strict=True):
                standing, place = self._checkpoint.standing(query.prompt), f"{record.kind}/{scope_of(record)}"
                yield {
                    target: self._checkpoint.calibrate(
                        f"{place}/{target}", quantiles, values[target], standing
                    )
                    for target in known
                }

    def _answers(self, queries: Sequence[Query]) -> list[dict[str, tuple[float, ...]]]:
        """One per query. Equal queries are asked once, long and short prompts in different batches."""
        distinct = sorted({(q.prompt, q.targets, q.quantiles): q for q in queries}.values(), key=_length)
        answers = {}
        for start in range(0, len(distinct), _BATCH):
            batch = distinct[start : start + _BATCH]
            for query, forecast in zip(batch, self._engine.predict(batch), strict=True):
                answers[query.prompt] = dict(forecast.values)
        return [answers[query.prompt] for query in queries]


def _length(query: Query) -> int:
    return len(query.prompt)
