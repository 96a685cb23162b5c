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
    """A checkpoint that was tried: its size, the latency of one request, its mean abs ln error."""

    name: str
    parameters: int
    latency_ms: float
    error: float


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
    """Draw error over latency from a JSON list of `Candidate`; False, and no plot, where there is no such file."""
    if not source.exists():
        path.unlink(missing_ok=True)
        return False
    candidates: list[Candidate] = json.loads(source.read_text(encoding="utf-8"))
    candidates.sort(key=lambda one: (one["latency_ms"], one["error"]))
    edge = [
        one
        for place, one in enumerate(candidates)
        if all(one["error"] < faster["error"] for faster in candidates[:place])
    ]
    figure, axis = plt.subplots(figsize=(9.0, 4.6))
    steps = [one["latency_ms"] for one in edge], [one["error"] for one in edge]
    axis.step(*steps, where="post", color="tab:grey", linewidth=0.8)
    # Names stand in the legend: beside the points they would cover each other.
    for place, one in enumerate(candidates, start=1):
        label = f"{place}: {one['name']}, {one['parameters'] / 1e6:.1f} M parameters"
        colour, point = "tab:blue" if one in edge else "tab:grey", (one["latency_ms"], one["error"])
        axis.plot(*point, marker="o", markersize=5, color=colour, linestyle="none", label=label)
        axis.annotate(str(place), point, xytext=(5, 5), textcoords="offset points", fontsize=8)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    axis.set(xlabel="latency of one request, ms", ylabel="mean abs ln error")
    axis.margins(x=0.08, y=0.12)
    axis.set_title("Error against latency; grey: another is both faster and better", fontsize=10)
    axis.grid(linewidth=0.3)
    save(figure, path)
    return True
