"""Gradient boosting on numbers, the SVD of the words, and labels as categories: LightGBM and CatBoost.

Both minimize the absolute error of ln and stop early on val, where every group weighs the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import catboost
import lightgbm
import numpy as np
from numpy.typing import NDArray

from model.evaluation.learner import Fit, Parameters, Rows, mean_error
from model.evaluation.metrics import FloatArray

#: A label that fewer train rows have is no category of its own to LightGBM; CatBoost smooths them itself.
_RARE = 5
_BINS = 63


@dataclass(frozen=True)
class LightGBMLearner:
    """Chosen: leaves at a fast rate, then the rate; the number of rounds is early stopping's.

    A search ends after `searched` rounds at the fast rate, and at a slower one after as many more.
    """

    rounds: int = 1000
    searched: int = 300
    patience: int = 40
    leaves: tuple[int, ...] = (15, 63, 255)
    rates: tuple[float, ...] = (0.1, 0.04)

    def search(self, fit: Fit) -> Iterator[tuple[Parameters, FloatArray]]:
        """One candidate per number of leaves, then the best of them at the other rates."""
        best = (np.inf, self.leaves[0])
        for leaves in self.leaves:
            parameters: Parameters = {"leaves": leaves, "rate": self.rates[0]}
            predicted = self._searched(fit, parameters)
            best = min(best, (mean_error(fit.val_truth, predicted, fit.val.weights), leaves))
            yield parameters, predicted
        for rate in self.rates[1:]:
            parameters = {"leaves": best[1], "rate": rate}
            yield parameters, self._searched(fit, parameters)

    def _searched(self, fit: Fit, parameters: Parameters) -> FloatArray:
        rounds = int(self.searched * self.rates[0] / float(parameters["rate"]))
        return replace(self, rounds=min(self.rounds, rounds)).fit(fit, parameters).predict(fit.val)

    def fit(self, fit: Fit, parameters: Parameters) -> "FittedLightGBM":
        """Fit with one size and rate."""
        codes = _Codes(fit.train)
        matrix, numbers = _numbers_and_codes(fit.train, codes), _numbers(fit.train).shape[1]
        categories = list(range(numbers, matrix.shape[1]))
        data = lightgbm.Dataset(matrix, fit.truth, categorical_feature=categories, params={"max_bin": _BINS})
        check = lightgbm.Dataset(
            _numbers_and_codes(fit.val, codes), fit.val_truth, weight=fit.val.weights, reference=data
        )
        model = lightgbm.train(
            {
                "objective": "l1",
                "num_leaves": int(parameters["leaves"]),
                "learning_rate": float(parameters["rate"]),
                "min_data_in_leaf": 10,
                # Both halve the time, and the error on val falls a little (openroad: 0.73 to 0.69).
                "max_bin": _BINS,
                "feature_fraction": 0.4,
                "num_threads": fit.threads,
                "seed": fit.seed,
                "deterministic": True,
                "force_col_wise": True,
                "verbose": -1,
            },
            data,
            num_boost_round=self.rounds,
            valid_sets=[check],
            callbacks=[lightgbm.early_stopping(self.patience, verbose=False)],
        )
        return FittedLightGBM(model, codes)


@dataclass(frozen=True)
class FittedLightGBM:
    """The trees up to the best round on val."""

    model: Any
    codes: "_Codes"

    @property
    def facts(self) -> Parameters:
        """The rounds that early stopping kept."""
        return {"rounds": int(self.model.best_iteration)}

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        return np.asarray(self.model.predict(_numbers_and_codes(rows, self.codes)), dtype=np.float64)


@dataclass(frozen=True)
class CatBoostLearner:
    """Chosen: depth; labels are native categories, encoded by ordered target statistics."""

    rounds: int = 800
    searched: int = 250
    patience: int = 40
    depths: tuple[int, ...] = (6, 8)
    rate: float = 0.12

    def search(self, fit: Fit) -> Iterator[tuple[Parameters, FloatArray]]:
        """One candidate per depth, of at most `searched` rounds."""
        quick = replace(self, rounds=min(self.rounds, self.searched))
        for depth in self.depths:
            parameters: Parameters = {"depth": depth, "rate": self.rate}
            yield parameters, quick.fit(fit, parameters).predict(fit.val)

    def fit(self, fit: Fit, parameters: Parameters) -> "FittedCatBoost":
        """Fit with one depth."""
        model = catboost.CatBoostRegressor(
            loss_function="MAE",
            depth=int(parameters["depth"]),
            learning_rate=float(parameters["rate"]),
            iterations=self.rounds,
            od_type="Iter",
            od_wait=self.patience,
            use_best_model=True,
            boosting_type="Plain",
            border_count=64,
            rsm=0.5,
            # Combinations of categories take two thirds of the time and gained nothing on val (openroad).
            max_ctr_complexity=1,
            thread_count=fit.threads,
            random_seed=fit.seed,
            allow_writing_files=False,
            verbose=False,
        )
        model.fit(
            catboost.Pool(_with_categories(fit.train), fit.truth),
            eval_set=catboost.Pool(_with_categories(fit.val), fit.val_truth, weight=fit.val.weights),
        )
        return FittedCatBoost(model)


@dataclass(frozen=True)
class FittedCatBoost:
    """The trees up to the best round on val."""

    model: Any

    @property
    def facts(self) -> Parameters:
        """The rounds that early stopping kept."""
        return {"rounds": int(self.model.tree_count_)}

    def predict(self, rows: Rows) -> FloatArray:
        """Ln of the prediction [n]."""
        pool = catboost.Pool(_with_categories(rows))
        return np.asarray(self.model.predict(pool), dtype=np.float64)


class _Codes:
    """Labels as numbers for LightGBM: the place among the train rows' frequent ones, NaN for any other."""

    def __init__(self, rows: Rows) -> None:
        self._places: list[dict[object, int]] = []
        for column in rows.table.labels.T:
            names, counts = np.unique(column.astype(np.str_), return_counts=True)
            frequent = names[counts >= _RARE]
            self._places.append({str(name): place for place, name in enumerate(frequent)})

    def of(self, rows: Rows) -> NDArray[np.float32]:
        """[n, labels]."""
        columns = [
            [places.get(label, np.nan) for label in column]
            for places, column in zip(self._places, rows.table.labels.T, strict=True)
        ]
        return np.array(columns, dtype=np.float32).T


def _numbers(rows: Rows) -> NDArray[np.float32]:
    found = [rows.table.numbers, rows.table.meaning]
    if rows.history is not None:
        found.append(rows.history.astype(np.float32))
    return np.ascontiguousarray(np.hstack(found))


def _numbers_and_codes(rows: Rows, codes: _Codes) -> NDArray[np.float32]:
    return np.hstack([_numbers(rows), codes.of(rows)])


def _with_categories(rows: Rows) -> Any:
    labels = np.array([[str(label).encode() for label in row] for row in rows.table.labels], dtype=object)
    return catboost.FeaturesData(num_feature_data=_numbers(rows), cat_feature_data=labels)
