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

from model.numbers import Code, NumberCode, Prefix

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


def quantile_walk(code: NumberCode, quantiles: Sequence[float]) -> Walk[tuple[float, ...]]:
    """Exact quantiles of the model's distribution; one value per entry of `quantiles`, in their order."""
    states: list[tuple[Prefix, float]] = [((), tau) for tau in quantiles]
    for _ in range(code.length):
        prefixes = list(dict.fromkeys(prefix for prefix, _ in states))
        logits = yield prefixes
        cumulated = {
            prefix: np.cumsum(probabilities(code, prefix, row))
            for prefix, row in zip(prefixes, logits, strict=True)
        }
        states = [_descend(code, prefix, tau, cumulated[prefix]) for prefix, tau in states]
    values = []
    for prefix, tau in states:
        low, high = code.interval(prefix)
        values.append(low + tau * (high - low))
    return tuple(values)


def _descend(
    code: NumberCode, prefix: Prefix, tau: float, cumulated: NDArray[np.float64]
) -> tuple[Prefix, float]:
    """One level down: the symbol at which the cumulative probability passes tau, and tau inside it."""
    # Rounding may leave the last sum a hair off 1: scale tau to it, and never pass the last symbol.
    target = tau * cumulated[-1]
    index = min(int(np.searchsorted(cumulated, target, side="left")), len(cumulated) - 1)
    before = cumulated[index - 1] if index else 0.0
    mass = cumulated[index] - before
    inside = float(np.clip((target - before) / mass, 0.0, 1.0)) if mass > 0 else 0.0
    return (*prefix, code.choices(prefix)[index]), inside


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
