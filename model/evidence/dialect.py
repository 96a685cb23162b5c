"""Which of the dialects of a kind a job is written in: the names of its fields tell.

Several systems describe the jobs of one kind, each with fields and scales of its own (`nextflow`: seven in the corpus).
An expert of one dialect errs less than one of all; which one to ask is read off the job, never told.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.facts import Facts, hashed

_BUCKETS = 1 << 12
_DOUBT = 0.01


@dataclass(frozen=True)
class Dialects:
    """names of D dialects; evidence: [D, buckets] ln odds of having a field; base: [D] ln likelihood of having none."""

    names: tuple[str, ...]
    evidence: NDArray[np.float16]
    base: NDArray[np.float32]

    def of(self, facts: Facts) -> str:
        """The likeliest dialect."""
        if len(self.names) == 1:
            return self.names[0]
        return self.names[
            int((self.base + self.evidence[:, _fields(facts)].sum(axis=1, dtype=np.float32)).argmax())
        ]


def fit_dialects(by_name: Mapping[str, Sequence[Facts]]) -> Dialects:
    """Naive Bayes over the presence of fields, each dialect as likely as the others beforehand."""
    names = tuple(sorted(by_name))
    shares = np.zeros((len(names), _BUCKETS))
    for place, name in enumerate(names):
        counts = Counter(bucket for one in by_name[name] for bucket in _fields(one))
        shares[place, list(counts)] = np.array(list(counts.values())) / len(by_name[name])
    # The same doubt for all: else what no dialect has would speak against the small ones.
    shares = np.clip(shares, _DOUBT, 1 - _DOUBT)
    evidence = np.log(shares) - np.log1p(-shares)
    return Dialects(names, evidence.astype(np.float16), np.log1p(-shares).sum(axis=1).astype(np.float32))


def _fields(facts: Facts) -> list[int]:
    """The buckets of the names of a job's fields; not of the numbers found inside of texts."""
    named = (*facts.strings, *(path for path in facts.numbers if path[0] not in "~(" and "#" not in path))
    return sorted({hashed(path) % _BUCKETS for path in named})
