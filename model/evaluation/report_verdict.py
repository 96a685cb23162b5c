"""The first sections of the report: what was to be shown, met or missed, and how sure that is."""

from collections.abc import Sequence

from model.evaluation.comparison import BARRED_TARGETS, SECOND_VIEW, Comparison
from model.evaluation.headline import ENOUGH_SEEDS
from model.evaluation.markdown import NOTHING, bounds, plus_minus, section, short, table, text
from model.evaluation.noise import ENOUGH_TO_DECIDE, SHARE_OF_THE_BEST, named
from model.evaluation.results import WITH, WITH_ANY, WITHOUT, Answer, Results
from model.evaluation.verdict import Verdict, tally


def verdict(results: Results) -> str:
    """Met or missed, cell by cell."""
    plain, informed = (results["answers"][name]["verdicts"] for name in (WITHOUT, WITH))
    return section(
        "In short",
        f"{_count(plain, WITHOUT)}\n{_count(informed, WITH)}",
        "The figure of a cell is the geometric mean over its sources of (the model's mean abs ln error / the best "
        "baseline's), the best baseline of each source being the one with the smallest error on these very test "
        "records. A cell is met where the figure is within its bar and, without history, no single source lies "
        "above 1. CPU has no bar.",
        "### Without history, against the best of all baselines",
        _verdicts(plain),
        "Sources at their noise floor are left out of the figure ([why](#noise-floor)); *with those at the floor* "
        "counts every source. *Best mix in hindsight* is the figure that Jobcast and all these baselines would have "
        "together, mixed in each source with the weights that are best on the test records themselves: what choosing "
        "better among these methods could reach at most, though nobody can know those weights beforehand.",
        "### With history, on jobs that ran before",
        "Recurring sources (gha, julia, openlane, openroad, vtr), records that have a history, against "
        f"the better of {' and '.join(results['answers'][WITH]['baselines'])} per source.",
        _verdicts(informed),
        "The same against the best of every baseline, whatever it knows:",
        _verdicts(results["answers"][WITH_ANY]["verdicts"]),
    )


def _count(verdicts: Sequence[Verdict], name: str) -> str:
    judged, met, within = tally(verdicts)
    missed = ", ".join(_missed(one) for one in judged if not one["met"])
    parts = ""
    if any(one["highest"] is not None for one in judged):
        below = sum((one["worst_ratio"] or 0.0) <= (one["highest"] or 0.0) for one in judged)
        parts = f" ({within} within the bar, {below} without a source above 1)"
    return f"- {name}: {met} of {len(judged)} cells met{parts}; missed: {missed or 'none'}."


def _missed(one: Verdict) -> str:
    place = f"{one['family']} {short(one['target'])} {one['split']}"
    if one["figure"] is None:
        return f"{place} (no answer for {', '.join(one['unanswered'])})"
    above = one["highest"] is not None and (one["worst_ratio"] or 0.0) > one["highest"]
    worst = f"; {one['worst']} {text(one['worst_ratio'], 2)}" if above else ""
    return f"{place} ({text(one['figure'], 2)}{worst})"


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    head = [
        "family",
        "target",
        "split",
        "figure",
        "95 %",
        "bar",
        "verdict",
        "worst source",
        "sources",
        "with those at the floor",
        "best mix in hindsight",
        "groups better",
        "Wilcoxon p",
    ]
    rows = [
        [
            one["family"],
            short(one["target"]),
            one["split"],
            text(one["figure"], 3),
            bounds(one["interval"]),
            text(one["bar"], 2),
            _judged(one),
            NOTHING if one["worst"] is None else f"{one['worst']} {text(one['worst_ratio'], 2)}",
            str(len(one["sources"])),
            text(one["everything"], 3) if one["apart"] else "the same",
            text(one["hindsight"], 3),
            f"{one['better']} of {one['pairs']}",
            NOTHING if one["p"] is None else f"{one['p']:.2g}",
        ]
        for one in verdicts
    ]
    return table(head, rows)


def _judged(one: Verdict) -> str:
    if one["met"] is None:
        return "no source counts" if not one["sources"] else "no bar"
    return "met" if one["met"] else "**missed**"


def headline(results: Results) -> str:
    """The four configurations over the checkpoints given."""
    count = len(results["checkpoints"])
    few = "" if count >= ENOUGH_SEEDS else f" Fewer than {ENOUGH_SEEDS} were given: no spread is claimed."
    rows = [
        [
            "with history, recurring sources" if row["history"] else "without history",
            row["split"],
            plus_minus(row["spread"]["ratio"]),
            *(plus_minus(row["spread"][target]) for target in BARRED_TARGETS),
            ", ".join(text(value) for value in row["ratio"]),
        ]
        for row in results["headlines"]
    ]
    titles = [f"mean abs ln, {short(target)}" for target in BARRED_TARGETS]
    return section(
        "Seeds",
        f"Mean ± standard deviation over {count} checkpoint{'s' * (count != 1)} that differ by their training "
        f"seed alone.{few} The ratio is the geometric mean over sources, runtime and memory together.",
        table(["configuration", "split", "ratio", *titles, "ratio of each checkpoint"], rows),
    )


def statistics() -> str:
    """How sure the figures are, in words."""
    return section(
        "Statistics",
        "Intervals are paired bootstraps: 2,000 draws of a source's groups with replacement, the model and the "
        "baseline on the same groups; a family's interval is that of the geometric mean, its sources drawn "
        "independently. A source with a single group in a split has no interval of its own and keeps its ratio in the "
        "family's draws; with two to five groups an interval is rough. The best baseline is chosen once, on all "
        "test records, which favours the baseline. The Wilcoxon signed-rank test (two-sided) takes each group's mean "
        "error, model against best baseline, over all groups of the sources that count; *groups better* are those in "
        "which the model errs less. Tests are not corrected for their number.",
    )


def noise_floor(results: Results) -> str:
    """Every source and target with its floor, and what the rule says of it."""
    rows = [
        [
            row["name"],
            short(row["target"]),
            row["split"],
            text(row["floor"]),
            str(row["repeats"]),
            text(row["baseline_error"]),
            text(row["error"]),
            text(row["ratio"], 2),
            _outcome(row),
        ]
        for row in results["answers"][WITHOUT]["comparisons"]
        if row["floor"] is not None or named(row["name"], row["target"])
    ]
    apart: dict[str, list[str]] = {}
    for row in results["answers"][WITHOUT]["comparisons"]:
        if row["apart"] and row["apart"] != SECOND_VIEW:
            apart.setdefault(row["name"], []).append(f"{short(row['target'])} {row['split']}")
    left_out = "; ".join(f"{name} ({', '.join(sorted(places))})" for name, places in sorted(apart.items()))
    head = ["source", "target", "split", "floor", "repeats", "best baseline", "jobcast", "ratio", "outcome"]
    return section(
        "Noise floor",
        "Repeats of one identical canonical text in one context, in any split: the mean distance of ln value from "
        "the median of the other repeats (texts with at least three, averaged over groups as errors are). A "
        "prediction from the text alone cannot err much less. A source is at its floor where that is at least "
        f"{SHARE_OF_THE_BEST:g} of the best baseline's error and at least {ENOUGH_TO_DECIDE} repeats say so. julia, "
        "Spack's memory and bitbake tasks under one second were named before any measurement. A dash: no "
        "text repeats, and the floor cannot be measured this way.",
        f"Left out of the figures above: {left_out or 'nothing'}.",
        table(head, rows),
    )


def _outcome(row: Comparison) -> str:
    return f"**apart**: {row['apart']}" if row["apart"] else "counts"


def by_source(answer: Answer, title: str, *paragraphs: str) -> str:
    """One question's ratios, source by source."""
    head = ["source", "split", "target", "n", "groups", "best baseline", "its error", answer["method"]]
    rows = [
        [
            row["name"],
            row["split"],
            short(row["target"]),
            str(row["n"]),
            str(row["groups"]),
            row["baseline"] or NOTHING,
            text(row["baseline_error"]),
            text(row["error"]),
            _ratio(row["ratio"]),
            bounds(row["interval"]),
        ]
        for row in answer["comparisons"]
        if row["baseline"] is not None
    ]
    return section(title, *paragraphs, table([*head, "ratio", "95 %"], rows))


def _ratio(ratio: float | None) -> str:
    return f"**{text(ratio, 2)}**" if ratio is not None and ratio > 1.0 else text(ratio, 2)
