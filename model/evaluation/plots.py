"""Predicted against true and calibration, as small multiples: a row per family, a column per target.

Equal input gives equal bytes. Further plots: ratio_plots.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from model.evaluation.cells import TARGETS, TEST_SPLITS, Cell
from model.evaluation.markdown import short
from model.evaluation.metrics import MEDIAN, FloatArray, ln_values
from model.evaluation.results import Results, whole

COLOURS = {"test_seen": "tab:blue", "test_unseen": "tab:orange"}
_UNITS = {"runtime_seconds": "s", "peak_memory_bytes": "bytes", "cpu_cores": "cores"}


def write(
    cells: Sequence[Cell],
    predictions: Mapping[str, Sequence[FloatArray]],
    results: Results,
    method: str,
    directory: Path,
) -> None:
    """Write predicted-vs-true.png and calibration.png of one method; predictions as in `scoring.Run`."""
    directory.mkdir(parents=True, exist_ok=True)
    predicted_versus_true(
        cells, predictions[method], results["quantiles"], method, directory / "predicted-vs-true.png"
    )
    calibration(results, method, directory / "calibration.png")


def predicted_versus_true(
    cells: Sequence[Cell],
    predicted: Sequence[FloatArray],
    quantiles: Sequence[float],
    method: str,
    path: Path,
) -> None:
    """Medians against truths, both test splits together, on logarithmic axes; right is on the diagonal."""
    families = sorted({cell.family for cell in cells})
    figure, axes = _grid(families, f"{method}: predicted median against the truth, both test splits")
    middle = list(quantiles).index(MEDIAN)
    for row, family in enumerate(families):
        for column, target in enumerate(TARGETS):
            members = [i for i, cell in enumerate(cells) if cell.family == family and cell.counts]
            truths = [cells[i].truth(target) for i in members]
            guesses = [predicted[i][:, column, middle] for i in members]
            truth, guess = np.concatenate(truths or [np.array([])]), np.concatenate(guesses or [np.array([])])
            measured = np.isfinite(truth) & np.isfinite(guess)
            axis = axes[row, column]
            if not measured.any():
                axis.set_axis_off()
                continue
            shown = ln_values(np.stack([truth[measured], guess[measured]]), target) / np.log(10)
            low, high = float(shown.min()) - 0.1, float(shown.max()) + 0.1
            drawn = axis.hexbin(
                shown[0], shown[1], gridsize=40, bins="log", mincnt=1, extent=(low, high, low, high), lw=0
            )
            figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03).ax.tick_params(labelsize=7)
            axis.plot([low, high], [low, high], color="tab:red", linewidth=0.8)
            axis.set(
                xlabel=f"log10 true {_UNITS[target]}",
                ylabel=f"log10 predicted {_UNITS[target]}",
                aspect="equal",
            )
            axis.set_title(f"{family}, {short(target)}, n = {int(measured.sum())}", fontsize=9)
    save(figure, path)


def calibration(results: Results, method: str, path: Path) -> None:
    """Share of truths below each predicted quantile, averaged over sources; on the diagonal it is honest."""
    families = sorted({cell["family"] for cell in results["cells"]})
    figure, axes = _grid(families, f"{method}: observed share below the predicted quantile")
    for row, family in enumerate(families):
        for column, target in enumerate(TARGETS):
            axis = axes[row, column]
            drawn = [
                _calibration_line(axis, results, method, (family, split, target)) for split in TEST_SPLITS
            ]
            if not any(drawn):
                axis.set_axis_off()
                continue
            axis.plot([0, 1], [0, 1], color="tab:red", linewidth=0.8)
            axis.set(xlabel="nominal", ylabel="observed", xlim=(0, 1), ylim=(0, 1), aspect="equal")
            axis.set_title(f"{family}, {short(target)}", fontsize=9)
            axis.legend(fontsize=7, frameon=False, loc="upper left")
    save(figure, path)


def _calibration_line(axis: Any, results: Results, method: str, place: tuple[str, str, str]) -> bool:
    observed = [
        cell["scores"][method]["observed"]
        for cell in results["cells"]
        if whole(cell) and (cell["family"], cell["split"], cell["target"]) == place
    ]
    known = [row for row in observed if row is not None]
    if not known:
        return False
    average = np.mean(np.array(known, dtype=np.float64), axis=0)
    label = f"{place[1]} ({len(known)} source{'s' * (len(known) != 1)})"
    axis.plot(results["quantiles"], average, marker="o", markersize=3, color=COLOURS[place[1]], label=label)
    return True


def _grid(families: Sequence[str], title: str) -> tuple[Any, Any]:
    rows, columns = max(1, len(families)), len(TARGETS)
    figure, axes = plt.subplots(rows, columns, figsize=(3.7 * columns, 3.3 * rows), squeeze=False)
    figure.suptitle(title, fontsize=11)
    return figure, axes


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG and let it go."""
    figure.tight_layout()
    # matplotlib writes its own version into the file unless told not to.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
