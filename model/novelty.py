"""How unusual a prompt is: which of its token trigrams training never saw.

A Bloom filter with one hash: a bit per trigram. At the shipped size a new trigram is taken for a seen one as often as
the filter is full (`fill`), so novelty is a slight underestimate.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BITS = 1 << 22


class SeenTrigrams:
    """The set of trigrams of token ids seen in training."""

    def __init__(self, bits: NDArray[np.uint8] | None = None) -> None:
        self._bits = np.zeros(BITS // 8, dtype=np.uint8) if bits is None else bits

    @classmethod
    def from_bytes(cls, content: bytes) -> "SeenTrigrams":
        """Read what `to_bytes` wrote. Raises ValueError on another size."""
        if len(content) != BITS // 8:
            raise ValueError("a novelty filter of the wrong size")
        return cls(np.frombuffer(content, dtype=np.uint8).copy())

    def to_bytes(self) -> bytes:
        return self._bits.tobytes()

    @property
    def fill(self) -> float:
        """Share of bits set."""
        return float(np.unpackbits(self._bits).mean())

    def add(self, ids: Sequence[int]) -> None:
        """Remember the trigrams of one prompt."""
        slots = _slots(ids)
        np.bitwise_or.at(self._bits, slots >> 3, (1 << (slots & 7)).astype(np.uint8))

    def novelty(self, ids: Sequence[int]) -> float:
        """Share of the trigrams that were never added; 1.0 for a prompt too short to have one."""
        slots = _slots(ids)
        if not len(slots):
            return 1.0
        seen = (self._bits[slots >> 3] >> (slots & 7).astype(np.uint8)) & 1
        return float(1.0 - seen.mean())


def _slots(ids: Sequence[int]) -> NDArray[np.int64]:
    tokens = np.asarray(ids, dtype=np.uint64)
    if len(tokens) < 3:
        return np.empty(0, dtype=np.int64)
    mixed = tokens[:-2] * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= tokens[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= tokens[2:] * np.uint64(0x165667B19E3779F9)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(64 - 22)).astype(np.int64)
