"""The plots of docs/capacity.md. Equal figures give equal bytes."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from loadtest.capacity.measure import MIXES, SHARES

#: Of a run that is drawn request by request, in its middle.
SHOWN_SECONDS = 5.0
_QUANTILES = {"p50": "tab:blue", "p95": "tab:orange", "p99": "tab:red"}


def plot_runs(content: dict[str, Any], path: Path) -> None:
    """Measured and simulated times by load, a panel per mix."""
    figure, axes = plt.subplots(1, len(MIXES), figsize=(10, 4), layout="constrained")
    for axis, mix in zip(axes, MIXES, strict=True):
        runs = [content.get(f"run {mix} {share}") for share in SHARES]
        found = [(100 * share, run) for share, run in zip(SHARES, runs, strict=True) if run]
        for name, colour in _QUANTILES.items():
            loads = [load for load, _ in found]
            axis.plot(loads, [run["measured"][name] for _, run in found], "o-", color=colour, label=name)
            simulated = [run["simulated"][name] for _, run in found if "simulated" in run]
            axis.plot(loads[: len(simulated)], simulated, "x--", color=colour)
        axis.set(title=mix, xlabel="% of capacity", ylabel="ms", yscale="log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle("Measured (lines) and simulated (dashes)")
    _save(figure, path)


def plot_costs(parts: dict[str, float], path: Path) -> None:
    """Where the time of a new request goes."""
    figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
    left = 0.0
    for name, seconds in parts.items():
        axis.barh(["new request"], [1000 * seconds], left=left, label=name)
        left += 1000 * seconds
    axis.set_xlabel("ms of one core")
    figure.legend(loc="outside upper center", ncols=len(parts))
    _save(figure, path)


def plot_pace(run: dict[str, Any], path: Path) -> None:
    """The machine's pace, and below it what each request took, by when it was due.

    run: spans of one pace (`profile`); `due`, `milliseconds` and `steady` of every request.
    """
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(10, 4.5), sharex=True, height_ratios=(1, 3), layout="constrained"
    )
    spans = run["profile"]
    above.stairs(
        [one["pace"] for one in spans], [*(one["since"] for one in spans), spans[-1]["to"]], color="black"
    )
    above.set(ylabel="pace", ylim=(0, 1.6))
    for steady, colour, label in ((True, "tab:blue", "steady"), (False, "tab:orange", "met by a slow time")):
        of_these = [
            (due, milliseconds)
            for due, milliseconds, kept in zip(run["due"], run["milliseconds"], run["steady"], strict=True)
            if kept == steady
        ]
        dots = np.array(of_these).reshape(-1, 2)
        below.plot(dots[:, 0], dots[:, 1], ".", markersize=3, color=colour, label=label)
    middle = max(run["due"]) / 2
    below.set(
        xlim=(middle - SHOWN_SECONDS / 2, middle + SHOWN_SECONDS / 2), yscale="log", xlabel="s", ylabel="ms"
    )
    below.legend(loc="upper right")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
