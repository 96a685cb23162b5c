"""Features of the tabular baselines: what is known of a job before its run, without a language model.

canonical text -> TF-IDF of words and word pairs -> truncated SVD
canonical text -> the numbers behind its most frequent keys; the short values of its most frequent keys
job            -> its graph and tree (`model.jobs.graph`)
record         -> group, stage, key of the recurring job
history        -> last value, median of the last three, how many, age, same configuration
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from model.evaluation.baselines import past_values, stage_of
from model.evaluation.metrics import FloatArray, ln_values
from model.evaluation.text_values import labels_of, numbers_of
from model.jobs.graph import GRAPH, graph_features
from model.jobs.job import Job, Outcome
from model.training.corpus import Record

TextOf = Callable[[Record], str]
JobOf = Callable[[Record], Job]

#: Single figures count, other than by default: `stage: 3`.
_WORD = r"\b\w+\b"
#: A key counts as frequent where at least this share of the texts has it.
_FREQUENT = 0.01

HISTORY_COLUMNS = 5

#: Numbers and labels of each text, by name.
_Facts = list[tuple[dict[str, float], dict[str, str]]]


@dataclass(frozen=True)
class FeatureOptions:
    """Upper limits: words and word pairs, SVD components, number columns, label columns."""

    vocabulary: int = 20_000
    components: int = 32
    numbers: int = 200
    labels: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Table:
    """Features of n records.

    words: sparse float32 [n, vocabulary], TF-IDF; meaning: float32 [n, components], its SVD;
    numbers: float32 [n, columns], signed logarithms, NaN where a record has no such number;
    labels: objects [n, columns], short texts, "" where a record has no such label.
    """

    words: Any
    meaning: NDArray[np.float32]
    numbers: NDArray[np.float32]
    labels: NDArray[np.object_]

    def rows(self, index: NDArray[np.int64]) -> "Table":
        """The same features of some of the records."""
        return replace(
            self,
            words=self.words[index],
            meaning=self.meaning[index],
            numbers=self.numbers[index],
            labels=self.labels[index],
        )


class TextFeatures:
    """Fitted on the train records of one source; then any of its records becomes a row of a Table."""

    def __init__(self, text_of: TextOf, job_of: JobOf, options: FeatureOptions) -> None:
        self._text_of = text_of
        self._job_of = job_of
        self._options = options
        self._words: TfidfVectorizer | None = None
        self._svd: TruncatedSVD | None = None
        self._numbers: list[str] = []
        self._labels: list[str] = []

    def fit(self, records: Sequence[Record]) -> "TextFeatures":
        """Learn vocabulary, components and columns."""
        self.fit_transform(records)
        return self

    def fit_transform(self, records: Sequence[Record]) -> Table:
        """Learn from each distinct text once, and return the rows of these records."""
        first = self._first_of_text(records)
        self._words = TfidfVectorizer(
            ngram_range=(1, 2),
            token_pattern=_WORD,
            min_df=min(2, len(first)),
            max_features=self._options.vocabulary,
            sublinear_tf=True,
            dtype=np.float32,
        )
        words = self._words.fit_transform(first)
        components = max(1, min(self._options.components, min(words.shape) - 1))
        with np.errstate(invalid="ignore"):  # equal words everywhere: no variance to explain
            self._svd = TruncatedSVD(components, n_iter=3, random_state=self._options.seed).fit(words)
        facts = self._facts(first)
        self._numbers = _columns([numbers for numbers, _ in facts], self._options.numbers)
        self._labels = _columns([labels for _, labels in facts], self._options.labels)
        return self._table(records, first, words, self._svd.transform(words), facts)

    def transform(self, records: Sequence[Record]) -> Table:
        """One row per record. Raises RuntimeError before `fit`."""
        if self._words is None or self._svd is None:
            raise RuntimeError("features before their fit")
        first = self._first_of_text(records)
        words = self._words.transform(first)
        return self._table(records, first, words, self._svd.transform(words), self._facts(first))

    def _table(
        self, records: Sequence[Record], first: Mapping[str, Record], words: Any, meaning: Any, facts: _Facts
    ) -> Table:
        place = {text: row for row, text in enumerate(first)}
        index = np.array([place[self._text_of(record)] for record in records], dtype=np.int64)
        numbers = np.full((len(first), len(self._numbers)), np.nan, dtype=np.float32)
        labels = np.full((len(first), len(self._labels)), "", dtype=np.object_)
        for row, (values, names) in enumerate(facts):
            numbers[row] = [_signed_ln(values[key]) if key in values else np.nan for key in self._numbers]
            labels[row] = [names.get(key, "") for key in self._labels]
        identity = np.array([(r.group, stage_of(r), r.key or "") for r in records], dtype=np.object_)
        table = Table(words, meaning.astype(np.float32), numbers, labels).rows(index)
        return replace(table, labels=np.hstack([identity, table.labels]))

    def _first_of_text(self, records: Sequence[Record]) -> dict[str, Record]:
        # Runs of a job share their text: each text is read once.
        first: dict[str, Record] = {}
        for record in records:
            first.setdefault(self._text_of(record), record)
        return first

    def _facts(self, first: Mapping[str, Record]) -> _Facts:
        found = []
        for text, record in first.items():
            job = self._job_of(record)
            shape = {**graph_features(job.body), "needs": float(len(job.needs))}
            graph = {GRAPH + name: value for name, value in shape.items()}
            found.append(({**graph, **dict(numbers_of(text))}, labels_of(text)))
        return found


def history_features(histories: Sequence[Sequence[Outcome]], target: str) -> FloatArray:
    """[records, HISTORY_COLUMNS]: ln last, ln median of three, count, ln(1 + age), same configuration.

    NaN throughout, but for a count of 0, where the history holds no value of the target.
    """
    rows = np.full((len(histories), HISTORY_COLUMNS), np.nan)
    for row, history in zip(rows, histories, strict=True):
        past = [outcome for outcome in history if target in outcome.values]
        row[2] = len(past)
        if past:
            values = ln_values(np.array(past_values(past, target)), target)
            same = past[0].same_config
            row[:] = (
                values[0],
                np.median(values),
                len(past),
                np.log1p(past[0].age_seconds),
                np.nan if same is None else same,
            )
    return rows


def _columns(found: Sequence[Mapping[str, float]] | Sequence[Mapping[str, str]], limit: int) -> list[str]:
    """The most frequent keys, without those that say the same in every text."""
    counts: Counter[str] = Counter()
    values: dict[str, set[float | str]] = {}
    for row in found:
        for key, value in row.items():
            counts[key] += 1
            values.setdefault(key, set()).add(value)
    enough = max(2.0, _FREQUENT * len(found))
    # A key that some texts lack says something even if its value is always the same.
    telling = [k for k, n in counts.items() if n >= enough and (len(values[k]) > 1 or n < len(found))]
    return sorted(telling, key=lambda key: (-counts[key], key))[:limit]


def _signed_ln(value: float) -> float:
    return float(np.copysign(np.log1p(abs(value)), value))
