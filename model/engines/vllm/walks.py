"""The quantile walks of all running requests. NumPy only: both logits processors share it, and tests need no vLLM.

A walk's state is kept per position under the request's own name, never under its place in the batch: requests move, are
preempted and come back, places are reused, and logits of an unfinished prompt are seen too. The state of position p + 1
is written whenever position p is (re)computed, so whatever was computed too early or twice is overwritten. Equal
prompts under one name share a walk, at whatever positions they are: they have the same states.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.decoding import descend, interpolated
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask
from model.errors import EngineUnavailable
from model.numbers import BELOW, NEGATIVE

_OTHERS = "vLLM wrote other tokens than its probabilities say"
#: Walks that are remembered, running, waiting to resume, or aborted.
_REMEMBERED = 65_536
#: Two processes round differently: so near to a symbol's edge, in probability, tau may fall on either side.
_EDGE = 1e-4

#: What ended walks came to in this process, by name (NaN: it was lost): an engine in the same process takes them out.
ENDED: "OrderedDict[str, float]" = OrderedDict()


@dataclass
class _Walk:
    """symbols[p] was taken at position p, with taus[p] left; taus has one entry more.

    lost: its beginning was forgotten; it goes on with valid tokens, and comes to nothing.
    """

    symbols: list[int]
    taus: list[float]
    lost: bool = False

    def take(self, position: int, symbol: int, tau: float) -> None:
        """Write the state behind a position; later ones stay."""
        self.symbols[position : position + 1], self.taus[position + 1 : position + 2] = [symbol], [tau]

    def reach(self, position: int) -> None:
        """Make sure that there is a state at a position: an exception here would stop all of vLLM."""
        if len(self.symbols) < position:
            self.lost = True
            missing = position - len(self.symbols)
            self.symbols += [1] * missing
            self.taus += [0.5] * missing


class Walks:
    """Advances walks by one position each, under their ask's name and their prompt."""

    def __init__(self, alphabet: Alphabet) -> None:
        self._alphabet, self._code = alphabet, alphabet.code
        self._columns = alphabet.columns
        self._walks: OrderedDict[tuple[str, int], _Walk] = OrderedDict()

    def advance(
        self,
        asks: Sequence[Ask],
        prompts: Sequence[int],
        positions: Sequence[int],
        rows: NDArray[np.floating],
    ) -> list[int]:
        """The token that each of n requests takes at its position.

        prompts: a hash of each request's prompt; positions: how many tokens each has written; rows: [n, numbers] logits
        of the number tokens.
        """
        found = [0] * len(asks)
        order = np.asarray(positions)
        walks = [self._walk(ask, prompt) for ask, prompt in zip(asks, prompts, strict=True)]
        for position in np.unique(order).tolist():
            here = np.flatnonzero(order == position).tolist()
            mine = [walks[place] for place in here]
            for walk in mine:
                walk.reach(position)
            symbols, taus = self._descended(mine, position, rows[here])
            tokens = self._alphabet.symbols[position][symbols]
            for place, walk, symbol, tau, token in zip(
                here, mine, symbols.tolist(), taus.tolist(), tokens.tolist(), strict=True
            ):
                walk.take(position, symbol, tau)
                found[place] = token
                if position == self._code.length - 1:
                    self._end(asks[place], prompts[place], walk)
        return found

    def _descended(
        self, walks: Sequence[_Walk], position: int, rows: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        signed = int(self._code.signed)
        codes = np.array([walk.symbols[:position] for walk in walks]).reshape(len(walks), position)
        nothing = np.zeros(len(walks), dtype=bool)
        return descend(
            self._code,
            position,
            rows[:, self._columns[position]],
            np.array([walk.taus[position] for walk in walks]),
            codes[:, 0] == NEGATIVE if signed and position else nothing,
            codes[:, signed] == BELOW if position > signed else nothing,
        )

    def _walk(self, ask: Ask, prompt: int) -> _Walk:
        key = ask.name, prompt
        walk = self._walks.get(key)
        if walk is None:
            walk = self._walks[key] = _Walk([], [ask.tau])
            if len(self._walks) > _REMEMBERED:
                self._walks.popitem(last=False)
        return walk

    def _end(self, ask: Ask, prompt: int, walk: _Walk) -> None:
        (value,) = interpolated(self._code, [walk.symbols], np.array(walk.taus[-1:]))
        ENDED[ask.name] = float("nan") if walk.lost else float(value)
        if len(ENDED) > _REMEMBERED:
            ENDED.popitem(last=False)
        # Kept until room is needed, but first to go: a preempted request may compute its last position again.
        self._walks.move_to_end((ask.name, prompt), last=False)

    def followed(self, tau: float, tokens: Sequence[int], rows: NDArray[np.floating]) -> float:
        """What a walk in another process came to, from the tokens it wrote and the probabilities that it saw.

        rows: [positions, numbers] logits or log probabilities of the number tokens. Raises EngineUnavailable where the
        tokens are not the walk's.
        """
        walk, reached = _Walk([], [tau]), 1.0
        for position, (token, row) in enumerate(zip(tokens, rows, strict=True)):
            taken = self._symbol(position, token, walk.symbols)
            below, share = self._share(position, taken, walk.symbols, row)
            inside = walk.taus[position] - below
            if max(-inside, inside - share) * reached > _EDGE:
                raise EngineUnavailable(_OTHERS)
            left = min(max(inside / share, 0.0), 1.0) if share else 0.0
            reached *= share
            walk.take(position, taken, left)
        if len(walk.symbols) != self._code.length:
            raise EngineUnavailable("vLLM wrote fewer tokens than a number has")
        (value,) = interpolated(self._code, [walk.symbols], np.array(walk.taus[-1:]))
        return float(value)

    def _symbol(self, position: int, token: int, before: Sequence[int]) -> int:
        """What a token stands for behind others. Raises EngineUnavailable where it may not be there."""
        found = np.flatnonzero(self._alphabet.symbols[position] == token).tolist()
        if not found or found[0] not in self._code.choices(tuple(before)):
            raise EngineUnavailable(_OTHERS)
        return int(found[0])

    def _share(
        self, position: int, symbol: int, before: Sequence[int], row: NDArray[np.floating]
    ) -> tuple[float, float]:
        """The probability of smaller values than a symbol's, and its own, among those that may stand there."""
        allowed = list(self._code.choices(tuple(before)))
        logits = row[self._columns[position]][allowed].astype(np.float64)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        place = allowed.index(symbol)
        return float(shares[:place].sum()), float(shares[place])
