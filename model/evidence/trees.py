"""Boosted regression trees as flat arrays: a small file, and one walk for all trees of a row.

Fitted by LightGBM in training; serving needs NumPy alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CATEGORICAL, _DEFAULT_LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8
#: Bytes of a set of categories.
SET_BYTES = 32


@dataclass(frozen=True)
class Trees:
    """An ensemble with several outputs.

    feature, threshold, missing_left: [nodes]: a row goes left where its value <= threshold; NaN goes by
    `missing_left`. Where `chosen` [nodes] names a row of `sets` [S, SET_BYTES] instead (-1: none), a row goes left
    where its value, a category, is a bit of that set. left, right: [nodes] the next node, or ~leaf. leaf: [leaves].
    root: [trees] as left and right. output: [trees] which output a tree adds its leaf to.
    """

    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    chosen: NDArray[np.int32]
    sets: NDArray[np.uint8]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    leaf: NDArray[np.float32]
    root: NDArray[np.int32]
    output: NDArray[np.uint8]

    def predict(self, row: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
        """One row [features] -> [outputs]: the sum of the leaves it reaches; NaN for an output without trees."""
        slot, threshold, child = self._steps
        missing = np.isnan(row)
        # Only the columns that hold categories are ever looked up here.
        codes = np.where(missing | (row < 0) | (row >= 8 * SET_BYTES), -1, row).astype(np.int32)
        values = np.stack([np.where(missing, end, row) for end in (np.inf, -np.inf)], axis=1).ravel()
        node = self.root.copy()
        active = np.flatnonzero(node >= 0)
        while len(active):
            at = node.take(active)
            goes_right = values.take(slot.take(at)) > threshold.take(at)
            chosen = self.chosen.take(at)
            by_set = np.flatnonzero(chosen >= 0)
            if len(by_set):
                goes_right[by_set] = self._outside(chosen[by_set], codes.take(self.feature.take(at[by_set])))
            after = child.take(2 * at + goes_right)
            node[active] = after
            active = active[after >= 0]
        sums = np.bincount(self.output, weights=self.leaf[~node], minlength=outputs)
        grown = np.bincount(self.output, minlength=outputs)
        return np.where(grown > 0, sums, np.nan)

    def _outside(self, chosen: NDArray[np.int32], codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether categories are not in their sets; a missing one is in none."""
        bits = self.sets[chosen, codes >> 3] >> (codes & 7)
        return np.asarray((codes < 0) | ((bits & 1) == 0))

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
            {len(self.threshold), len(self.missing_left), len(self.chosen)} == {nodes}
            and {len(self.left), len(self.right)} == {nodes}
            and self.sets.shape[1:] == (SET_BYTES,)
            and (self.chosen < len(self.sets)).all()
            and len(self.root) == len(self.output)
            and (self.feature < features).all()
            and (self.output < outputs).all()
            and all((step < nodes).all() and (~step < leaves).all() for step, _ in steps)
            and all(((step < 0) | (step > parent)).all() for step, parent in steps)
        )
        if not sound:
            raise ValueError("trees that lead out of their arrays")
        return self


@dataclass(frozen=True)
class Fitted:
    """A booster of LightGBM, what it adds to, and which columns of a row it was fitted on."""

    booster: Any
    output: int
    columns: NDArray[np.int64]


def from_lightgbm(fitted: Sequence[Fitted]) -> Trees:
    """All trees of all boosters. Raises ValueError for zeros that stand for missing values: nothing here fits them."""
    nodes: dict[str, list[NDArray[Any]]] = {name: [] for name in _NODES}
    leaves: list[NDArray[Any]] = []
    sets: list[NDArray[Any]] = []
    roots: list[int] = []
    outputs: list[int] = []
    known = ends = 0
    for one in fitted:
        for tree in _trees(one.booster.model_to_string()):
            leaf = _floats(tree["leaf_value"])
            roots.append(known if len(leaf) > 1 else ~ends)
            outputs.append(one.output)
            leaves.append(leaf)
            if len(leaf) > 1:
                for name, part in _nodes(tree, one.columns, known, ends, len(sets)).items():
                    nodes[name].append(part)
                sets += _sets(tree)
                known += len(leaf) - 1
            ends += len(leaf)
    return Trees(
        **{name: _joined(parts, _NODES[name]) for name, parts in nodes.items()},
        sets=np.array(sets, dtype=np.uint8).reshape(-1, SET_BYTES),
        leaf=_joined(leaves, np.float32),
        root=np.array(roots, dtype=np.int32),
        output=np.array(outputs, dtype=np.uint8),
    )


_NODES: Mapping[str, Any] = {
    "feature": np.uint16,
    "threshold": np.float32,
    "missing_left": np.bool_,
    "chosen": np.int32,
    "left": np.int32,
    "right": np.int32,
}


def _nodes(
    tree: Mapping[str, str], columns: NDArray[np.int64], known: int, ends: int, sets: int
) -> dict[str, NDArray[Any]]:
    """The inner nodes of a tree behind `known` nodes, `ends` leaves and `sets` sets of the trees before it."""
    decision = _ints(tree["decision_type"])
    if (decision & _ZERO_IS_MISSING).any():
        raise ValueError("zeros that stand for missing values")
    threshold = _floats(tree["threshold"])
    by_set = (decision & _CATEGORICAL) > 0
    knows_missing = (decision & _NAN_IS_MISSING) > 0
    sides = {}
    for side in ("left", "right"):
        child = _ints(tree[f"{side}_child"])
        sides[side] = np.where(child >= 0, child + known, child - ends)
    return {
        "feature": columns[_ints(tree["split_feature"])],
        "threshold": np.where(by_set, 0, _rounded_down(threshold)),
        # Where training saw no missing value LightGBM reads one as zero.
        "missing_left": np.where(knows_missing, (decision & _DEFAULT_LEFT) > 0, threshold >= 0),
        "chosen": np.where(by_set, np.where(by_set, threshold, 0).astype(np.int64) + sets, -1),
        **sides,
    }


def _sets(tree: Mapping[str, str]) -> list[NDArray[np.uint8]]:
    """The sets of a tree's categorical splits, as bits. Raises ValueError for a category that does not fit."""
    if "cat_boundaries" not in tree:
        return []
    words = np.array(tree["cat_threshold"].split(), dtype="<u4")
    found = []
    for first, after in pairwise(_ints(tree["cat_boundaries"]).tolist()):
        bits = words[first:after].tobytes()
        if len(bits) > SET_BYTES:
            raise ValueError("more categories than a set holds")
        found.append(np.frombuffer(bits.ljust(SET_BYTES, b"\0"), dtype=np.uint8))
    return found


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
