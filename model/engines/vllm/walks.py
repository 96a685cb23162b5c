"""The quantile walks of all running requests. NumPy only: both logits processors share it, and tests need no vLLM.

A walk's state is kept per position under the request's own name, never under its place in the batch: requests move, are
preempted and come back, places are reused, and logits of an unfinished prompt are seen too. The state of position p + 1
is written whenever position p is (re)computed, so whatever was computed too early or twice is overwritten.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.decoding import descend, interpolated
from model.engines.vllm.asks import Ask
from model.numbers import BELOW, NEGATIVE, NumberCode

#: Walks that are remembered, running, waiting to resume, or aborted.
_REMEMBERED = 65_536

#: What ended walks came to in this process, by name: for an engine in the same process, which takes them out.
ENDED: "OrderedDict[str, float]" = OrderedDict()


@dataclass
class _Walk:
    """symbols[p] was taken at position p, with taus[p] left; taus has one entry more."""

    symbols: list[int]
    taus: list[float]


class Walks:
    """Advances walks by one position each.

    key: what identifies a request, its ask's name and whatever tells apart the prompts that share it.
    """

    def __init__(self, code: NumberCode) -> None:
        self._code = code
        self._walks: OrderedDict[tuple[str, int], _Walk] = OrderedDict()

    def advance(
        self,
        asks: Sequence[Ask],
        prompts: Sequence[int],
        positions: Sequence[int],
        rows: NDArray[np.float32],
        columns: Sequence[NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """The symbol [n] that each of n requests takes at its position.

        prompts: a hash of each request's prompt; positions: numbers of tokens that each has written; rows: [n, numbers]
        logits of the number tokens; columns: per position, where each of its symbols stands in a row.
        """
        found = np.zeros(len(asks), dtype=np.int64)
        order = np.asarray(positions)
        walks = [self._walk(ask, prompt) for ask, prompt in zip(asks, prompts, strict=True)]
        for position in np.unique(order).tolist():
            here = np.flatnonzero(order == position)
            mine = [walks[place] for place in here]
            signs, kinds = (self._taken(mine, place) for place in (0, int(self._code.signed)))
            symbols, taus = descend(
                self._code,
                position,
                rows[here][:, columns[position]],
                np.array([walk.taus[position] for walk in mine]),
                (signs == NEGATIVE) & (self._code.signed and position > 0),
                (kinds == BELOW) & (position > self._code.signed),
            )
            found[here] = symbols
            for walk, symbol, tau in zip(mine, symbols.tolist(), taus.tolist(), strict=True):
                walk.symbols[position:], walk.taus[position + 1 :] = [symbol], [tau]
        for place in np.flatnonzero(order == self._code.length - 1).tolist():
            self._end(asks[place], prompts[place], walks[place])
        return found

    def _walk(self, ask: Ask, prompt: int) -> _Walk:
        key = ask.name, prompt
        walk = self._walks.get(key)
        if walk is None:
            walk = self._walks[key] = _Walk([], [ask.tau])
            if len(self._walks) > _REMEMBERED:
                self._walks.popitem(last=False)
        return walk

    @staticmethod
    def _taken(walks: Sequence[_Walk], position: int) -> NDArray[np.int64]:
        """The symbols taken at a position; -1 before it."""
        return np.array([walk.symbols[position] if len(walk.symbols) > position else -1 for walk in walks])

    def _end(self, ask: Ask, prompt: int, walk: _Walk) -> None:
        (value,) = interpolated(self._code, [walk.symbols], np.array(walk.taus[-1:]))
        ENDED[ask.name] = float(value)
        if len(ENDED) > _REMEMBERED:
            ENDED.popitem(last=False)
        # The state stays until it is the oldest: a preempted request computes its last position again.
        self._walks.move_to_end((ask.name, prompt), last=False)


def replayed(
    code: NumberCode, tau: float, rows: NDArray[np.float64], columns: Sequence[NDArray[np.int64]]
) -> tuple[tuple[int, ...], float]:
    """The walk again from what another process saw: its symbols and its value.

    rows: [positions, numbers] logits or log probabilities of the number tokens at each position.
    """
    walks = Walks(code)
    ask = Ask("replayed", tau)
    for position, row in enumerate(rows):
        walks.advance([ask], [0], [position], row[None], columns)
    walk = walks._walks["replayed", 0]
    return tuple(walk.symbols), ENDED.pop("replayed")
