"""The figures that carry a bar: per family, split and target, met or missed, with what chance leaves of them."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TypedDict

from model.evaluation.cells import TARGETS, TEST_SPLITS
from model.evaluation.comparison import (
    BARRED_TARGETS,
    DIGITS,
    SECOND_VIEW,
    Compared,
    Question,
    rounded,
)
from model.evaluation.significance import family_interval, geometric_mean, signed_rank

#: What the sources of a question that names its own are called together.
RECURRING_FAMILY = "recurring sources"


class Verdict(TypedDict):
    """One family, split and target of a question.

    figure: geometric mean over the sources that count of (model's error / best baseline's error); None where
    none counts or the model leaves a source unanswered (`unanswered`).
    everything: the same over all whole sources, those at their noise floor included.
    hindsight: the figure that the best mix of the model and all baselines would have, weighed on the tests themselves.
    interval: 95 % of the figure by the paired bootstrap over groups. worst: the source of the highest ratio.
    met: None where no bar was set. p, pairs, better: Wilcoxon signed-rank test of the groups' errors.
    """

    family: str
    split: str
    target: str
    sources: list[str]
    apart: list[str]
    unanswered: list[str]
    bar: float | None
    highest: float | None
    figure: float | None
    everything: float | None
    hindsight: float | None
    interval: list[float] | None
    worst: str | None
    worst_ratio: float | None
    met: bool | None
    p: float | None
    pairs: int
    better: int


def tally(verdicts: Sequence[Verdict]) -> tuple[list[Verdict], int, int]:
    """Those that have a bar; how many of these are met, and how many figures are within their bars."""
    judged = [one for one in verdicts if one["met"] is not None]
    within = sum(one["figure"] is not None and one["figure"] <= (one["bar"] or 0.0) for one in judged)
    return judged, sum(bool(one["met"]) for one in judged), within


def verdicts(question: Question, compared: Sequence[Compared], seed: int) -> list[Verdict]:
    """One per family, split and target in which any source was compared."""
    return [_verdict(question, place, members, seed) for place, members in _gathered(question, compared)]


def _gathered(
    question: Question, compared: Sequence[Compared]
) -> Iterator[tuple[tuple[str, str, str], list[Compared]]]:
    def place(one: Compared) -> tuple[str, int, int]:
        family = one.row["family"] if question.sources is None else RECURRING_FAMILY
        return family, TEST_SPLITS.index(one.row["split"]), TARGETS.index(one.row["target"])

    for (family, split, target), members in groupby(sorted(compared, key=place), key=place):
        yield (family, TEST_SPLITS[split], TARGETS[target]), list(members)


def _verdict(
    question: Question, place: tuple[str, str, str], members: Sequence[Compared], seed: int
) -> Verdict:
    family, split, target = place
    views = [one for one in members if one.row["apart"] != SECOND_VIEW]
    # Where no baseline answers there is nothing to be compared with.
    counted = [one for one in views if not one.row["apart"] and one.row["baseline"] is not None]
    unanswered = [one.row["name"] for one in counted if one.pairs is None]
    ratios = {one.row["name"]: one.pairs.ratio for one in counted if one.pairs is not None}
    pairs = [one.pairs for one in counted if one.pairs is not None]
    said = bool(pairs) and not unanswered
    figure = geometric_mean(list(ratios.values())) if said else None
    whole = [one for one in members if one.row["name"] == one.row["source"]]
    everything = [one.pairs.ratio for one in whole if one.pairs is not None]
    worst = max(ratios, key=lambda name: ratios[name]) if ratios else None
    bounds = family_interval(pairs, seed) if said else None
    test = signed_rank(pairs)
    bar = question.bar if target in BARRED_TARGETS and counted else None
    highest = None if bar is None else question.highest
    return {
        "family": family,
        "split": split,
        "target": target,
        "sources": [one.row["name"] for one in counted],
        "apart": [one.row["name"] for one in views if one.row["apart"]],
        "unanswered": unanswered,
        "bar": bar,
        "highest": highest,
        "figure": rounded(figure),
        "everything": rounded(geometric_mean(everything)) if everything else None,
        "hindsight": rounded(_hindsight(counted)),
        "interval": None if bounds is None else [round(bound, DIGITS) for bound in bounds],
        "worst": worst,
        "worst_ratio": None if worst is None else rounded(ratios[worst]),
        "met": None if bar is None else _meets(figure, bar, max(ratios.values(), default=None), highest),
        "p": None if test.p is None else float(f"{test.p:.3g}"),
        "pairs": test.pairs,
        "better": test.better,
    }


def _hindsight(counted: Sequence[Compared]) -> float | None:
    errors = [(one.row["hindsight"], one.row["baseline_error"]) for one in counted]
    ratios = [mixed / best for mixed, best in errors if mixed is not None and best]
    return geometric_mean(ratios) if ratios and len(ratios) == len(errors) else None


def _meets(figure: float | None, bar: float, worst: float | None, highest: float | None) -> bool:
    if figure is None or worst is None:
        return False
    return figure <= bar and (highest is None or worst <= highest)
