"""What the dialects tell each other of groups that nobody knows.

A dialect with three applications cannot tell which of its members answers best for a fourth, and one with a single
application nothing at all. How members err on groups that were held out is much alike elsewhere, so each dialect's
weights for new groups are also fitted on a few groups' worth of the others' errors (docs/decisions.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evidence.columns import LEVELS

#: The others together count as so many groups.
_GROUPS = 3.0
#: Records drawn of a group, and groups of a dialect.
_MOST_RECORDS, _MOST_GROUPS = 150, 60

Floats = NDArray[np.float64]
Met = NDArray[np.bool_]


@dataclass(frozen=True)
class NewGroups:
    """Held-out answers of one dialect's members, or of several dialects'.

    answers: [n, targets, members] in ln; truth: [n, targets]; weight: [n, targets], a dialect's sum to one over its
    error; named: [n, targets] how their names are known to others; met, known_met: [n, LEVELS] which joint keys of
    these records others have, the group held out or known.
    """

    answers: Floats
    truth: Floats
    weight: Floats
    named: NDArray[np.int64]
    met: Met
    known_met: Met


def evened(answers: Floats, truth: Floats, groups: Sequence[str]) -> Floats:
    """Weights [n, targets]: each group's sum to one over the dialect's error, so that errors compare between dialects.

    answers: [n, targets, members], truth: [n, targets], in ln.
    """
    usable = np.isfinite(truth) & np.isfinite(answers).any(axis=2)
    _, place = np.unique(np.array(groups), return_inverse=True)
    weight = np.zeros(truth.shape)
    for target in range(truth.shape[1]):
        rows = np.flatnonzero(usable[:, target])
        if not len(rows):
            continue
        share = 1.0 / np.bincount(place[rows])[place[rows]]
        usual = np.nanmedian(answers[rows, target], axis=1)
        error = float(share @ np.abs(usual - truth[rows, target]) / share.sum())
        weight[rows, target] = share / max(error, 1e-6)
    return weight


def drawn(
    answers: Floats,
    truth: Floats,
    groups: Sequence[str],
    named: NDArray[np.int64],
    known_met: Met,
    met: Met,
    *,
    seed: int,
) -> NewGroups | None:
    """A draw of what one dialect says of its held-out groups; None where it has a single group.

    named: [n, targets]; known_met, met: [n, keys] with each record's works, and its group, held out.
    """
    if not np.isfinite(answers).any():
        return None
    random = np.random.default_rng(seed)
    names, place = np.unique(np.array(groups), return_inverse=True)
    kept = random.permutation(len(names))[:_MOST_GROUPS]
    rows = np.concatenate(
        [random.permutation(np.flatnonzero(place == group))[:_MOST_RECORDS] for group in np.sort(kept)]
    )
    weight = evened(answers[rows], truth[rows], [groups[row] for row in rows])
    counted = np.array([len(np.unique(place[rows][one > 0])) for one in weight.T])
    return NewGroups(
        answers[rows],
        truth[rows],
        weight / np.maximum(counted, 1),
        named[rows],
        met[rows, -LEVELS:],
        known_met[rows, -LEVELS:],
    )


def together(others: Iterable[NewGroups]) -> NewGroups | None:
    """Several dialects as one: all alike, together as a few groups, per target. None: there are none."""
    parts = list(others)
    if not parts:
        return None
    telling = np.array([(part.weight > 0).any(axis=0) for part in parts]).sum(axis=0)
    share = _GROUPS / np.maximum(telling, 1)
    return NewGroups(
        np.concatenate([part.answers for part in parts]),
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.weight * share for part in parts]),
        np.concatenate([part.named for part in parts]),
        np.concatenate([part.met for part in parts]),
        np.concatenate([part.known_met for part in parts]),
    )
