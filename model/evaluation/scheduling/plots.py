"""Two pictures: waits by policy and predictor, and what memory allocations trade."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from model.evaluation.scheduling.estimates import PREDICTORS
from model.evaluation.scheduling.frontier import FrontierPoint
from model.evaluation.scheduling.memory import AUTHORS, LARGEST_PAST, PERFECT
from model.evaluation.scheduling.queues import QueueSummary
from model.evaluation.scheduling.replay import POLICIES
from model.evaluation.scheduling.scopes import ALL, ASKED

WAITS = "scheduling-wait.png"
FRONTIER = "scheduling-memory.png"

_COLOURS = {
    AUTHORS: "tab:gray",
    "last run": "tab:brown",
    "last 3": "tab:olive",
    LARGEST_PAST: "tab:pink",
    "kind median": "tab:purple",
    "LightGBM": "tab:cyan",
    "LightGBM + history": "tab:blue",
    "jobcast": "tab:orange",
    "jobcast + history": "tab:red",
    PERFECT: "tab:green",
}
_SCOPES = {ASKED: "jobs whose author asked for time or memory", ALL: "all jobs"}


def waits(summary: Sequence[QueueSummary], path: Path) -> Path:
    """Mean wait against FCFS with the authors' requests: a panel per scope and load, a group of bars per policy."""
    scopes = [scope for scope in _SCOPES if any(row["scope"] == scope for row in summary)]
    loads = sorted({row["load"] for row in summary})
    predictors = [p for p in (AUTHORS, *PREDICTORS, PERFECT) if any(r["predictor"] == p for r in summary)]
    size = (5.2 * len(loads), 3.4 * len(scopes) + 0.9)
    figure, axes = plt.subplots(len(scopes), len(loads), figsize=size, squeeze=False, sharey="row")
    for row, scope in enumerate(scopes):
        for column, load in enumerate(loads):
            shown = [one for one in summary if one["scope"] == scope and one["load"] == load]
            _wait_panel(axes[row, column], shown, predictors)
            sources = shown[0]["sources"]
            axes[row, column].set_title(f"{_SCOPES[scope]} ({sources} sources), load {load:.0%}", fontsize=9)
        axes[row, 0].set_ylabel("mean wait / FCFS with requests", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, ncol=5, fontsize=8, frameon=False, loc="lower center")
    figure.suptitle(
        "Wait in the replayed queue, geometric mean over sources (whiskers: sd over draws)", fontsize=11
    )
    figure.tight_layout(rect=(0, 0.5 / size[1], 1, 1))
    return _save(figure, path)


def _wait_panel(axis: Any, shown: Sequence[QueueSummary], predictors: Sequence[str]) -> None:
    width = 0.8 / len(predictors)
    for place, predictor in enumerate(predictors):
        rows = {row["policy"]: row for row in shown if row["predictor"] == predictor}
        at = [number + (place - (len(predictors) - 1) / 2) * width for number in range(len(POLICIES))]
        heights = [rows[policy]["status_quo"]["mean_wait"] for policy in POLICIES]
        spread = [rows[policy]["status_quo_sd"]["mean_wait"] for policy in POLICIES]
        # On a logarithmic axis a bar down to zero has no end: the lower whisker stops short of it.
        low = [min(s, 0.9 * h) for s, h in zip(spread, heights, strict=True)]
        axis.bar(at, heights, width, label=predictor, color=_COLOURS.get(predictor))
        axis.errorbar(
            at, heights, yerr=[low, spread], fmt="none", ecolor="black", elinewidth=0.7, capsize=1.5
        )
    axis.axhline(1.0, color="black", linewidth=0.7, linestyle=":")
    axis.set_yscale("log")
    _plain_numbers(axis)
    axis.set_xticks(range(len(POLICIES)), POLICIES)
    axis.tick_params(labelsize=8)


def frontier(points: Sequence[FrontierPoint], path: Path) -> Path:
    """Share of jobs killed against memory allocated / needed: a line per method, a marker per level or factor."""
    figure, axis = plt.subplots(figsize=(8.8, 5.2))
    for method in (m for m in _COLOURS if any(point["method"] == m for point in points)):
        found = [point for point in points if point["method"] == method]
        killed, cost = [point["killed"] for point in found], [point["cost"] for point in found]
        factors = found[0]["level"].startswith("×")
        style: dict[str, Any] = {"linestyle": "--" if factors else "-", "marker": "s" if factors else "o"}
        axis.plot(killed, cost, color=_COLOURS[method], markersize=4, linewidth=1.2, label=method, **style)
        # The rules with factors lie close together: only the requests' ends are named.
        for point in (found[0], found[-1]) if not factors or method == AUTHORS else ():
            place = (point["killed"], point["cost"])
            axis.annotate(point["level"], place, xytext=(3, 3), textcoords="offset points", fontsize=7)
    axis.plot([0], [1], marker="*", markersize=11, color=_COLOURS[PERFECT], linestyle="none", label=PERFECT)
    axis.set_yscale("log")
    _plain_numbers(axis)
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.tick_params(which="both", labelsize=8)
    axis.set(
        xlabel="share of jobs killed at least once", ylabel="GB-hours allocated / needed, retries included"
    )
    axis.set_title("Memory: kills against waste (circles: quantiles; squares: factors)", fontsize=10)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return _save(figure, path)


def _plain_numbers(axis: Any) -> None:
    """On a logarithmic axis that may span less than a decade: 1, 2, 5 instead of powers of ten."""
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _save(figure: Any, path: Path) -> Path:
    # matplotlib writes its own version into the file unless told not to.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path
