"""Ridge regressions on words, numbers and categories: what grows with a size, and what adds up from parts.

Trees cannot go beyond the sizes they have seen, nor add a machine's share to a task's; these can.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.categories import Categories
from model.evidence.words import Words

#: A number of one standard deviation weighs this much beside a category.
_NUMBER = 0.3
_FARTHEST = 6.0


@dataclass(frozen=True)
class Linear:
    """B buckets (0: without words), N numbers, C categories of all columns together, T targets.

    words: [B, T]. center, scale: [N] of the signed logarithms of the numbers. numbers: [N, T]. categories: [C, T].
    intercept, low, high: [T]; an answer stays between low and high. NaN intercept: a target that was never measured.
    """

    words: NDArray[np.float16]
    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    numbers: NDArray[np.float32]
    categories: NDArray[np.float32]
    intercept: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def predict(
        self, words: Words, numbers: NDArray[np.float32], places: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Words of n jobs; numbers [n, N]; places [n, columns] as `places_of` gives them -> [n, T] in ln."""
        parts = [standard(numbers, self.center, self.scale) @ self.numbers]
        # The last row is what an unknown category adds: nothing.
        weights = np.vstack([self.categories, np.zeros((1, self.categories.shape[1]), np.float32)])
        parts.append(weights[places].sum(axis=1))
        if len(self.words):
            parts.append(words.times(self.words))
        total = sum(parts, self.intercept[None, :]).astype(np.float64)
        return np.asarray(np.clip(total, self.low, self.high))


def places_of(codes: NDArray[np.float32], categories: Categories) -> NDArray[np.int64]:
    """Codes [n, columns] -> the place of each category among those of all columns; -1 where unknown."""
    sizes = [len(known) for known in categories.keys]
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if sizes else np.empty(0)
    return np.where(np.isnan(codes), -1, np.nan_to_num(codes) + first).astype(np.int64)


def standard(
    numbers: NDArray[np.float32], center: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """[n, N] numbers as a linear model weighs them; zero where missing."""
    logs = signed_log(numbers)
    scaled = np.clip((logs - center) / scale, -_FARTHEST, _FARTHEST) * np.float32(_NUMBER)
    return np.where(np.isnan(scaled), np.float32(0), scaled)


def signed_log(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sizes by their magnitude, either side of zero; NaN stays."""
    return np.asarray(np.sign(numbers) * np.log1p(np.abs(numbers)), dtype=np.float32)


def fit_linear(
    words: Words | None,
    buckets: int,
    numbers: NDArray[np.float32],
    places: NDArray[np.int64],
    categories: int,
    truth: NDArray[np.float64],
    alpha: float,
) -> Linear:
    """Words of n jobs (None: without); numbers [n, N]; places [n, columns] in 0 .. categories - 1, or -1; truth
    [n, T] in ln, NaN where not measured.
    """
    from scipy import sparse
    from sklearn.linear_model import Ridge

    jobs, targets = truth.shape
    logs = signed_log(numbers)
    measured = np.isfinite(logs)
    count = np.maximum(measured.sum(axis=0), 1)
    center = (np.where(measured, logs, 0).sum(axis=0) / count).astype(np.float32)
    spread = np.where(measured, logs - center, 0)
    scale = (np.sqrt((spread**2).sum(axis=0) / count) + 1e-6).astype(np.float32)
    known = places >= 0
    rows = np.repeat(np.arange(jobs), known.sum(axis=1))
    one_hot = sparse.csr_matrix((np.ones(len(rows)), (rows, places[known])), shape=(jobs, categories))
    parts = [sparse.csr_matrix(standard(numbers, center, scale).astype(np.float64)), one_hot]
    if words is not None:
        shape = (jobs, buckets)
        parts.append(sparse.csr_matrix((words.weights.astype(np.float64), words.buckets, words.start), shape))
    matrix = sparse.hstack(parts).tocsr()
    weights = np.zeros((matrix.shape[1], targets))
    intercept, low, high = (np.full(targets, np.nan) for _ in range(3))
    for target in range(targets):
        given = np.isfinite(truth[:, target])
        if not given.any():
            continue
        own = truth[given, target]
        intercept[target] = own.mean()
        if matrix.shape[1]:  # else nothing tells these jobs apart
            model = Ridge(alpha, solver="sparse_cg", tol=1e-3).fit(matrix[given], own)
            weights[:, target], intercept[target] = model.coef_, model.intercept_
        low[target], high[target] = own.min(), own.max()
    ends = np.cumsum([numbers.shape[1], categories])
    by_number, by_category, by_word = np.split(weights, ends)
    return Linear(
        by_word.astype(np.float16),
        center,
        scale,
        by_number.astype(np.float32),
        by_category.astype(np.float32),
        *(part.astype(np.float32) for part in (intercept, low, high)),
    )
