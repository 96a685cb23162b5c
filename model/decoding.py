"""Constrained decoding and exact quantiles over the number code. NumPy only, no framework.

A walk is a generator: it yields the prefixes whose next-symbol logits it needs, is sent one logit vector per
prefix (over that position's whole alphabet), and returns its result after the last position. Engines run the walks
of many targets and requests in lockstep, one batched model step per position:

    walk = quantile_walk(code, (0.1, 0.5, 0.9))
    prefixes = next(walk)                    # [()]
    prefixes = walk.send([logits_of(p) for p in prefixes])   # at most one prefix per quantile
    ...                                      # StopIteration.value is (q10, q50, q90)

The quantile walk inverts the model's own distribution: at each position it takes the symbol at which the cumulative
probability passes tau, rescales tau inside that symbol, and at the end interpolates inside the last bin. A uniform
random tau therefore is an exact sample.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.numbers import BELOW, NEGATIVE, Code, NumberCode, Prefix

Result = TypeVar("Result")
Walk: TypeAlias = Generator[list[Prefix], Sequence[ArrayLike], Result]


def probabilities(code: NumberCode, prefix: Prefix, logits: ArrayLike) -> NDArray[np.float64]:
    """Softmax over the symbols that may follow `prefix`, ascending in value: shape [len(choices)], float64.

    logits: [alphabet size at this position]; entries of symbols that may not follow are ignored.
    """
    allowed = np.asarray(logits, dtype=np.float64)[list(code.choices(prefix))]
    weights = np.exp(allowed - allowed.max())
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def descend(
    code: NumberCode,
    position: int,
    logits: ArrayLike,
    taus: NDArray[np.float64],
    negative: NDArray[np.bool_],
    below: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One position down, for n walks: the symbol at which the cumulative probability passes tau, and tau inside it.

    logits: [n, alphabet size at this position], entries of symbols that may not follow are ignored; taus: [n].
    negative, below: [n] whether the number is known to be negative, or to lie below the code's range.
    """
    size = code.sizes[position]
    weights = np.asarray(logits, dtype=np.float64)
    lowest: int | NDArray[np.int64] = 0
    if (
        position == code.signed + 1
    ):  # the first digit is zero where the number lies below the range, and nowhere else
        lowest = np.where(below, 0, 10 ** (code.widths[0] - 1))
        weights = np.where(np.arange(size) >= np.asarray(lowest)[:, None], weights, -np.inf)
    weights = np.exp(weights - weights.max(axis=1, keepdims=True))
    # In ascending order of the values: larger digits of a negative number are smaller values.
    flipped = bool(negative.any())
    if flipped:
        weights = np.where(negative[:, None], weights[:, ::-1], weights)
    cumulated = np.cumsum(weights, axis=1)
    target = taus * cumulated[:, -1]
    # Rounding must not lead out of the symbols that may follow.
    first = np.where(negative, 0, lowest)
    last = np.where(negative, size - 1 - lowest, size - 1)
    index = np.clip((cumulated < target[:, None]).sum(axis=1), first, last)
    walks = np.arange(len(index))
    mass = weights[walks, index]
    before = cumulated[walks, index] - mass
    inside = np.divide(target - before, mass, out=np.zeros(len(mass)), where=mass > 0)
    symbols = np.where(negative, size - 1 - index, index) if flipped else index
    return symbols, np.clip(inside, 0.0, 1.0)


def interpolated(
    code: NumberCode, codes: Sequence[Sequence[int]], taus: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What n walks have come to: tau inside the bin of each complete code."""
    low, high = np.array([code.interval(tuple(one)) for one in codes]).T
    return np.asarray(low + taus * (high - low))


class Descent:
    """Many quantile walks in lockstep: one array operation per position, however many walks.

    A walk belongs to a row (a target of a query): rows have distributions of their own. At each position the distinct
    prefixes that the walks have come to are the nodes of a forest; the engine is told of them and gives their logits.

        descent = Descent(code, rows, taus)
        while not descent.done:
            logits = ...           # [nodes, alphabet] for descent.rows, descent.parents, descent.symbols
            descent.advance(logits)
        descent.values()
    """

    def __init__(self, code: NumberCode, rows: Sequence[int], taus: Sequence[float]) -> None:
        self._code = code
        self._taus = np.asarray(taus, dtype=np.float64)
        distinct, self._nodes = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        self._codes: list[NDArray[np.int64]] = []  # the symbol that each walk took, per position
        self.position = 0
        #: Per node: its row; the node of the position before and the symbol that led here (none at the start).
        self.rows: NDArray[np.int64] = distinct
        self.parents: NDArray[np.int64] = np.full(len(distinct), -1)
        self.symbols: NDArray[np.int64] = np.full(len(distinct), -1)
        self._negative, self._below = np.zeros((2, len(self._taus)), dtype=bool)  # per walk

    @property
    def done(self) -> bool:
        return self.position == self._code.length

    def advance(self, logits: ArrayLike) -> None:
        """logits: [nodes, alphabet size at this position]; entries of symbols that may not follow are ignored."""
        own = np.asarray(logits)[self._nodes]
        symbols, self._taus = descend(self._code, self.position, own, self._taus, self._negative, self._below)
        if self._code.signed and self.position == 0:
            self._negative = symbols == NEGATIVE
        elif self.position == self._code.signed:
            self._below = symbols == BELOW
        self._codes.append(symbols)
        size = self._code.sizes[self.position]
        keys, self._nodes = np.unique(self._nodes * size + symbols, return_inverse=True)
        self.parents, self.symbols = keys // size, keys % size
        self.rows = self.rows[self.parents]
        self.position += 1

    def values(self) -> NDArray[np.float64]:
        """[walks]: the quantiles, in the order of `taus`; after the last position only."""
        return interpolated(self._code, np.stack(self._codes, axis=1).tolist(), self._taus)


def quantile_walk(code: NumberCode, quantiles: Sequence[float]) -> Walk[tuple[float, ...]]:
    """Exact quantiles of the model's distribution; one value per entry of `quantiles`, in their order."""
    descent = Descent(code, [0] * len(quantiles), quantiles)
    prefixes: list[Prefix] = [()]
    while not descent.done:
        descent.advance(np.stack([np.asarray(row, dtype=np.float64) for row in (yield prefixes)]))
        steps = zip(descent.parents.tolist(), descent.symbols.tolist(), strict=True)
        prefixes = [(*prefixes[parent], symbol) for parent, symbol in steps]
    return tuple(descent.values().tolist())


def distribution_walk(code: NumberCode, values: Sequence[float]) -> Walk[tuple[float, ...]]:
    """The model's cumulative distribution function at each of `values`: the inverse of `quantile_walk`."""
    targets: list[Code] = [code.encode(value) for value in values]
    below = [0.0] * len(values)
    mass = [1.0] * len(values)
    for position in range(code.length):
        prefixes = list(dict.fromkeys(target[:position] for target in targets))
        logits = yield prefixes
        rows = {p: probabilities(code, p, row) for p, row in zip(prefixes, logits, strict=True)}
        for i, target in enumerate(targets):
            row = rows[target[:position]]
            index = code.choices(target[:position]).index(target[position])
            below[i] += mass[i] * float(row[:index].sum())
            mass[i] *= float(row[index])
    results = []
    for value, target, start, width in zip(values, targets, below, mass, strict=True):
        low, high = code.interval(target)
        results.append(start + width * min(max((value - low) / (high - low), 0.0), 1.0))
    return tuple(results)


def run_walk(walk: Walk[Result], logits_of: Callable[[Prefix], ArrayLike]) -> Result:
    """Run one walk to its end against a function from prefix to logits."""
    try:
        prefixes = next(walk)
        while True:
            prefixes = walk.send([logits_of(prefix) for prefix in prefixes])
    except StopIteration as end:
        result: Result = end.value
        return result
