"""What experts say of the records they were not fitted on: the evidence that training shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """estimates: [T] in ln, NaN where there is none; and how familiar the job is."""

    estimates: Floats
    familiarity: int


@dataclass
class HeldOut:
    """Estimates per record, in ln, NaN where there is none; N records, T targets.

    known, unknown: [N, T] by experts to whom the record's group is known, or new. informed: [N, T] with past runs
    shown. known_familiarity, unknown_familiarity: [N]. shown: [N] how many past runs `informed` saw; strange: [N]
    whether it started from `unknown`.
    """

    known: Floats
    unknown: Floats
    informed: Floats
    known_familiarity: NDArray[np.int64]
    unknown_familiarity: NDArray[np.int64]
    shown: NDArray[np.int64]
    strange: NDArray[np.bool_]

    @property
    def informed_familiarity(self) -> NDArray[np.int64]:
        """[N], beside `informed`."""
        return np.where(self.strange, self.unknown_familiarity, self.known_familiarity)

    @property
    def informed_own(self) -> Floats:
        """[N, targets]: what `informed` started from, in ln."""
        return np.where(self.strange[:, None], self.unknown, self.known)

    def per_record(self) -> Iterator[tuple[int, tuple[Piece, Piece], Piece]]:
        """Per record: how many past runs are shown, what is said without them (known, unknown), and with them."""
        # A target without past values keeps the estimate of the job's own facts, as in `Expert.advise`.
        informed = np.where(np.isfinite(self.informed), self.informed, self.informed_own)
        familiarity = self.informed_familiarity
        for row, shown in enumerate(self.shown.tolist()):
            known = Piece(self.known[row], int(self.known_familiarity[row]))
            unknown = Piece(self.unknown[row], int(self.unknown_familiarity[row]))
            yield shown, (known, unknown), Piece(informed[row], int(familiarity[row]))


def nothing_held_out(shape: tuple[int, ...]) -> HeldOut:
    """No estimates for [N, targets]."""
    blank, none = np.full(shape, np.nan), np.zeros(shape[0], dtype=np.int64)
    return HeldOut(blank, blank.copy(), blank.copy(), none, none.copy(), none.copy(), none.astype(bool))
