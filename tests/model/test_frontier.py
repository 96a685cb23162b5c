"""The frontier's figures against values worked out by hand, and its command without a corpus."""

import math

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from model.evaluation.cells import QUANTILES, TARGETS, Case, Cell
from model.evaluation.frontier import main, scores
from model.training.corpus import Record


def a_cell(source: str, truths: list[tuple[str, float]]) -> Cell:
    cases = [
        Case(Record(f"{n}", source, "ci", "text", group, None, None, "x", {}, {TARGETS[0]: value}, "val"), ())
        for n, (group, value) in enumerate(truths)
    ]
    return Cell(source, source, "ci", "val", len(cases), tuple(cases))


def always(value: float, cell: Cell) -> np.ndarray:
    answers = np.full((len(cell.cases), len(TARGETS), len(QUANTILES)), np.nan)
    answers[:, 0] = value
    return answers


def test_scores_are_means_over_groups_then_sources_of_the_targets_that_are_measured() -> None:
    one = a_cell("one", [("a", 10.0), ("a", 10.0), ("b", 1000.0)])
    other = a_cell("other", [("c", 100.0)])
    error, crps = scores([one, other], [always(100.0, one), always(200.0, other)])
    expected = (math.log(10) + math.log(2)) / 2
    assert error == pytest.approx(expected, abs=1e-4)
    assert crps == pytest.approx(expected, abs=1e-3)  # of a point the CRPS is its distance


def test_without_a_corpus_the_command_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.evaluation.frontier.corpus_directory", lambda: None)
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--checkpoint", "a=b"])
    assert result.exit_code == 2
    assert "no corpus" in result.output
