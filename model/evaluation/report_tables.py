"""The long tables of the report: by family, where there is a history, without mid-flow facts, every score."""

from collections.abc import Mapping, Sequence

from model.evaluation.cells import TEST_SPLITS
from model.evaluation.comparison import FEW_GROUPS
from model.evaluation.forecast import JOBCAST
from model.evaluation.left_out import EXPERTS, over_applications
from model.evaluation.markdown import NOTHING, section, short, table, text
from model.evaluation.results import WITHOUT, CellResult, Results, number
from model.evaluation.significance import geometric_mean
from model.training.views import BEFORE_THE_FLOW

_SCORES = (
    ("mean_abs_ln", "mean abs ln error, over groups", 3),
    ("record_mean_abs_ln", "mean abs ln error, over records", 3),
    ("median_abs_ln", "median abs ln error, over groups", 3),
    ("spearman", "Spearman, all records", 2),
    ("spearman_within", "Spearman, within groups", 2),
    ("pinball", "pinball loss", 3),
    ("crps", "CRPS", 3),
    ("coverage", "80 % coverage", 2),
    ("width", "80 % width", 2),
)


def families(results: Results) -> str:
    """Errors and coverage of every method, averaged over a family's sources."""
    rows = results["summary"]
    return section(
        "By family",
        "Mean abs ln error, averaged over all sources of a family, those at their noise floor included. A dash: the "
        "method does not answer every source.",
        _family_table(results, [row["mean_abs_ln"] for row in rows], 3),
        "80 % coverage (0.1 to 0.9 quantile; 0.80 is calibrated), averaged over the sources:",
        _family_table(results, [row["coverage"] for row in rows], 2),
    )


def _family_table(results: Results, columns: Sequence[Mapping[str, float | None]], digits: int) -> str:
    rows = [
        [row["family"], short(row["target"]), row["split"], str(len(row["sources"]))]
        + [text(found.get(method), digits) for method in results["methods"]]
        for row, found in zip(results["summary"], columns, strict=True)
    ]
    return table(["family", "target", "split", "sources", *results["methods"]], rows)


def history(results: Results) -> str:
    """Every method on the records whose key ran before."""
    rows = [
        [cell["name"], cell["split"], short(cell["target"]), str(cell["n_with_history"]), _share(cell)]
        + [text(cell["with_history"].get(m)) for m in results["methods"]]
        for cell in results["cells"]
        if cell["n_with_history"]
    ]
    return section(
        "Where there is a history",
        "Mean abs ln error of every method on the records whose key ran before, and their share of the records.",
        table(["source", "split", "target", "n", "share", *results["methods"]], rows),
    )


def _share(cell: CellResult) -> str:
    return f"{cell['n_with_history'] / cell['n']:.0%}"


def few_groups(results: Results) -> str:
    """The unseen groups of sources that have few, one by one."""
    rows = [
        [
            row["name"],
            short(row["target"]),
            group["group"],
            str(group["n"]),
            row["baseline"] or NOTHING,
            text(group["baseline_error"]),
            text(group["error"]),
            text(group["error"] / group["baseline_error"] if group["baseline_error"] else None, 2),
        ]
        for row in results["answers"][WITHOUT]["comparisons"]
        if row["split"] == "test_unseen" and row["name"] != BEFORE_THE_FLOW
        for group in row["by_group"]
    ]
    head = ["source", "target", "group", "n", "best baseline", "its error", JOBCAST, "ratio"]
    return section(
        "Unseen groups, one by one",
        f"Where `test_unseen` holds at most {FEW_GROUPS} groups of a source (designs, applications, tools), "
        "without history: an average over so few hides the one that decides it.",
        table(head, rows),
    )


def left_out(results: Results) -> str:
    """Each source's applications left out in turn, by refitting; empty where that was not asked for."""
    cells = over_applications(results["left_out"])
    if not cells:
        return ""
    rows = [
        [
            cell.source,
            short(cell.target),
            str(cell.applications),
            cell.baseline,
            text(cell.errors[cell.baseline]),
            text(cell.errors[EXPERTS]),
            text(cell.ratio, 2),
            f"{cell.better} of {cell.applications}",
        ]
        for cell in cells
    ]
    families = sorted({(cell.family, cell.target) for cell in cells})
    figures = []
    for place in families:
        ratios = [cell.ratio for cell in cells if (cell.family, cell.target) == place]
        figures.append([place[0], short(place[1]), str(len(ratios)), text(geometric_mean(ratios), 2)])
    most = max(cell.applications for cell in cells)
    return section(
        "One application left out",
        "A few unseen groups say little of the next one. So, where a source has at most "
        f"{FEW_GROUPS} of them, each application (design, workflow, tool) of `train` was left out in turn, the largest "
        f"of a source, at most {most}, and everything was fitted again on a draw of the others: the experts whose "
        "estimates the decoder's medians follow (the decoder was not), and the baselines, tuned on `val` without that "
        "application. "
        "Mean abs ln error, every application alike; the best baseline was chosen on these records.",
        table(["family", "target", "sources", "geometric mean of the ratios"], figures),
        table(
            ["source", "target", "applications", "best baseline", "its error", EXPERTS, "ratio", "better"],
            rows,
        ),
    )


def before_the_flow(results: Results) -> str:
    """OpenROAD as it is, and without what is known mid-flow only; empty without OpenROAD."""
    views = [row for row in results["answers"][WITHOUT]["comparisons"] if row["name"] == BEFORE_THE_FLOW]
    if not views:
        return ""
    full = {
        (row["split"], row["target"]): row
        for row in results["answers"][WITHOUT]["comparisons"]
        if row["name"] == "openroad"
    }
    rows = []
    for row in views:
        known = full[row["split"], row["target"]]
        both = (known, row)
        rows.append(
            [row["split"], short(row["target"])]
            + [
                cell
                for r in both
                for cell in (text(r["error"]), text(r["baseline_error"]), text(r["ratio"], 2))
            ]
        )
    head = ["split", "target"]
    for view in ("with", "without"):
        head += [f"{JOBCAST}, {view}", f"best baseline, {view}", f"ratio, {view}"]
    return section(
        "With and without facts_before_stage",
        f"`{BEFORE_THE_FLOW}`: the same OpenROAD records without the metrics of earlier stages, which are known "
        "mid-flow only. Figures of families use the records as they are.",
        table(head, rows),
    )


def all_scores(results: Results) -> str:
    """Every metric of every method in every cell."""
    parts = []
    for split in TEST_SPLITS:
        for score, title, digits in _SCORES:
            rows = [
                [cell["name"], short(cell["target"]), str(cell["n"])]
                + [text(number(cell, method, score), digits) for method in results["methods"]]
                for cell in results["cells"]
                if cell["split"] == split
            ]
            if rows:
                head = ["source", "target", "n", *results["methods"]]
                parts.append(f"### {split}: {title}\n\n{table(head, rows)}")
    return section("Every score", "A dash: the method does not answer, or says no interval.", *parts)
