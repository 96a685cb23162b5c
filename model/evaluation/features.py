"""Features of the tabular baseline: what is readable from the canonical text without a language model.

text -> TF-IDF of words and word pairs -> truncated SVD
text -> the numbers behind its most frequent keys
kind, stage -> one-hot
history -> last value, median of the last three, how many, age, same configuration
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder

from model.evaluation.baselines import past_values
from model.evaluation.metrics import FloatArray, ln_values
from model.jobs.job import Outcome
from model.training.corpus import Record

TextOf = Callable[[Record], str]

_NUMBER = re.compile(
    r"([A-Za-z_][\w.\-]{0,60})[\s\"'=:()\[\]{},]{1,4}(-?\d{1,18}(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)(?!\w)"
)
HISTORY_COLUMNS = 5


class TextFeatures:
    """Fitted on the train records; then any record becomes one sparse row."""

    def __init__(self, text_of: TextOf, *, components: int, vocabulary: int, numbers: int, seed: int) -> None:
        self._text_of = text_of
        self._components = components
        self._number_count = numbers
        self._words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=3, max_features=vocabulary, sublinear_tf=True, dtype=np.float32
        )
        self._seed = seed
        self._places: dict[str, int] = {}
        # A stage that a handful of records have says nothing that splits well; unknown ones share its column.
        self._labels = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=20, dtype=np.float32)

    def fit(self, records: Sequence[Record]) -> "TextFeatures":
        """Learn vocabulary, components, keys and labels from each distinct text once."""
        texts = sorted({self._text_of(record) for record in records})
        counted = Counter(key for text in texts for key, _ in numbers_of(text))
        frequent = sorted(counted, key=lambda key: (-counted[key], key))[: self._number_count]
        self._places = {key: place for place, key in enumerate(frequent)}
        words = self._words.fit_transform(texts)
        components = max(1, min(self._components, words.shape[1] - 1))
        self._svd = TruncatedSVD(components, n_iter=3, random_state=self._seed).fit(words)
        self._labels.fit(_labels(records))
        return self

    def transform(self, records: Sequence[Record]) -> Any:
        """Sparse float32 matrix [records, features]."""
        all_texts = [self._text_of(record) for record in records]
        texts = sorted(set(all_texts))  # runs of a job share their text: read each text once
        place = {text: row for row, text in enumerate(texts)}
        rows = [place[text] for text in all_texts]
        meaning = self._svd.transform(self._words.transform(texts)).astype(np.float32)
        distinct = sparse.hstack([sparse.csr_matrix(meaning), self._numbers(texts)]).tocsr()
        return sparse.hstack([distinct[rows], self._labels.transform(_labels(records))]).tocsr()

    def _numbers(self, texts: Sequence[str]) -> Any:
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            for key, value in numbers_of(text):
                if key in self._places:
                    rows.append(row)
                    columns.append(self._places[key])
                    # An absent key is 0 in a sparse matrix; one more keeps a written 0 apart from it.
                    values.append(np.copysign(np.log1p(abs(value)) + 1.0, value))
        shape = (len(texts), len(self._places))
        return sparse.csr_matrix((np.array(values, np.float32), (rows, columns)), shape=shape)


def numbers_of(text: str) -> Iterator[tuple[str, float]]:
    """The key before each number, and the number: the first one of every key."""
    seen: set[str] = set()
    for match in _NUMBER.finditer(text):
        if (key := match[1].lower()) not in seen:
            seen.add(key)
            yield key, float(match[2])


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


def _labels(records: Sequence[Record]) -> list[tuple[str, str]]:
    return [(record.kind, str(record.context.get("stage"))) for record in records]
