"""The ratio of each source with its interval, and error over latency of the checkpoints that were tried."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from model.evaluation.cells import TARGETS, TEST_SPLITS
from model.evaluation.comparison import SECOND_VIEW, Comparison
from model.evaluation.markdown import short
from model.evaluation.plots import COLOURS, save
from model.evaluation.results import Answer

#: Ratios beyond these are drawn at the edge.
_LOWEST, _HIGHEST = 0.125, 8.0
_TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8)


class Candidate(TypedDict):
    """A checkpoint that was tried: its size, the latency of one request and in which type, its errors.

    error: mean abs ln of its medians. crps: of its distributions; None for what says a point alone.
    """

    name: str
    parameters: int
    latency_ms: float
    dtype: str
    error: float
    crps: float | None


def ratios(answer: Answer, bar: float, path: Path) -> None:
    """Forest plot: a panel per split and target, a line per source; left of 1 the model is better.

    Hollow: the source is left out of its family's figure.
    """
    rows = [row for row in answer["comparisons"] if row["ratio"] is not None and row["apart"] != SECOND_VIEW]
    panels = {
        (split, target): [r for r in rows if (r["split"], r["target"]) == (split, target)]
        for split in TEST_SPLITS
        for target in TARGETS
    }
    heights = [max(3, *(len(panels[split, target]) for target in TARGETS)) for split in TEST_SPLITS]
    figure, axes = plt.subplots(
        len(TEST_SPLITS),
        len(TARGETS),
        figsize=(4.4 * len(TARGETS), 0.26 * sum(heights) + 2.6),
        height_ratios=heights,
        squeeze=False,
    )
    figure.suptitle(
        f"{answer['method']} / best baseline, with 95 % intervals; hollow: not counted", fontsize=11
    )
    for (split, target), members in panels.items():
        axis = axes[TEST_SPLITS.index(split), TARGETS.index(target)]
        if members:
            _forest(axis, members, bar, COLOURS[split])
            axis.set_title(f"{split}, {short(target)}", fontsize=9)
        else:
            axis.set_axis_off()
    save(figure, path)


def _forest(axis: Any, members: Sequence[Comparison], bar: float, colour: str) -> None:
    ordered = sorted(members, key=lambda row: (row["family"], row["name"]))
    for line, row in enumerate(ordered):
        ratio = _clipped(row["ratio"] or _LOWEST)
        if row["interval"] is not None:
            low, high = map(_clipped, row["interval"])
            axis.plot([low, high], [line, line], color=colour, linewidth=1.4, solid_capstyle="butt")
        filled = "white" if row["apart"] else colour
        axis.plot([ratio], [line], marker="o", markersize=4.5, color=colour, markerfacecolor=filled)
    axis.axvline(1.0, color="tab:red", linewidth=0.8)
    axis.axvline(bar, color="tab:green", linewidth=0.8, linestyle="--")
    axis.set_yticks(range(len(ordered)), [f"{r['name']} ({r['family']})" for r in ordered], fontsize=7)
    axis.set(xscale="log", xlim=(_LOWEST / 1.1, _HIGHEST * 1.1), ylim=(len(ordered) - 0.4, -0.6))
    axis.xaxis.set_major_locator(FixedLocator(_TICKS))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", linewidth=0.3)


def _clipped(ratio: float) -> float:
    return min(max(ratio, _LOWEST), _HIGHEST)


def frontier(source: Path, path: Path) -> bool:
    """Draw both errors over latency from a JSON list of `Candidate`; False, and no plot, without such a file."""
    if not source.exists():
        path.unlink(missing_ok=True)
        return False
    candidates: list[Candidate] = json.loads(source.read_text(encoding="utf-8"))
    candidates.sort(key=lambda one: (one["latency_ms"], one["error"]))
    figure, axes = plt.subplots(1, 2, figsize=(11.0, 4.2), sharex=True)
    for axis, (said, label) in zip(
        axes, (("error", "mean abs ln error of the median"), ("crps", "CRPS")), strict=True
    ):
        _frontier(axis, candidates, said)
        axis.set(xlabel="latency of one request, ms", ylabel=label)
    # Names stand in the legend: beside the points they would cover each other.
    axes[1].legend(
        *axes[0].get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=8
    )
    figure.suptitle("Validation error against latency; grey: another is both faster and better", fontsize=10)
    save(figure, path)
    return True


def _frontier(axis: Any, candidates: Sequence[Candidate], said: str) -> None:
    """One panel: the candidates, and a line along those that none is both faster and better than."""
    edge: list[tuple[float, float]] = []
    for place, one in enumerate(candidates, start=1):
        error = one["error"] if said == "error" else one["crps"]
        if error is None:
            continue
        point = one["latency_ms"], error
        colour = "tab:grey"
        if not edge or error < edge[-1][1]:
            edge.append(point)
            colour = "tab:blue"
        label = f"{place}: {one['name']}" + (
            f", {one['parameters'] / 1e6:.1f} M" if one["parameters"] else ""
        )
        axis.plot(*point, marker="o", markersize=5, color=colour, linestyle="none", label=label)
        axis.annotate(str(place), point, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axis.step(*zip(*edge, strict=True), where="post", color="tab:grey", linewidth=0.8)
    axis.margins(x=0.1, y=0.15)
    axis.grid(linewidth=0.3)
