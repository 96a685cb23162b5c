"""The four headline configurations over several checkpoints: with and without history, seen and unseen groups."""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TypedDict

from model.evaluation.cells import TEST_SPLITS
from model.evaluation.comparison import BARRED_TARGETS, Compared, rounded
from model.evaluation.significance import geometric_mean

#: So many seeds are asked for; with fewer the report says how many there were.
ENOUGH_SEEDS = 3


class Headline(TypedDict):
    """One configuration. Each list has one figure per checkpoint, in their order.

    error: target -> mean over the sources that count of their mean abs ln error.
    ratio: geometric mean of the ratios of all those sources and targets.
    spread: figure ("ratio" or a target) -> mean and standard deviation over the checkpoints; no deviation of one.
    """

    history: bool
    split: str
    error: dict[str, list[float | None]]
    ratio: list[float | None]
    spread: dict[str, list[float | None]]


def headlines(
    without: Sequence[Sequence[Compared]], informed: Sequence[Sequence[Compared]]
) -> list[Headline]:
    """Four rows. without, informed: the comparisons of each checkpoint, without and with history."""
    return [
        _headline(checkpoints, history, split)
        for history, checkpoints in ((False, without), (True, informed))
        for split in TEST_SPLITS
    ]


def _headline(checkpoints: Sequence[Sequence[Compared]], history: bool, split: str) -> Headline:
    chosen = [[one for one in found if _counts(one, split)] for found in checkpoints]
    error = {
        target: [_error([one for one in found if one.row["target"] == target]) for found in chosen]
        for target in BARRED_TARGETS
    }
    ratio = [_ratio(found) for found in chosen]
    spread = {name: _spread(values) for name, values in (("ratio", ratio), *error.items())}
    return {"history": history, "split": split, "error": error, "ratio": ratio, "spread": spread}


def _counts(one: Compared, split: str) -> bool:
    row = one.row
    return row["split"] == split and row["target"] in BARRED_TARGETS and not row["apart"]


def _error(found: Sequence[Compared]) -> float | None:
    errors = [one.row["error"] for one in found]
    said = [error for error in errors if error is not None]
    return rounded(fmean(said)) if said and len(said) == len(errors) else None


def _ratio(found: Sequence[Compared]) -> float | None:
    ratios = [one.pairs.ratio for one in found if one.pairs is not None]
    return rounded(geometric_mean(ratios)) if ratios else None


def _spread(values: Sequence[float | None]) -> list[float | None]:
    said = [value for value in values if value is not None]
    if not said or len(said) < len(values):
        return [None, None]
    return [rounded(fmean(said)), rounded(stdev(said)) if len(said) > 1 else None]
