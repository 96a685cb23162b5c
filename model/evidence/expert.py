"""The estimates that the decoder reads as evidence: experts by kind, scope and dialect.

    Facts -> words, numbers, categories, encodings -> linear models, neighbours -> boosted trees -> a mix of them all
                                                                                    (moved by past runs, if any)

An expert tells, per target, a value from the job's facts, moved by its past runs where there are some, and how familiar
the job is: how many of its joint keys, from coarse to fine, past jobs had.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.evidence.categories import Categories
from model.evidence.columns import Columns
from model.evidence.dialect import Dialects
from model.evidence.encodings import Encodings, familiarity_of
from model.evidence.facts import Facts, facts_of
from model.evidence.history import Blend, median_of_three, past_of
from model.evidence.linear import Linear, places_of
from model.evidence.mix import Mix, level_of
from model.evidence.names import names_of
from model.evidence.namesakes import Namesakes
from model.evidence.neighbours import Neighbours
from model.evidence.strangeness import Strangeness
from model.evidence.trees import Trees
from model.evidence.words import Words
from model.jobs.job import Job, Scope, Value

#: What answers from words, numbers, categories and the job's name alone; the trees behind them may read it.
FIRST = ("linear", "plain", "neighbours", "namesakes")
#: The trees: on numbers and the meaning of the words, which a new group has too; on numbers and categories; on all
#: three; on all three again, grown on categories that no other job has as well; on what `plain` leaves; with what the
#: first said; on everything.
GROWN = ("bare", "categories", "worded", "named", "residual", "stacked", "general")
#: Last the median of past jobs: of a job unlike all others nothing more may be known.
MEMBERS = (*FIRST, *GROWN, "median")


@dataclass(frozen=True)
class Evidence:
    """values: target -> estimate in the target's unit (absent: none). familiarity: 0 .. LEVELS."""

    values: Mapping[str, float]
    familiarity: int


@dataclass(frozen=True)
class Basis:
    """What reads the facts of a dialect, and answers first. medians: [targets] of past jobs in ln, NaN: none."""

    columns: Columns
    categories: Categories
    linear: Linear
    plain: Linear
    neighbours: Neighbours | None
    namesakes: Namesakes
    medians: NDArray[np.float64]

    def first(
        self,
        words: Words,
        numbers: NDArray[np.float32],
        codes: NDArray[np.float32],
        names: NDArray[np.uint32],
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Words, numbers [n, N], codes [n, columns] and names of n jobs -> [n, targets, FIRST] in ln.

        And how their names are known [n, targets].
        """
        places = places_of(codes, self.categories)
        said = [model.predict(words, numbers, places) for model in (self.linear, self.plain)]
        said.append(self.neighbours.predict(words) if self.neighbours else np.full_like(said[0], np.nan))
        of_name, known = self.namesakes.predict(names)
        return np.stack([*said, of_name], axis=2), known


@dataclass(frozen=True)
class Expert:
    """The expert of one dialect. `by_history`: per target, how past runs move its estimate."""

    basis: Basis
    encodings: Encodings
    trees: Trees
    strangeness: Strangeness
    mix: Mix
    by_history: Mapping[int, Blend] = field(default_factory=dict)

    def estimate(self, facts: Facts, targets: int) -> tuple[NDArray[np.float64], int]:
        """The ln value per target from the job's facts alone (NaN: none), and its familiarity."""
        columns = self.basis.columns
        words, keys = columns.words([facts]), columns.keys([facts])
        values = columns.values([facts], words)
        codes = self.basis.categories.codes(keys)
        encoded, met = self.encodings.rows(keys)
        numbers = values[:, : len(columns.numbers)]
        first, known = self.basis.first(words, numbers, codes, names_of([facts]))
        row = np.concatenate([part[0] for part in (values, encoded, codes, told(first))])
        grown = self.trees.predict(row, len(GROWN) * targets).reshape(len(GROWN), targets)
        answers = members(first, grown.T[None], self.basis.medians)
        familiarity = familiarity_of(met)
        return self.mix(answers, level_of(familiarity, known), self.strangeness(met))[0], int(familiarity[0])

    def advise(self, job: Job, facts: Facts, targets: Sequence[str]) -> Evidence:
        """The evidence for a job and its history."""
        estimates, familiarity = self.estimate(facts, len(targets))
        values = {}
        for place, name in enumerate(targets):
            value = float(estimates[place])
            if past := past_of(job.history, name):
                value = self.by_history.get(place, median_of_three())(past, value, familiarity)
            if np.isfinite(value):
                values[name] = float(np.exp(value))
        return Evidence(values, familiarity)


def told(first: NDArray[np.float64]) -> NDArray[np.float32]:
    """What the first say [n, targets, FIRST] as columns of the trees [n, targets * FIRST]."""
    return first.reshape(len(first), -1).astype(np.float32)


def members(
    first: NDArray[np.float64], grown: NDArray[np.float64], medians: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the first say [n, targets, FIRST], trees [n, targets, GROWN], medians [targets] -> [n, targets, MEMBERS]."""
    grown = grown.copy()
    grown[..., GROWN.index("residual")] += first[..., FIRST.index("plain")]
    constant = np.broadcast_to(medians[:, None], (len(first), len(medians), 1))
    return np.concatenate([first, grown, constant], axis=2)


def field_of(kind: str, scope: Scope) -> str:
    """What one panel knows: whole workflows and single jobs of a kind are different things."""
    return f"{kind}/{scope}"


@dataclass(frozen=True)
class Panel:
    """The experts of one kind and scope, by dialect."""

    dialects: Dialects
    experts: Mapping[str, Expert]

    def advise(self, job: Job, targets: Sequence[str], content: Value | None = None) -> Evidence:
        """What the expert of the job's dialect says; of several likely ones the mean in ln, by their probability."""
        facts = facts_of(job, content)
        shares = self.dialects.of(facts)
        said = [(share, self.experts[name].advise(job, facts, targets)) for name, share in shares.items()]
        if len(said) == 1:
            return said[0][1]
        values = {}
        for target in targets:
            known = [(share, one.values[target]) for share, one in said if target in one.values]
            if known:
                logs = sum(share * math.log(value) for share, value in known)
                values[target] = math.exp(logs / sum(share for share, _ in known))
        return Evidence(values, said[0][1].familiarity)


class Experts:
    """The experts of a checkpoint, by `field_of` what they know."""

    def __init__(self, targets: Sequence[str], by_field: Mapping[str, Panel]) -> None:
        self.targets = tuple(targets)
        self.by_field = by_field

    def advise(self, job: Job, content: Value | None = None) -> Evidence | None:
        """Where a kind and scope have no expert, past runs speak for themselves; None where there are none either.

        content: the job's `masked_content`, where that is at hand.
        """
        panel = self.by_field.get(field_of(job.kind, job.scope))
        return panel.advise(job, self.targets, content) if panel else _from_past_runs(job, self.targets)


def _from_past_runs(job: Job, targets: Sequence[str]) -> Evidence | None:
    """The median of the last three runs that have a target."""
    follow = median_of_three()
    pasts = {target: past for target in targets if (past := past_of(job.history, target))}
    values = {target: math.exp(follow(past, math.nan, 0)) for target, past in pasts.items()}
    return Evidence(values, familiarity=0) if values else None
