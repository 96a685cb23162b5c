"""Which of the dialects of a kind a job is written in: the names of its fields tell, and their short values.

Several systems describe the jobs of one kind, each with fields and scales of its own (`nextflow`: seven in the corpus).
An expert of one dialect errs less than one of all; which one to ask is read off the job, never told. Where two could
have written the same job, both are asked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.facts import Facts, hashed
from model.jobs.graph import GRAPH

_BUCKETS = 1 << 14
#: Longer texts are the job's own, not its system's.
_SHORT = 40
#: A less probable dialect is not asked.
_LIKELY = 0.1
_MOST = 6000
#: A dialect weighs as much as so many jobs.
_JOBS = 1000.0


@dataclass(frozen=True)
class Dialects:
    """names of D dialects; evidence: [D, buckets] ln odds of having a field or value; base: [D] of having none."""

    names: tuple[str, ...]
    evidence: NDArray[np.float16]
    base: NDArray[np.float32]

    def of(self, facts: Facts) -> dict[str, float]:
        """The probability of each likely dialect, the likeliest first; they sum to one."""
        if len(self.names) == 1:
            return {self.names[0]: 1.0}
        odds = self.base + self.evidence[:, _marks(facts)].sum(axis=1, dtype=np.float32)
        share = np.exp(odds - odds.max())
        share[share < _LIKELY * share.sum()] = 0.0
        share /= share.sum()
        order = np.argsort(-share, kind="stable")
        return {self.names[place]: float(share[place]) for place in order.tolist() if share[place] > 0}


def fit_dialects(by_name: Mapping[str, Mapping[str, Sequence[Facts]]]) -> Dialects:
    """By dialect and group: facts of its jobs. Logistic regression on the presence of fields and short values.

    Each dialect is as likely as the others beforehand, and in it each group, of whatever size: what holds for one
    application alone says little of the next. Naive Bayes took two fifths of one source for another that has the same
    fields in other shares.
    """
    from scipy import sparse
    from sklearn.linear_model import LogisticRegression

    names = tuple(sorted(by_name))
    if len(names) == 1:
        return Dialects(names, np.zeros((1, _BUCKETS), np.float16), np.zeros(1, np.float32))
    marks, owner, weight = [], [], []
    for place, name in enumerate(names):
        every = [(group, one) for group, jobs in by_name[name].items() for one in jobs]
        drawn = every[:: max(1, -(-len(every) // _MOST))]
        sizes = Counter(group for group, _ in drawn)
        marks += [_marks(one) for _, one in drawn]
        owner += [place] * len(drawn)
        weight += [_JOBS / len(sizes) / sizes[group] for group, _ in drawn]
    start = np.concatenate([[0], np.cumsum([len(found) for found in marks])])
    matrix = sparse.csr_matrix((np.ones(start[-1]), np.concatenate(marks), start), (len(marks), _BUCKETS))
    model = LogisticRegression(C=1.0, max_iter=300).fit(matrix, owner, sample_weight=weight)
    evidence, base = model.coef_, model.intercept_
    if len(names) == 2:  # then the model tells of the second alone
        evidence, base = np.vstack([-evidence, evidence]) / 2, np.concatenate([-base, base]) / 2
    return Dialects(names, evidence.astype(np.float16), base.astype(np.float32))


def _marks(facts: Facts) -> list[int]:
    """The buckets of the names of a job's fields and of their short values; not of numbers found inside of texts."""
    numbers = {
        path: value
        for path, value in facts.numbers.items()
        if not path.startswith(("~", "(", GRAPH)) and "#" not in path
    }
    valued = (f"{path}={text}" for path, text in facts.strings.items() if len(text) < _SHORT)
    rounded = (f"{path}={value:.3g}" for path, value in numbers.items())
    return sorted({hashed(mark) % _BUCKETS for mark in (*facts.strings, *numbers, *valued, *rounded)})
