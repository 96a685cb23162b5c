"""Is a difference more than chance: a paired bootstrap over groups, and the signed-rank test.

Both methods are compared on the same groups of a source, so what makes a group hard for both cancels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from model.evaluation.metrics import FloatArray

DRAWS = 2000
#: A group's mean error, and a ratio's terms, are never taken as smaller: a thousandth of a percent.
LEAST_ERROR = 1e-5
#: With fewer differing pairs the test cannot come below 0.05, whatever they are.
ENOUGH_PAIRS = 6
#: Up to so many differing pairs without ties the test is exact.
_EXACT_PAIRS = 50


@dataclass(frozen=True)
class Pairs:
    """Mean errors of two methods on the same groups of a source [groups]; `name` seeds its draws."""

    name: str
    ours: FloatArray
    theirs: FloatArray

    @property
    def ratio(self) -> float:
        """Mean over groups of ours / mean over groups of theirs."""
        return float(_means(self.ours) / _means(self.theirs))


@dataclass(frozen=True)
class SignedRank:
    """Two-sided Wilcoxon signed-rank test of group errors. None: too few pairs to say.

    pairs: groups where both differ; better: those where ours is smaller.
    """

    p: float | None
    pairs: int
    better: int


def drawn_ratios(pairs: Pairs, seed: int, draws: int = DRAWS) -> FloatArray:
    """The ratio of each draw [draws] of as many groups with replacement; the same whatever else is drawn."""
    digest = hashlib.blake2b(f"{seed}:{pairs.name}".encode(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest, "big"))
    groups = len(pairs.ours)
    # How often each group was drawn says all that a mean needs.
    times = random.multinomial(groups, np.full(groups, 1 / groups), size=draws)
    ratios: FloatArray = _raised(times @ pairs.ours / groups) / _raised(times @ pairs.theirs / groups)
    return ratios


def interval(pairs: Pairs, seed: int) -> tuple[float, float] | None:
    """95 % interval of a source's ratio; None for a single group, which nothing can be drawn from."""
    return _middle(drawn_ratios(pairs, seed)) if len(pairs.ours) > 1 else None


def family_interval(sources: Sequence[Pairs], seed: int) -> tuple[float, float] | None:
    """95 % interval of the geometric mean of the sources' ratios, groups drawn within each source.

    A source of one group keeps its ratio in every draw; None where all are such.
    """
    if all(len(pairs.ours) < 2 for pairs in sources):
        return None
    logs = np.stack([np.log(drawn_ratios(pairs, seed)) for pairs in sources])
    return _middle(np.exp(logs.mean(axis=0)))


def geometric_mean(ratios: Sequence[float]) -> float:
    """Of positive ratios, at least one."""
    return float(np.exp(np.mean(np.log(ratios))))


def signed_rank(sources: Sequence[Pairs]) -> SignedRank:
    """Test the groups of all sources together: is ours - theirs centred on zero?"""
    differences = np.concatenate([np.array([]), *(pairs.ours - pairs.theirs for pairs in sources)])
    differences = differences[np.abs(differences) > LEAST_ERROR]
    pairs, better = len(differences), int((differences < 0).sum())
    if pairs < ENOUGH_PAIRS:
        return SignedRank(None, pairs, better)
    untied = len(np.unique(np.abs(differences))) == pairs
    method = "exact" if untied and pairs <= _EXACT_PAIRS else "asymptotic"
    return SignedRank(float(stats.wilcoxon(differences, method=method).pvalue), pairs, better)


def _means(errors: FloatArray) -> FloatArray:
    return _raised(np.asarray(errors.mean()))


def _raised(errors: FloatArray) -> FloatArray:
    return np.maximum(errors, LEAST_ERROR)


def _middle(values: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
