"""Boosted regression trees as flat arrays: a small file, and one walk for all trees of a row.

Fitted by LightGBM in training; serving needs NumPy alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CATEGORICAL, _DEFAULT_LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8


@dataclass(frozen=True)
class Trees:
    """An ensemble with several outputs.

    feature, threshold, missing_left: [nodes]: a row goes left where its value <= threshold; NaN goes by
    `missing_left`. left, right: [nodes] the next node, or ~leaf. leaf: [leaves]. root: [trees] as left and right.
    output: [trees] which output a tree adds its leaf to.
    """

    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf: NDArray[np.float32]
    root: NDArray[np.int32]
    output: NDArray[np.uint8]

    def predict(self, row: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
        """One row [features] -> [outputs]: the sum of the leaves it reaches; NaN for an output without trees."""
        slot, threshold, child = self._steps
        missing = np.isnan(row)
        values = np.stack([np.where(missing, end, row) for end in (np.inf, -np.inf)], axis=1).ravel()
        node = self.root.copy()
        active = np.flatnonzero(node >= 0)
        while len(active):
            at = node.take(active)
            goes_right = values.take(slot.take(at)) > threshold.take(at)
            after = child.take(2 * at + goes_right)
            node[active] = after
            active = active[after >= 0]
        sums = np.bincount(self.output, weights=self.leaf[~node], minlength=outputs)
        grown = np.bincount(self.output, minlength=outputs)
        return np.where(grown > 0, sums, np.nan)

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
        """Where a node finds its value, its threshold, and both children of each node, left first.

        Every feature is there twice: missing values as +inf, which goes right of any finite threshold, and as -inf.
        """
        slot = 2 * self.feature.astype(np.int32) + self.missing_left
        threshold = np.minimum(self.threshold, np.finfo(np.float32).max)
        return slot, threshold, np.stack([self.left, self.right], axis=1).ravel()

    def checked(self, features: int, outputs: int) -> "Trees":
        """The same trees. Raises ValueError where a walk over [features] would leave the arrays or never end."""
        nodes, leaves = len(self.feature), len(self.leaf)
        own = np.arange(nodes)
        # Every child is stored behind its parent, so that a walk ends.
        steps = [(self.left, own), (self.right, own), (self.root, np.full(len(self.root), -1))]
        sound = (
            {len(self.threshold), len(self.missing_left), len(self.left), len(self.right)} == {nodes}
            and len(self.root) == len(self.output)
            and (self.feature < features).all()
            and (self.output < outputs).all()
            and all((step < nodes).all() and (~step < leaves).all() for step, _ in steps)
            and all(((step < 0) | (step > parent)).all() for step, parent in steps)
        )
        if not sound:
            raise ValueError("trees that lead out of their arrays")
        return self


def from_lightgbm(boosters: list[tuple[Any, int, float]]) -> Trees:
    """Of (booster, output, weight): outputs are the weighted sums of their boosters.

    Raises ValueError for categorical splits and for zeros that stand for missing values: nothing here fits them.
    """
    features: list[NDArray[Any]] = []
    thresholds: list[NDArray[Any]] = []
    missing: list[NDArray[Any]] = []
    lefts: list[NDArray[Any]] = []
    rights: list[NDArray[Any]] = []
    leaves: list[NDArray[Any]] = []
    roots: list[int] = []
    outputs: list[int] = []
    nodes = ends = 0
    for booster, output, weight in boosters:
        for tree in _trees(booster.model_to_string()):
            leaf = _floats(tree["leaf_value"]) * weight
            roots.append(nodes if len(leaf) > 1 else ~ends)
            outputs.append(output)
            leaves.append(leaf)
            if len(leaf) > 1:
                decision = _ints(tree["decision_type"])
                if (decision & (_CATEGORICAL | _ZERO_IS_MISSING)).any():
                    raise ValueError("a categorical split, or zeros that stand for missing values")
                threshold = _floats(tree["threshold"])
                knows_missing = (decision & _NAN_IS_MISSING) > 0
                # Where training saw no missing value LightGBM reads one as zero.
                missing.append(np.where(knows_missing, (decision & _DEFAULT_LEFT) > 0, threshold >= 0))
                features.append(_ints(tree["split_feature"]))
                thresholds.append(_rounded_down(threshold))
                for side, found in (("left_child", lefts), ("right_child", rights)):
                    child = _ints(tree[side])
                    found.append(np.where(child >= 0, child + nodes, child - ends))
                nodes += len(decision)
            ends += len(leaf)
    return Trees(
        _joined(features, np.uint16),
        _joined(thresholds, np.float32),
        _joined(missing, np.bool_),
        _joined(lefts, np.int32),
        _joined(rights, np.int32),
        _joined(leaves, np.float32),
        np.array(roots, dtype=np.int32),
        np.array(outputs, dtype=np.uint8),
    )


def _trees(model: str) -> Iterator[dict[str, str]]:
    """The `key=value` lines of each tree of LightGBM's text format."""
    for block in model.split("\nTree=")[1:]:
        lines = (line.partition("=") for line in block.split("\n\n")[0].splitlines())
        yield {key: value for key, _, value in lines}


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 at or under each: rows are float32, so that they go the same way as at the float64."""
    with np.errstate(over="ignore"):
        near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _floats(text: str) -> NDArray[np.float64]:
    return np.array(text.split(), dtype=np.float64)


def _ints(text: str) -> NDArray[np.int64]:
    return np.array(text.split(), dtype=np.int64)


def _joined(parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.empty(0, dtype=dtype)
