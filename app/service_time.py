"""How long an engine call takes: the shape of the curve is measured once, at the start; its height follows the load.

    seconds(tokens) = level * (fixed + per_token * tokens)

A fit of both parameters to live traffic would know nothing about sizes that it has not seen lately: calls of one size
only say nothing of a slope. The level alone is learnt from any call, and tells a machine that has become slower.
"""

from collections.abc import Sequence

#: Before anything was measured: a call costs what so many tokens cost, beside its tokens.
_FIXED_TOKENS = 64.0


class ServiceTime:
    """Times of calls by their tokens; each new call makes the older ones count less."""

    def __init__(self, decay: float = 0.9) -> None:
        self._decay = decay
        self._fixed, self._per_token = _FIXED_TOKENS, 1.0
        self._seconds = self._shape = 0.0

    def measured(self, calls: Sequence[tuple[int, float]]) -> None:
        """Take the shape from calls of different sizes, (tokens, seconds) each, and the level with it."""
        if len({tokens for tokens, _ in calls}) < 2:
            return
        count = len(calls)
        size = sum(tokens for tokens, _ in calls) / count
        seconds = sum(taken for _, taken in calls) / count
        spread = sum((tokens - size) ** 2 for tokens, _ in calls)
        slope = sum((tokens - size) * (taken - seconds) for tokens, taken in calls) / spread
        # Neither more nor fewer tokens are free, whatever the noise says.
        slope = min(max(slope, 0.1 * seconds / size), seconds / size)
        self._fixed, self._per_token = seconds - slope * size, slope
        self._seconds = self._shape = 1.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from one engine call."""
        self._seconds = self._decay * self._seconds + seconds
        self._shape = self._decay * self._shape + self._fixed + self._per_token * tokens

    def seconds(self, tokens: float) -> float:
        """Expected duration of a call; 0 while nothing is known."""
        if not self._shape or not tokens:
            return 0.0
        return self._seconds / self._shape * (self._fixed + self._per_token * tokens)
