"""Prompts and answers as a tree of tokens: what many sequences share is computed once.

A set of token sequences is laid out as the nodes of a trie in depth-first order. Node q may attend to node k exactly
when k is q or one of its ancestors, which in that order reads k <= q < end[k]. So records of one workflow share its
text, answers to several targets branch off one prompt without seeing each other, and repeated runs of one
configuration become one prompt with counted answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Path:
    """One sequence whose last tokens are to be predicted, with a loss weight for each of those."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Tree:
    """N nodes and M predictions.

    tokens, positions, ends: [N] token id, depth, end of the node's subtree.
    sources, labels, weights: [M] the node that predicts, the token it should predict, how much it counts.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    ends: NDArray[np.int64]
    sources: NDArray[np.int64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


def build(paths: Iterable[Path]) -> Tree:
    """The trie of some paths. Tokens that only end paths and are predicted need no node of their own."""
    tokens: list[int] = []
    positions: list[int] = []
    ends: list[int] = []
    predictions: dict[tuple[int, int], float] = {}
    open_nodes: list[int] = []  # the nodes of the path laid out last, by depth
    last: tuple[int, ...] = ()
    for path in sorted(paths, key=lambda path: path.tokens):
        inputs = path.tokens[:-1]
        shared = shared_prefix(last, inputs)
        for node in open_nodes[shared:]:
            ends[node] = len(tokens)
        del open_nodes[shared:]
        for depth in range(shared, len(inputs)):
            open_nodes.append(len(tokens))
            tokens.append(inputs[depth])
            positions.append(depth)
            ends.append(0)
        for index, weight in enumerate(path.weights, start=len(path.tokens) - len(path.weights)):
            key = (open_nodes[index - 1], path.tokens[index])
            predictions[key] = predictions.get(key, 0.0) + weight
        last = inputs
    for node in open_nodes:
        ends[node] = len(tokens)
    return Tree(
        np.array(tokens, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        np.array(ends, dtype=np.int64),
        np.array([node for node, _ in predictions], dtype=np.int64),
        np.array([label for _, label in predictions], dtype=np.int64),
        np.array(list(predictions.values()), dtype=np.float32),
    )


def shared_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    for index, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return index
    return min(len(a), len(b))


def visible(tree: Tree) -> NDArray[np.bool_]:
    """[N, N]: whether node (row) may attend to node (column)."""
    nodes = np.arange(len(tree))
    seen: NDArray[np.bool_] = (nodes[None, :] <= nodes[:, None]) & (nodes[:, None] < tree.ends[None, :])
    return seen
