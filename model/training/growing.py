"""The boosted trees of an expert: what each member looks at, and how it is fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.expert import FIRST, GROWN
from model.evidence.trees import Fitted

Rows = NDArray[np.float32]
Truth = NDArray[np.float64]
Places = NDArray[np.int64]

#: Fewer measured jobs teach trees nothing.
FEWEST = 40


@dataclass(frozen=True)
class EvidenceSettings:
    """How the experts are fitted; `held_out_*` for those that only estimate held-out records."""

    rounds: int = 400
    learning_rate: float = 0.06
    held_out_rounds: int = 200
    held_out_learning_rate: float = 0.1
    #: A held-out fit draws at most so many rows.
    held_out_rows: int = 6000
    #: Distinct jobs that neighbours are looked for among.
    neighbours: int = 12288
    #: ... and their words in all: an answer takes about a millisecond for 300,000.
    neighbours_words: int = 800_000
    #: Share of the histories that are shown beside the estimate of an expert to whom the group is new.
    strange_share: float = 0.3
    leaves: int = 31
    #: Leaves of the member that looks at everything.
    most_leaves: int = 63
    seed: int = 0


@dataclass(frozen=True)
class Layout:
    """Where the columns of a row are: numbers, meaning, encodings, codes, and what the first members say.

    named: whether jobs have names, and so perhaps namesakes.
    """

    numbers: int
    meaning: int
    encoded: int
    codes: int
    targets: int
    named: bool

    def with_codes(self, rows: Rows, codes: Rows) -> Rows:
        """The rows with other codes."""
        found = rows.copy()
        found[:, self._code : self._code + self.codes] = codes
        return found

    @property
    def _code(self) -> int:
        return self.numbers + self.meaning + self.encoded

    def columns(self, member: str, target: int) -> Places:
        """The columns that a member looks at for a target."""
        codes = np.arange(self._code, self._code + self.codes)
        first = self._code + self.codes + target * len(FIRST)
        told = np.array([first + k for k, one in enumerate(FIRST) if self.named or one != "namesakes"])
        named: Mapping[str, Sequence[Places]] = {
            "bare": (np.arange(self.numbers + self.meaning),),
            "categories": (np.arange(self.numbers), codes),
            "worded": (np.arange(self.numbers + self.meaning), codes),
            "named": (np.arange(self.numbers + self.meaning), codes),
            "residual": (np.arange(self.numbers), codes),
            "stacked": (np.arange(self.numbers), codes, told),
            "general": (np.arange(self._code), codes, told),
        }
        return np.concatenate(named[member])

    def categorical(self, columns: Places) -> list[int]:
        """Which of these columns hold codes."""
        return np.flatnonzero((columns >= self._code) & (columns < self._code + self.codes)).tolist()


def grow(
    member: str,
    target: int,
    rows: Rows,
    truth: Truth,
    layout: Layout,
    settings: EvidenceSettings,
    *,
    held_out: bool = False,
) -> Fitted | None:
    """One member for one target: rows [n, all columns], truth [n] in ln (NaN: not measured). None: too few."""
    import lightgbm

    measured = np.flatnonzero(np.isfinite(truth))
    columns = layout.columns(member, target)
    if len(measured) < FEWEST or not len(columns):
        return None
    most = settings.held_out_rows
    if held_out and len(measured) > most:
        measured = np.sort(np.random.default_rng(settings.seed).choice(measured, most, replace=False))
    parameters = {
        "objective": "l1",
        "num_leaves": settings.most_leaves if member in ("general", "worded") else settings.leaves,
        "learning_rate": settings.held_out_learning_rate if held_out else settings.learning_rate,
        "min_data_in_leaf": 10,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 127,
        "num_threads": 1,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(
        rows[measured][:, columns], truth[measured], categorical_feature=layout.categorical(columns)
    )
    rounds = settings.held_out_rounds if held_out else settings.rounds
    return Fitted(
        lightgbm.train(parameters, data, num_boost_round=rounds),
        GROWN.index(member) * layout.targets + target,
        columns,
    )


def added(fitted: Fitted, rows: Rows) -> Truth:
    """[n]: what a member's trees add up to."""
    found: Truth = fitted.booster.predict(rows[:, fitted.columns], num_threads=1)
    return found
