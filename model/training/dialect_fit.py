"""All fits of one dialect: its basis, members and mix, and the same again with a part of the records held out."""

import pickle
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.evidence.categories import Categories, fit_categories
from model.evidence.columns import PLACES, Columns, fit_columns
from model.evidence.encodings import (
    Encodings,
    centered,
    encoded_width,
    familiarity_of,
    fit_encodings,
    held_out_rows,
)
from model.evidence.expert import FIRST, GROWN, MEMBERS, Basis, Expert, members, told
from model.evidence.facts import WORD_BUCKETS, Facts
from model.evidence.history import SHOWN, Blend, fit_blend, ln, past_of
from model.evidence.linear import fit_linear, places_of
from model.evidence.mix import Mix, fit_weights, level_of
from model.evidence.names import NAMELESS, names_of
from model.evidence.namesakes import NOBODY, fit_namesakes
from model.evidence.neighbours import Neighbours, fit_neighbours
from model.evidence.spoken import Spoken, medians_of_groups, spoken
from model.evidence.strangeness import Strangeness, fit_strangeness
from model.evidence.trees import Fitted, Trees, from_lightgbm
from model.evidence.words import Words
from model.training.corpus import Histories, Record, timestamp_of
from model.training.files import write_whole
from model.training.growing import FEWEST, EvidenceSettings, Layout, Places, Rows, Truth, added, grow
from model.training.held_out import nothing_held_out
from model.training.new_groups import NewGroups, drawn, evened

#: Folds of works, and of groups where there are many of them.
FOLDS = 3
#: Runs of recurring jobs are held out in blocks of time, every third: later runs know nothing of their own days either.
_BLOCKS = 6
#: With fewer groups than that each fold holds one or a few: what remains should tell of the held-out ones about as much
#: as all groups tell of a new one.
_FEW_GROUPS, _MOST_FOLDS = 30, 8
#: Ridge penalties with and without words.
_ALPHA, _PLAIN_ALPHA = 0.1, 0.03
#: So many later records have half of the say that any number of them would have.
_STEADY = 150
#: Neighbours are kept where they err at most this many times what a linear model does.
_WORTH = 1.2


@dataclass(frozen=True)
class Fits:
    """What takes long, before anything is weighed: n train records, m later ones (val), T targets.

    answers: [2, n, T, MEMBERS] of the train records, by those who know the other folds of each cut (works, groups)
    alone; named: [2, n, T] how they know its name; met: [2, n, keys] which of its keys they know.
    later: [m, T, MEMBERS], later_named: [m, T], later_met: [m, keys], by the members that serve.
    """

    basis: Basis
    encodings: Encodings
    trees: Trees
    answers: NDArray[np.float64]
    named: Places
    met: NDArray[np.bool_]
    later: NDArray[np.float64]
    later_named: Places
    later_met: NDArray[np.bool_]


@dataclass(frozen=True)
class _Cut:
    """The train records in folds, and what each row looks like to those who know the other folds alone.

    folds: [n]. rows: [n, all columns]. first: [n, targets, FIRST]. named: [n, targets] how they know its name.
    met: [n, keys].
    """

    folds: Places
    rows: Rows
    first: NDArray[np.float64]
    named: Places
    met: NDArray[np.bool_]


class DialectFit:
    """All fits of one dialect of a kind and scope. N records of any split, n of them train records, T targets."""

    def __init__(
        self,
        records: Sequence[Record],
        facts: Sequence[Facts],
        index: Histories,
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
        # Any number of a train record's past runs: a job may have run only once before.
        shown = np.array(
            [
                random.integers(1, len(past) + 1) if past and record.split == "train" else len(past)
                for past, record in zip(self._histories, records, strict=True)
            ]
        )
        self.held_out = nothing_held_out(self._truth.shape)
        self.held_out.shown = shown
        strange = random.random(len(records)) < settings.strange_share
        self.held_out.strange = strange & self._train
        self._with_neighbours = True
        self._names = names_of(facts)

    def spoken(self) -> Spoken:
        """What the train records tell other dialects of their names."""
        return self._spoken(np.flatnonzero(self._train))

    def _spoken(self, records: Places) -> Spoken:
        return spoken(self._names[records], self._truth[records], self._groups(records))

    def run(self, elsewhere: Sequence[Spoken], stored: Path | None = None) -> Fits | None:
        """What takes long. None where there is too little to learn from.

        elsewhere: what the other dialects tell of their names. stored: where the fits are kept: they are made once,
        and what weighs them can change.
        """
        if int(self._train.sum()) < FEWEST:
            return None
        if stored is not None and stored.exists():
            found: Fits = pickle.loads(stored.read_bytes())
            return found
        fits = self.fits(elsewhere)
        if stored is not None:
            write_whole(stored, pickle.dumps(fits, protocol=pickle.HIGHEST_PROTOCOL))
        return fits

    def new_groups(self, fits: Fits) -> NewGroups | None:
        """What others may learn from these fits."""
        train = np.flatnonzero(self._train)
        known_met, met = fits.met
        groups, seed = self._groups(train), self._settings.seed
        return drawn(fits.answers[1], self._truth[train], groups, fits.named[1], known_met, met, seed=seed)

    def fits(self, elsewhere: Sequence[Spoken]) -> Fits:
        """Every member, and what the members say of records that they do not know."""
        self._elsewhere = elsewhere
        train, later = np.flatnonzero(self._train), np.flatnonzero(~self._train)
        self._read(train)
        cuts = [self._cut(train, folds) for folds in self._folds(train)]
        if not self._neighbours_pay(cuts, train):
            self._with_neighbours = False
            cuts = [self._without_neighbours(cut) for cut in cuts]
        answers = np.stack([self._answers(cut, cuts, train) for cut in cuts])
        basis = self._basis(train)
        encodings = fit_encodings(self._keys[train], centered(self._truth[train]))
        grown = self._grow(cuts, [np.arange(len(train))] * 2, train)
        said, met = np.empty((0, *answers.shape[2:])), np.empty((0, self._keys.shape[1]), dtype=bool)
        named = np.empty((0, len(self._targets)), dtype=np.int64)
        if len(later):
            encoded, met = encodings.rows(self._keys[later])
            first, named = self._first(basis, later)
            rows = self._rows(later, encoded, self._codes[later], first)
            said = members(first, self._added(grown, rows), basis.medians)
        known = np.stack([cut.named for cut in cuts]), np.stack([cut.met for cut in cuts])
        return Fits(basis, encodings, from_lightgbm(grown), answers, *known, said, named, met)

    def weighed(self, fits: Fits, others: NewGroups | None = None) -> Expert:
        """The expert that its members make together; fills `held_out`. others: of the other dialects."""
        train, later = np.flatnonzero(self._train), np.flatnonzero(~self._train)
        strangeness, mix = self._weighers(fits, train, later, others)

        def mixed(
            answers: NDArray[np.float64], named: Places, met: NDArray[np.bool_]
        ) -> tuple[NDArray[np.float64], Places]:
            return mix(answers, _levels(met, named), strangeness(met)), familiarity_of(met)

        held = self.held_out
        held.known[train], held.known_familiarity[train] = mixed(fits.answers[0], fits.named[0], fits.met[0])
        held.unknown[train], held.unknown_familiarity[train] = mixed(
            fits.answers[1], fits.named[1], fits.met[1]
        )
        held.known[later], held.known_familiarity[later] = mixed(fits.later, fits.later_named, fits.later_met)
        held.unknown[later], held.unknown_familiarity[later] = (
            held.known[later],
            held.known_familiarity[later],
        )
        # Trees that nobody listens to are not stored.
        target, member = np.nonzero(mix.used[:, len(FIRST) :])
        trees = fits.trees.only((member * len(self._targets) + target).tolist())
        by_history = self._fit_history(train, later)
        return Expert(fits.basis, fits.encodings, trees, strangeness, mix, by_history)

    def _read(self, train: Places) -> None:
        """Columns, and what every record looks like in them; records that share their facts are read once."""
        distinct: dict[int, int] = {}
        for one in self._facts:
            distinct.setdefault(id(one), len(distinct))
        first = {distinct[id(one)]: one for one in self._facts}
        unique = [first[place] for place in range(len(distinct))]
        self._content = np.array([distinct[id(one)] for one in self._facts])
        known = np.unique(self._content[train])
        self._columns: Columns = fit_columns([unique[p] for p in known.tolist()], seed=self._settings.seed)
        self._words: Words = self._columns.words(unique)
        self._values = self._columns.values(unique, self._words)[self._content]
        self._keys = self._columns.keys(unique)[self._content]
        self._categories: Categories = fit_categories(self._keys[train], len(self._columns.strings))
        self._codes = self._categories.codes(self._keys)
        self._places = places_of(self._codes, self._categories)
        self._layout = Layout(
            numbers=len(self._columns.numbers),
            meaning=self._columns.directions.shape[1],
            encoded=encoded_width(self._columns.keys_per_job, len(self._targets)),
            codes=len(self._columns.strings),
            targets=len(self._targets),
            named=bool((self._names[:, 0] != NAMELESS).any()),
        )

    def _rows(self, records: Places, encoded: Rows, codes: Rows, first: NDArray[np.float64]) -> Rows:
        """The columns of some records, as `Expert.estimate` lays them out."""
        return np.hstack([self._values[records], encoded, codes, told(first)])

    def _folds(self, train: Places) -> tuple[Places, Places]:
        """By works, and by groups: one group a fold where there are few, as a new one is met."""
        works = np.array([_work(self._facts[row]) % FOLDS for row in train])
        times = np.array([self._time(row) for row in train.tolist()])
        recurring = np.flatnonzero(np.isfinite(times))
        if len(recurring):
            moments, place = np.unique(times[recurring], return_inverse=True)
            works[recurring] = place * _BLOCKS // len(moments) % FOLDS
        names = self._groups(train)
        sizes = Counter(names)
        folds = FOLDS if len(sizes) > _FEW_GROUPS else min(len(sizes), _MOST_FOLDS)
        order = {group: place % folds for place, (group, _) in enumerate(sizes.most_common())}
        return works, np.array([order[name] for name in names])

    def _groups(self, rows: Places) -> list[str]:
        return [self._records[row].group for row in rows.tolist()]

    def _time(self, row: int) -> float:
        """When a recurring job ran, in epoch seconds; NaN for one that does not recur."""
        record = self._records[row]
        return timestamp_of(record.date) if record.key and record.date else np.nan

    def _cut(self, train: Places, folds: Places) -> _Cut:
        targets, strings = len(self._targets), len(self._columns.strings)
        encoded, met = held_out_rows(self._keys[train], centered(self._truth[train]), folds)
        # A value that no other fold has is as strange as one that was never seen.
        means = encoded[:, : strings * targets].reshape(len(train), strings, targets)
        codes = np.where(np.isnan(means).all(axis=2), np.nan, self._codes[train]).astype(np.float32)
        first = np.full((len(train), targets, len(FIRST)), np.nan)
        named = np.full((len(train), targets), NOBODY)
        for fold in np.unique(folds).tolist():
            held = folds == fold
            if not held.all():  # one group alone: nothing else tells of it
                first[held], named[held] = self._first(self._basis(train[~held]), train[held])
        return _Cut(folds, self._rows(train, encoded, codes, first), first, named, met)

    def _basis(self, records: Places) -> Basis:
        """What answers first, fitted on some of the records."""
        words, truth = self._words.rows(self._content[records]), self._truth[records]
        numbers = self._values[records, : self._layout.numbers]
        places, categories = self._places[records], sum(map(len, self._categories.keys))
        linear, plain = (
            fit_linear(known, WORD_BUCKETS, numbers, places, categories, truth, alpha)
            for known, alpha in ((words, _ALPHA), (None, _PLAIN_ALPHA))
        )
        neighbours = self._neighbours(records) if self._with_neighbours else None
        # An application that is held out is new to the other dialects too.
        new = set(self._groups(np.flatnonzero(self._train))).difference(self._groups(records))
        namesakes = fit_namesakes(self._spoken(records), [one.without(new) for one in self._elsewhere])
        medians = self._medians(records)
        return Basis(self._columns, self._categories, linear, plain, neighbours, namesakes, medians)

    def _medians(self, records: Places) -> NDArray[np.float64]:
        """[targets]: of the groups' medians, so that none dominates."""
        return medians_of_groups(self._truth[records], self._groups(records))

    def _neighbours(self, records: Places) -> Neighbours:
        """Among distinct jobs, evenly drawn."""
        distinct, place = np.unique(self._content[records], return_inverse=True)
        measured = np.isfinite(self._truth[records])
        sums, counts = np.zeros((2, len(distinct), len(self._targets)))
        np.add.at(sums, place, np.where(measured, self._truth[records], 0.0))
        np.add.at(counts, place, measured)
        with np.errstate(invalid="ignore"):
            values = sums / np.where(counts > 0, counts, np.nan)
        entries = int(np.diff(self._words.start)[distinct].sum())
        settings = self._settings
        share = min(1.0, settings.neighbours / len(distinct), settings.neighbours_words / max(entries, 1))
        # Not every second where nearly all have room: a job's closest is often the one beside it.
        kept = np.linspace(0, len(distinct) - 1, max(1, int(share * len(distinct)))).astype(np.int64)
        return fit_neighbours(self._words.rows(distinct[kept]), values[kept], WORD_BUCKETS)

    def _neighbours_pay(self, cuts: Sequence[_Cut], train: Places) -> bool:
        """Whether they err about as little as a linear model for any target in either cut: they take much room."""
        errors = np.array([np.abs(cut.first - self._truth[train][..., None]) for cut in cuts])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a target that was never measured
            mean = np.nanmean(errors, axis=1)
        others = mean[..., [FIRST.index("linear"), FIRST.index("plain")]].min(axis=2)
        return bool((mean[..., FIRST.index("neighbours")] < _WORTH * others).any())

    def _without_neighbours(self, cut: _Cut) -> _Cut:
        first = cut.first.copy()
        first[..., FIRST.index("neighbours")] = np.nan
        rows = np.hstack([cut.rows[:, : -len(self._targets) * len(FIRST)], told(first)])
        return replace(cut, rows=rows, first=first)

    def _first(self, basis: Basis, records: Places) -> tuple[NDArray[np.float64], Places]:
        """What the basis answers for some records, as `Basis.first`; equal contents once."""
        content, first, place = np.unique(self._content[records], return_index=True, return_inverse=True)
        one = records[first]
        numbers = self._values[one, : self._layout.numbers]
        said, named = basis.first(self._words.rows(content), numbers, self._codes[one], self._names[one])
        return said[place], named[place]

    def _grow(
        self, cuts: Sequence[_Cut], inside: Sequence[Places], train: Places, *, held_out: bool = False
    ) -> list[Fitted]:
        """All members for all targets, on the rows `inside` of each cut; all but one know the works' cut alone."""
        found = []
        for target, member in np.ndindex(len(self._targets), len(GROWN)):
            used = range(len(cuts)) if GROWN[member] == "general" else [0]
            rows = np.vstack([cuts[c].rows[inside[c]] for c in used])
            if GROWN[member] == "named":
                rows = self._layout.with_codes(rows, self._codes[train[inside[0]]])
            truth = np.concatenate([self._truth[train[inside[c]], target] for c in used])
            if GROWN[member] == "residual":
                plain = FIRST.index("plain")
                truth = truth - np.concatenate([cuts[c].first[inside[c], target, plain] for c in used])
            grown = grow(GROWN[member], target, rows, truth, self._layout, self._settings, held_out=held_out)
            if grown:
                found.append(grown)
        return found

    def _added(self, grown: Sequence[Fitted], rows: Rows) -> NDArray[np.float64]:
        """[n, targets, GROWN]: what the trees of each member add up to; NaN where none were grown."""
        found = np.full((len(GROWN) * len(self._targets), len(rows)), np.nan)
        for one in grown:
            found[one.output] = added(one, rows)
        return found.reshape(len(GROWN), len(self._targets), len(rows)).transpose(2, 1, 0)

    def _answers(self, cut: _Cut, cuts: Sequence[_Cut], train: Places) -> NDArray[np.float64]:
        """[n, targets, MEMBERS]: every train record as those answer who know the cut's other folds alone."""
        found = np.full((len(train), len(self._targets), len(MEMBERS)), np.nan)
        for fold in np.unique(cut.folds).tolist():
            held, others = np.flatnonzero(cut.folds == fold), np.flatnonzero(cut.folds != fold)
            if len(others):
                grown = self._grow(cuts, [others] * len(cuts), train, held_out=True)
                medians = self._medians(train[others])
                found[held] = members(cut.first[held], self._added(grown, cut.rows[held]), medians)
        return found

    def _weights(self, train: Places, later: Places) -> tuple[Truth, Truth]:
        """Weights of train and of later records, every group of a part alike.

        What comes later is what serving meets: together those records weigh as much as the train records, less where
        they are few.
        """
        parts = [self._groups(part) for part in (train, later)]
        sizes = [Counter(part) for part in parts]
        known, new = (
            np.array([1 / count[name] for name in part], dtype=np.float64)
            for part, count in zip(parts, sizes, strict=True)
        )
        if len(later):
            new *= known.sum() / new.sum() * len(later) / (len(later) + _STEADY)
        return known, new

    def _weighers(
        self, fits: Fits, train: Places, later: Places, others: NewGroups | None
    ) -> tuple[Strangeness, Mix]:
        """Which jobs count as of a new group, and the members' weights for those of known groups and of new ones."""
        heavy, new = self._weights(train, later)
        truth = self._truth[train]
        known = fit_weights(
            np.concatenate([fits.answers[0], fits.later]),
            np.concatenate([truth, self._truth[later]]),
            np.concatenate([_levels(fits.met[0], fits.named[0]), _levels(fits.later_met, fits.later_named)]),
            np.tile(np.concatenate([heavy, new])[:, None], truth.shape[1]),
        )
        answers, groups = fits.answers[1], self._groups(train)
        new_to = [(answers, truth, _levels(fits.met[1], fits.named[1]), evened(answers, truth, groups))]
        if others:
            new_to.append((others.answers, others.truth, _levels(others.met, others.named), others.weight))
        several = bool(np.isfinite(answers).any())
        if not several and not others:  # nobody has ever met a new group
            return fit_strangeness(fits.met[0], fits.met[1][:0]), Mix(known, known)
        strange = fit_weights(*(np.concatenate(part) for part in zip(*new_to, strict=True)))
        if several or not others:
            return fit_strangeness(fits.met[0], fits.met[1]), Mix(known, strange)
        columns = fits.met[0].shape[1]
        return fit_strangeness(others.known_met, others.met, columns=columns), Mix(known, strange)

    def _occasions(self, rows: Sequence[int]) -> tuple[Truth, Places]:
        """Of some records with dates: weights [n], each day alike and in it each group, and which day and group [n].

        A day's runs share a version and a machine: the 1,350 records of VTR's `val` are those of one.
        """
        days = [(self._records[row].date or "")[:10] for row in rows]
        _, day = np.unique(np.array(days), return_inverse=True)
        _, group = np.unique(np.array(self._groups(np.array(rows))), return_inverse=True)
        both, occasion, runs = np.unique(
            np.stack([day, group]), axis=1, return_inverse=True, return_counts=True
        )
        groups = np.bincount(both[0])
        return 1.0 / (runs[occasion] * groups[day]), occasion

    def _fit_history(self, train: Places, later: Places) -> dict[int, Blend]:
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
            measured = np.isfinite(self._truth[:, place])
            fitted, new = ([r for r in part if r in pasts and measured[r]] for part in (train, later))
            if len(fitted) < FEWEST:
                continue
            # Estimates of jobs whose group is known and whose group is new, each with its own familiarity.
            rows = [*fitted, *fitted, *new]
            weight, occasion = self._occasions(rows)
            blend = fit_blend(
                [pasts[row] for row in rows],
                np.concatenate(
                    [held.known[fitted, place], held.unknown[fitted, place], held.known[new, place]]
                ),
                np.concatenate(
                    [
                        held.known_familiarity[fitted],
                        held.unknown_familiarity[fitted],
                        held.known_familiarity[new],
                    ]
                ),
                self._truth[rows, place],
                weight,
                occasion,
            )
            found[place] = blend
            for row, past in pasts.items():
                held.informed[row, place] = blend(past, own[row, place], int(familiarity[row]))
        return found


def _levels(met: NDArray[np.bool_], named: Places) -> Places:
    """Which keys others know [n, keys], and how they know the name [n, targets] -> levels to weigh members on."""
    return level_of(familiarity_of(met), named)


def _work(facts: Facts) -> int:
    """What works belong together: those that differ by machine only."""
    return zlib.crc32("|".join(_what(facts)).encode())


def _what(facts: Facts) -> Iterator[str]:
    both: tuple[Mapping[str, Any], ...] = (facts.strings, facts.numbers)
    for named in both:
        yield from (f"{path}={value}" for path, value in named.items() if not path.startswith((*PLACES, "(")))
