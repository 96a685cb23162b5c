"""Boosted regression trees as flat arrays: a small file, and one walk for all trees of a row.

Fitted by LightGBM in training; serving needs NumPy alone.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    """An ensemble with several outputs, one tree after the other.

    leaves, base, output: [trees] how many leaves a tree has (and one inner node less), what all of them are told from,
    and which output the tree adds to. Of the inner nodes, root first, [nodes]: a row goes left where its value of
    `feature` <= threshold; NaN goes by `missing_left`. Where `chosen` names a row of `sets` [S, SET_BYTES] instead
    (-1: none), a row goes left where its value, a category, is a bit of that set. left, right: the next node within the
    tree, or ~leaf within it. leaf: [leaves of all trees].
    """

    leaves: NDArray[np.uint16]
    base: NDArray[np.float32]
    output: NDArray[np.uint8]
    feature: NDArray[np.uint16]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    chosen: NDArray[np.int32]
    sets: NDArray[np.uint8]
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    leaf: NDArray[np.float16]

    def predict(self, row: NDArray[np.float32], outputs: int) -> NDArray[np.float64]:
        """One row [features] -> [outputs]: the sum of the leaves it reaches; NaN for an output without trees."""
        walk = self._walk
        missing = np.isnan(row)
        # Only the columns that hold categories are ever looked up here.
        codes = np.where(missing | (row < 0) | (row >= 8 * SET_BYTES), -1, row).astype(np.int32)
        values = np.stack([np.where(missing, end, row) for end in (np.inf, -np.inf)], axis=1).ravel()
        node = walk.root.copy()
        active = np.flatnonzero(node >= 0)
        while len(active):
            at = node.take(active)
            goes_right = values.take(walk.slot.take(at)) > walk.threshold.take(at)
            chosen = self.chosen.take(at)
            by_set = np.flatnonzero(chosen >= 0)
            if len(by_set):
                goes_right[by_set] = self._outside(chosen[by_set], codes.take(self.feature.take(at[by_set])))
            after = walk.child.take(2 * at + goes_right)
            node[active] = after
            active = active[after >= 0]
        sums = np.bincount(self.output, weights=walk.leaf[~node], minlength=outputs)
        grown = np.bincount(self.output, minlength=outputs)
        return np.where(grown > 0, sums, np.nan)

    def _outside(self, chosen: NDArray[np.int32], codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether categories are not in their sets; a missing one is in none."""
        bits = self.sets[chosen, codes >> 3] >> (codes & 7)
        return np.asarray((codes < 0) | ((bits & 1) == 0))

    @cached_property
    def _walk(self) -> "_Walk":
        first_leaf, root = self._starts()
        return _Walk(
            # A tree of one leaf is walked already.
            root=np.where(self.leaves > 1, root, ~first_leaf).astype(np.int32),
            slot=2 * self.feature.astype(np.int32) + self.missing_left,
            threshold=np.minimum(self.threshold, np.finfo(np.float32).max),
            child=np.stack([self._absolute(self.left), self._absolute(self.right)], axis=1).ravel(),
            leaf=self.leaf.astype(np.float32) + np.repeat(self.base, self.leaves),
        )

    def _starts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each tree the first leaf and the first node, among those of all trees."""
        first_leaf = np.cumsum(self.leaves, dtype=np.int64) - self.leaves
        return first_leaf, first_leaf - np.arange(len(self.leaves))

    def _absolute(self, child: NDArray[np.int16]) -> NDArray[np.int32]:
        """Children as places among the nodes, or ~place among the leaves, of all trees."""
        first_leaf, root = (np.repeat(start, self.leaves - 1) for start in self._starts())
        return np.where(child >= 0, child + root, child - first_leaf).astype(np.int32)

    def only(self, outputs: Collection[int]) -> "Trees":
        """The trees of some outputs."""
        kept = np.isin(self.output, list(outputs))
        node, leaf = np.repeat(kept, self.leaves - 1), np.repeat(kept, self.leaves)
        chosen = self.chosen[node]
        used, place = np.unique(chosen[chosen >= 0], return_inverse=True)
        chosen[chosen >= 0] = place
        nodes = {name: getattr(self, name)[node] for name in _NODES if name != "chosen"}
        trees = {name: getattr(self, name)[kept] for name in ("leaves", "base", "output")}
        return Trees(**trees, **nodes, chosen=chosen, sets=self.sets[used], leaf=self.leaf[leaf])

    def checked(self, features: int, outputs: int) -> "Trees":
        """The same trees. Raises ValueError where a walk over [features] would leave the arrays or never end."""
        inner = self.leaves.astype(np.int64) - 1
        sound = bool(
            (inner >= 0).all()
            and len(self.leaves) == len(self.base) == len(self.output)
            and len(self.leaf) == int(inner.sum()) + len(inner)
            and {len(getattr(self, name)) for name in _NODES} == {int(inner.sum())}
            and self.sets.shape[1:] == (SET_BYTES,)
            and (self.chosen < len(self.sets)).all()
            and (self.feature < features).all()
            and (self.output < outputs).all()
        )
        if sound:
            size = np.repeat(inner, inner)
            own = np.arange(len(size)) - np.repeat(np.cumsum(inner) - inner, inner)
            # Every child is stored behind its parent, so that a walk ends.
            sound = all(
                ((step < size) & (~step <= size)).all() and ((step < 0) | (step > own)).all()
                for step in (self.left.astype(np.int64), self.right.astype(np.int64))
            )
        if not sound:
            raise ValueError("trees that lead out of their arrays")
        return self


@dataclass(frozen=True)
class _Walk:
    """What a walk needs, laid out for it: places among the nodes and leaves of all trees.

    root: [trees] the first node, or ~leaf. slot, threshold: [nodes] where a node finds its value, and what that is
    compared with; every feature stands twice: missing values as +inf, which goes right of any finite threshold, and as
    -inf. child: [2 * nodes] both children of each, left first: a node, or ~leaf. leaf: [leaves].
    """

    root: NDArray[np.int32]
    slot: NDArray[np.int32]
    threshold: NDArray[np.float32]
    child: NDArray[np.int32]
    leaf: NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """A booster of LightGBM, what it adds to, and which columns of a row it was fitted on."""

    booster: Any
    output: int
    columns: NDArray[np.int64]


def from_lightgbm(fitted: Sequence[Fitted]) -> Trees:
    """All trees of all boosters. Raises ValueError for zeros that stand for missing values: nothing here fits them."""
    nodes: dict[str, list[NDArray[Any]]] = {name: [] for name in _NODES}
    leaves: list[NDArray[np.float64]] = []
    sets: list[NDArray[np.uint8]] = []
    outputs: list[int] = []
    for one in fitted:
        for tree in _trees(one.booster.model_to_string()):
            leaves.append(_floats(tree["leaf_value"]))
            outputs.append(one.output)
            if len(leaves[-1]) > 1:
                for name, part in _nodes(tree, one.columns, len(sets)).items():
                    nodes[name].append(part)
                sets += _sets(tree)
    # The first tree of a booster holds the level of all values, too far from zero for half precision.
    base = np.array([values.mean() for values in leaves], dtype=np.float32)
    told = [values - center for values, center in zip(leaves, base.tolist(), strict=True)]
    return Trees(
        leaves=np.array([len(values) for values in leaves], dtype=np.uint16),
        base=base,
        output=np.array(outputs, dtype=np.uint8),
        **{name: _joined(parts, _NODES[name]) for name, parts in nodes.items()},
        sets=np.array(sets, dtype=np.uint8).reshape(-1, SET_BYTES),
        leaf=_joined(told, np.float16),
    )


_NODES: Mapping[str, Any] = {
    "feature": np.uint16,
    "threshold": np.float32,
    "missing_left": np.bool_,
    "chosen": np.int32,
    "left": np.int16,
    "right": np.int16,
}


def _nodes(tree: Mapping[str, str], columns: NDArray[np.int64], sets: int) -> dict[str, NDArray[Any]]:
    """The inner nodes of a tree behind `sets` sets of the trees before it."""
    decision = _ints(tree["decision_type"])
    if (decision & _ZERO_IS_MISSING).any():
        raise ValueError("zeros that stand for missing values")
    threshold = _floats(tree["threshold"])
    by_set = (decision & _CATEGORICAL) > 0
    knows_missing = (decision & _NAN_IS_MISSING) > 0
    return {
        "feature": columns[_ints(tree["split_feature"])],
        "threshold": np.where(by_set, 0, _rounded_down(threshold)),
        # Where training saw no missing value LightGBM reads one as zero.
        "missing_left": np.where(knows_missing, (decision & _DEFAULT_LEFT) > 0, threshold >= 0),
        "chosen": np.where(by_set, np.where(by_set, threshold, 0).astype(np.int64) + sets, -1),
        "left": _ints(tree["left_child"]),
        "right": _ints(tree["right_child"]),
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
