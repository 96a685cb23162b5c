"""Two plots of docs/capacity.md. Equal figures give equal bytes."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from loadtest.capacity.measure import MIXES, SHARES

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


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
