"""All fits of one kind and scope: columns, encodings, trees, and the same again with a part of the records held out."""

import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import PLACES, Columns, fit_columns
from model.evidence.encodings import Encodings, fit_encodings, held_out_rows
from model.evidence.expert import Expert
from model.evidence.facts import Facts
from model.evidence.history import SHOWN, Blend, fit_blend, ln, past_of
from model.evidence.trees import from_lightgbm
from model.training.corpus import HistoryIndex, Record
from model.training.held_out import Floats, nothing_held_out

Rows = NDArray[np.float32]

FOLDS = 3
#: Both are fitted, and their mean is the estimate: better than either on `val`.
_OBJECTIVES = ("l1", "l2")
_FEWEST = 40


@dataclass(frozen=True)
class EvidenceSettings:
    """How the experts are fitted; `held_out_*` for those that only estimate held-out records."""

    rounds: int = 300
    learning_rate: float = 0.07
    held_out_rounds: int = 200
    held_out_learning_rate: float = 0.1
    #: Share of the histories that are shown beside the estimate of an expert to whom the group is new.
    strange_share: float = 0.3
    leaves: int = 63
    seed: int = 0


class FieldFit:
    """All fits of one kind and scope. N records of any split, T targets."""

    def __init__(
        self,
        records: Sequence[Record],
        facts: Sequence[Facts],
        index: HistoryIndex,
        targets: Sequence[str],
        settings: EvidenceSettings,
    ) -> None:
        self._records, self._facts, self._targets, self._settings = records, facts, targets, settings
        self._train = np.array([record.split == "train" for record in records])
        self._truth = np.array(
            [[ln(r.targets[t]) if t in r.targets else np.nan for t in targets] for r in records]
        )
        random = np.random.default_rng(settings.seed)
        self._histories = [index.history_of(record, limit=SHOWN) for record in records]
        # Any number of the past runs: a job may have run only once before.
        shown = np.array([random.integers(1, len(past) + 1) if past else 0 for past in self._histories])
        self.held_out = nothing_held_out(self._truth.shape)
        self.held_out.shown = shown
        strange = random.random(len(records)) < settings.strange_share
        self.held_out.strange = strange & self._train

    def run(self) -> Expert | None:
        """Fit; fills `held_out`. None where there is too little to learn from."""
        train = np.flatnonzero(self._train)
        if len(train) < _FEWEST:
            return None
        distinct = {id(one): one for one, train_ in zip(self._facts, self._train, strict=True) if train_}
        columns = fit_columns(list(distinct.values()), seed=self._settings.seed)
        values, keys = _once_each(columns, self._facts)
        encodings = fit_encodings(keys[train], self._truth[train])
        works, groups = self._folds(train)
        rows, cuts = [], []
        for folds, familiarity in (
            (works, self.held_out.known_familiarity),
            (groups, self.held_out.unknown_familiarity),
        ):
            encoded, met = held_out_rows(keys[train], self._truth[train], folds)
            familiarity[train] = met
            rows.append(np.hstack([values[train], encoded]))
            cuts.append(folds)
        both, twice = np.vstack(rows), np.tile(self._truth[train], (2, 1))
        self._hold_out(train, rows, cuts, both, twice)
        boosters = [
            (booster, place, 1 / len(_OBJECTIVES))
            for place in range(len(self._targets))
            for booster in self._boosters(both, twice[:, place])
        ]
        later = np.flatnonzero(~self._train)
        self._estimate_rest(later, values, keys, encodings, boosters)
        return Expert(columns, encodings, from_lightgbm(boosters), self._fit_history(train))

    def _folds(self, train: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        works = np.array([_work(self._records[row], self._facts[row]) % FOLDS for row in train])
        sizes = Counter(f"{self._records[row].source}/{self._records[row].group}" for row in train)
        order = {group: place % FOLDS for place, (group, _) in enumerate(sizes.most_common())}
        groups = np.array([order[f"{self._records[r].source}/{self._records[r].group}"] for r in train])
        return works, groups

    def _hold_out(
        self,
        train: NDArray[np.int64],
        rows: Sequence[Rows],
        cuts: Sequence[NDArray[np.int64]],
        both: Rows,
        twice: Floats,
    ) -> None:
        """Fill `known` and `unknown`: each cut's folds in turn, fitted on the rows of both cuts."""
        for found, own, folds in zip((self.held_out.known, self.held_out.unknown), rows, cuts, strict=True):
            for fold in range(FOLDS):
                held = folds == fold
                if held.all() or not held.any():  # one group alone: nothing else tells of it
                    continue
                inside = np.tile(~held, 2)
                for place in range(len(self._targets)):
                    fitted = self._boosters(both[inside], twice[inside, place], held_out=True)
                    if fitted:
                        found[train[held], place] = _mean_of(fitted, own[held])

    def _boosters(self, rows: Rows, truth: Floats, *, held_out: bool = False) -> list[Any]:
        measured = np.isfinite(truth)
        if measured.sum() < _FEWEST:
            return []
        settings = self._settings
        rounds = settings.held_out_rounds if held_out else settings.rounds
        rate = settings.held_out_learning_rate if held_out else settings.learning_rate
        return [
            _boosted(rows[measured], truth[measured], objective, rounds, rate, settings)
            for objective in _OBJECTIVES
        ]

    def _estimate_rest(
        self,
        later: NDArray[np.int64],
        values: Rows,
        keys: NDArray[np.uint32],
        encodings: Encodings,
        boosters: Sequence[tuple[Any, int, float]],
    ) -> None:
        """The records that were not fitted on, estimated by the experts themselves."""
        if not len(later):
            return
        encoded, met = encodings.rows(keys[later])
        rows = np.hstack([values[later], encoded])
        self.held_out.known_familiarity[later] = self.held_out.unknown_familiarity[later] = met
        for place in range(len(self._targets)):
            fitted = [booster for booster, output, _ in boosters if output == place]
            if fitted:
                self.held_out.known[later, place] = _mean_of(fitted, rows)
        self.held_out.unknown[later] = self.held_out.known[later]

    def _fit_history(self, train: NDArray[np.int64]) -> dict[int, Blend]:
        """Per target, how past runs move an estimate; fills `informed`."""
        found = {}
        held = self.held_out
        own, familiarity = held.informed_own, held.informed_familiarity
        for place, target in enumerate(self._targets):
            pasts = {
                row: past
                for row, history in enumerate(self._histories)
                if (past := past_of(history[: held.shown[row]], target))
            }
            fitted = [row for row in train if row in pasts and np.isfinite(self._truth[row, place])]
            if len(fitted) < _FEWEST:
                continue
            # Estimates of jobs whose group is known and whose group is new, each with its own familiarity.
            blend = fit_blend(
                [pasts[row] for row in (*fitted, *fitted)],
                np.concatenate([held.known[fitted, place], held.unknown[fitted, place]]),
                np.concatenate([held.known_familiarity[fitted], held.unknown_familiarity[fitted]]),
                np.tile(self._truth[fitted, place], 2),
            )
            found[place] = blend
            for row, past in pasts.items():
                held.informed[row, place] = blend(past, own[row, place], int(familiarity[row]))
        return found


def _once_each(columns: Columns, facts: Sequence[Facts]) -> tuple[Rows, NDArray[np.uint32]]:
    """Values and keys of every record; records that share their facts are read once."""
    distinct: dict[int, int] = {}
    for one in facts:
        distinct.setdefault(id(one), len(distinct))
    first = {distinct[id(one)]: one for one in facts}
    unique = [first[place] for place in range(len(distinct))]
    rows = np.array([distinct[id(one)] for one in facts])
    return columns.values(unique)[rows], columns.keys(unique)[rows]


def _work(record: Record, facts: Facts) -> int:
    """What runs belong together: those of one day where runs recur, else those that differ by machine only."""
    if record.key and record.date:
        return zlib.crc32(f"{record.source} {record.date[:10]}".encode())
    return zlib.crc32("|".join(_what(facts)).encode())


def _what(facts: Facts) -> Iterator[str]:
    both: tuple[Mapping[str, Any], ...] = (facts.strings, facts.numbers)
    for named in both:
        yield from (f"{path}={value}" for path, value in named.items() if not path.startswith((*PLACES, "(")))


def _boosted(
    rows: Rows, truth: Floats, objective: str, rounds: int, rate: float, settings: EvidenceSettings
) -> Any:
    import lightgbm

    parameters = {
        "objective": objective,
        "num_leaves": settings.leaves,
        "learning_rate": rate,
        "min_data_in_leaf": 10,
        "feature_fraction": 0.4,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "max_bin": 127,
        "num_threads": 1,
        "seed": settings.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(rows, truth), num_boost_round=rounds)


def _mean_of(boosters: Sequence[Any], rows: Rows) -> Floats:
    mean: Floats = np.mean([booster.predict(rows, num_threads=1) for booster in boosters], axis=0)
    return mean
