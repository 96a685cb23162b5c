"""Cells, the run, its report and the command on a small synthetic corpus with an obvious rule."""

import builtins
import copy
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from app.cli import cli
from model.evaluation import plots, ratio_plots, readme, report
from model.evaluation import run as harness
from model.evaluation.__main__ import command
from model.evaluation.cells import Cell, cells_of, sampled
from model.evaluation.forecast import JOBCAST, JOBCAST_HISTORY
from model.evaluation.methods import KIND_MEDIAN, LAST_THREE, REQUESTED
from model.evaluation.results import BAR_WITHOUT, WITH, WITHOUT, Results, manifest_summary, number
from model.evaluation.run import Options, run
from model.evaluation.store import Store
from model.evaluation.suite import BaselineOptions
from model.jobs.job import Job, Outcome
from model.training.corpus import HistoryIndex, Record
from model.training.views import BEFORE_THE_FLOW

HELP = ["evaluate", "--help"]

#: Baselines that need no fit: those that do have tests of their own.
QUICK = BaselineOptions(only=(KIND_MEDIAN, REQUESTED, LAST_THREE), processes=1)


def a_record(number: int, source: str, split: str) -> Record:
    """Its runtime is its size times 10 (`slow`) or 1 (`fast`); `julia` repeats four jobs, a run a day."""
    tool, size = ("slow", "fast")[number % 2], 1 + number * 7 % 50
    job = number % 4 if source == "julia" else None
    return Record(
        id=f"{source}{number}",
        source=source,
        family="ci" if source == "julia" else "workflow",
        kind="buildkite" if source == "julia" else "spark",
        group=tool,
        key=None if job is None else f"job {job}",
        date=None if job is None else f"2026-{1 + number // 28:02}-{1 + number % 28:02}",
        config={"tool": tool, "size": size} if job is None else {"job": job},
        context={"stage": tool},
        targets={"runtime_seconds": size * (10.0 if tool == "slow" else 1.0)}
        if job is None
        else {"runtime_seconds": 10.0**job * (1 + number % 3 / 10)},
        split=split,
    )


def split_of(number: int) -> str:
    if number < 240:
        return "train"
    return "val" if number < 280 else "test_seen" if number < 310 else "test_unseen"


def text_of(record: Record) -> str:
    return json.dumps([record.config, record.context], sort_keys=True)


def job_of(record: Record) -> Job:
    """The author asked for ten minutes, but for the jobs of an odd size."""
    assert isinstance(record.config, dict)
    odd = int(str(record.config.get("size", 1))) % 2
    asked = {} if odd else {"runtime_seconds": 600.0}
    return Job(kind=record.kind, scope="job", name="a job", body={}, requested=asked)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [a_record(n, source, split_of(n)) for source in ("c3o", "julia") for n in range(330)]


@pytest.fixture(scope="module")
def cells(records: list[Record]) -> list[Cell]:
    return cells_of(records, HistoryIndex(records), limit=1000, seed=0)


class Oracle:
    """A forecaster that knows the truth up to a factor, and counts what it is asked."""

    def __init__(self, version: str = "oracle-1", factor: float = 1.5) -> None:
        self.version = version
        self.factor = factor
        self.asked: list[tuple[str, int]] = []

    def forecast(
        self,
        records: Sequence[Record],
        histories: Sequence[tuple[Outcome, ...]],
        targets: Sequence[str],
        quantiles: Sequence[float],
    ) -> Iterator[dict[str, tuple[float, ...]]]:
        for record, history in zip(records, histories, strict=True):
            self.asked.append((record.id, len(history)))
            factor = 1.1 if history else self.factor
            yield {
                target: tuple(
                    record.targets.get(target, 1.0) * factor * 4 ** (tau - 0.5) for tau in quantiles
                )
                for target in targets
            }


def evaluated(records: list[Record], directory: Path, *forecasters: Oracle) -> Results | None:
    options = Options(output=directory / "docs", runs=directory / "runs", baselines=QUICK)
    with Progress(console=Console(file=io.StringIO())) as progress:
        return run(records, text_of, job_of, forecasters, options, progress)


class Scheduling:
    """What a scheduler gains has tests of its own: here, that it is asked, drawn and shown."""

    @staticmethod
    def gains(
        cells: Sequence[Cell], predictions: Mapping[str, object], records: Sequence[Record]
    ) -> dict[str, object]:
        return {"methods": sorted(predictions), "cells": len(cells)}

    @staticmethod
    def render(gains: Mapping[str, object]) -> str:
        return f"## What a scheduler gains\n\nSeen in {gains['cells']} cells."

    @staticmethod
    def plot(gains: Mapping[str, object], directory: Path) -> None:
        (directory / "gains.png").write_bytes(b"drawn")


@pytest.fixture(autouse=True, scope="module")
def scheduling() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "scheduling", Scheduling)
        yield


@pytest.fixture(scope="module")
def finished(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    directory = tmp_path_factory.mktemp("evaluation")
    results = evaluated(records, directory, Oracle(), Oracle("oracle-2", 1.7), Oracle("oracle-3", 1.3))
    assert results is not None
    return directory, results


def test_a_sample_is_the_same_in_any_order_and_grows_with_its_limit(records: list[Record]) -> None:
    small, large = sampled(records, 20, 0), sampled(records, 60, 0)
    assert len(small) == 20
    assert {r.id for r in small} == {r.id for r in sampled(records[::-1], 20, 0)}
    assert {r.id for r in small} < {r.id for r in large}
    assert {r.id for r in small} != {r.id for r in sampled(records, 20, 1)}


def test_cells_hold_only_test_records_and_histories_of_the_past(cells: list[Cell]) -> None:
    assert [(c.name, c.split, c.available) for c in cells] == [
        ("c3o", "test_seen", 30),
        ("c3o", "test_unseen", 20),
        ("julia", "test_seen", 30),
        ("julia", "test_unseen", 20),
    ]
    for cell in cells:
        for case in cell.cases:
            assert case.record.split == cell.split
            assert all(outcome.age_seconds > 0 for outcome in case.history)
            assert len(case.history) == (5 if cell.source == "julia" else 0)


def test_openroad_is_also_seen_without_what_is_known_only_mid_flow() -> None:
    config = "stage: cts\nfacts_before_stage:\n  area: 12\n  count: 3\nconfig.mk: |\n  export A = 1\n"
    record = replace(a_record(1, "c3o", "test_seen"), source="openroad", config=config)
    full, bare = cells_of([record], HistoryIndex([]), limit=5, seed=0)
    assert full.cases[0].record.config == config
    assert bare.cases[0].record.config == "stage: cts\nconfig.mk: |\n  export A = 1\n"
    assert (bare.name, bare.counts, full.counts) == (BEFORE_THE_FLOW, False, True)
    assert full.digest() != bare.digest()


def test_what_is_stored_comes_back_only_under_the_same_parameters(tmp_path: Path) -> None:
    store = Store(tmp_path)
    values = np.array([[1.0, np.nan]])
    store.put("a method", "cell", {"seed": 0}, values)
    found = store.get("a method", "cell", {"seed": 0})
    assert found is not None
    np.testing.assert_array_equal(found, values)
    assert store.get("a method", "cell", {"seed": 1}) is None
    assert store.get("another", "cell", {"seed": 0}) is None


def test_every_method_is_scored_on_the_same_records(finished: tuple[Path, Results]) -> None:
    results = finished[1]
    assert [(c["name"], c["split"], c["n"]) for c in results["cells"]] == [
        ("c3o", "test_seen", 30),
        ("c3o", "test_unseen", 20),
        ("julia", "test_seen", 30),
        ("julia", "test_unseen", 20),
    ]
    assert results["methods"] == [JOBCAST, JOBCAST_HISTORY, KIND_MEDIAN, REQUESTED, LAST_THREE]
    for cell in results["cells"]:
        assert {scores["n"] for scores in cell["scores"].values()} == {cell["n"]}
        assert number(cell, JOBCAST, "mean_abs_ln") == pytest.approx(math.log(1.5), abs=1e-4)
        expected = 1.1 if cell["source"] == "julia" else 1.5
        assert number(cell, JOBCAST_HISTORY, "mean_abs_ln") == pytest.approx(math.log(expected), abs=1e-4)
        assert number(cell, JOBCAST, "crps") is not None
    partly = results["cells"][0]["scores"][REQUESTED]
    assert 0 < int(str(partly["answered"])) < 30
    assert number(results["cells"][0], REQUESTED, "mean_abs_ln") is None


def test_the_questions_are_answered_per_source_and_per_family(finished: tuple[Path, Results]) -> None:
    answers = finished[1]["answers"]
    cell = finished[1]["cells"][0]
    ours, theirs = (number(cell, method, "mean_abs_ln") for method in (JOBCAST, KIND_MEDIAN))
    assert ours is not None
    assert theirs is not None
    row = answers[WITHOUT]["comparisons"][0]
    assert (row["name"], row["baseline"], row["groups"]) == ("c3o", KIND_MEDIAN, 2)
    assert row["ratio"] == pytest.approx(ours / theirs, abs=1e-4)
    by_place = {(v["family"], v["split"]): v for v in answers[WITHOUT]["verdicts"]}
    workflow = by_place["workflow", "test_seen"]
    assert (workflow["figure"], workflow["met"]) == (row["ratio"], True)
    # julia was named as noise: its family has no other source, and so no figure.
    assert by_place["ci", "test_seen"]["figure"] is None
    assert by_place["ci", "test_seen"]["apart"] == ["julia"]
    (seen, _) = answers[WITH]["verdicts"]
    assert seen["sources"] == ["julia"]
    assert [r["baseline"] for r in answers[WITH]["comparisons"]] == [LAST_THREE] * 2


def test_further_checkpoints_only_enter_the_headlines(finished: tuple[Path, Results]) -> None:
    results = finished[1]
    assert results["checkpoints"] == ["oracle-1", "oracle-2", "oracle-3"]
    first = results["headlines"][0]
    logs = [round(math.log(factor), 4) for factor in (1.5, 1.7, 1.3)]
    assert first["error"]["runtime_seconds"] == pytest.approx(logs, abs=1e-4)
    mean = sum(logs) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in logs) / 2)
    assert first["spread"]["runtime_seconds"] == pytest.approx([mean, deviation], abs=1e-4)
    assert results["measured"]["checkpoint"] == "oracle-1"


def test_the_report_is_written_again_byte_for_byte(finished: tuple[Path, Results], tmp_path: Path) -> None:
    directory, results = finished
    stored = json.loads((directory / "docs" / "benchmark.json").read_text())
    report.write(stored, tmp_path, Scheduling.render(stored["gains"]))
    for name in ("benchmark.md", "benchmark.json"):
        assert (tmp_path / name).read_bytes() == (directory / "docs" / name).read_bytes()
    plots.calibration(results, JOBCAST_HISTORY, tmp_path / "calibration.png")
    ratio_plots.ratios(results["answers"][WITHOUT], BAR_WITHOUT, tmp_path / "ratios.png")
    for name in ("calibration.png", "ratios.png"):
        assert (tmp_path / name).read_bytes() == (directory / "docs" / "img" / name).read_bytes()
    assert (directory / "docs" / "img" / "predicted-vs-true.png").stat().st_size > 10_000
    assert (directory / "docs" / "img" / "gains.png").exists()


def test_the_report_says_what_is_met_what_is_missed_and_over_how_many_seeds(
    finished: tuple[Path, Results],
) -> None:
    results = copy.deepcopy(finished[1])
    good = report.render(results, "## Gains\n\nMuch.", "A note.\n")
    met = "- without history: 2 of 2 cells met (2 within the bar, 2 without a source above 1); missed: none."
    assert met in good
    assert "over 3 checkpoints" in good
    assert "## What was missed, why, and what was tried\n\nA note." in good
    assert "## Gains\n\nMuch." in good
    verdict = results["answers"][WITHOUT]["verdicts"][-2]
    assert (verdict["family"], verdict["split"]) == ("workflow", "test_seen")
    verdict.update(figure=0.5, worst_ratio=1.25, met=False)
    results["checkpoints"] = results["checkpoints"][:1]
    missed = report.render(results)
    assert "1 of 2 cells met (2 within the bar, 1 without a source above 1)" in missed
    assert "missed: workflow runtime test_seen (0.50; c3o 1.25)." in missed
    assert "**missed**" in missed
    assert "over 1 checkpoint" in missed
    assert "Fewer than 3 were given" in missed
    assert "What was missed, why" not in missed


def test_the_readme_takes_its_figures_from_the_results(
    finished: tuple[Path, Results], tmp_path: Path
) -> None:
    page = tmp_path / "README.md"
    page.write_text("Before.\n<!-- benchmark -->\nold\n<!-- end of benchmark -->\nAfter.\n")
    for _ in range(2):  # written over what it wrote itself
        readme.write(finished[1], page, "much.")
    written = page.read_text()
    errors = next(one["mean_abs_ln"] for one in finished[1]["summary"] if one["family"] == "workflow")
    ours, usual = errors["jobcast"], errors["kind median"]
    assert ours is not None and usual is not None
    # No LightGBM was asked for.
    assert f"| workflow, `runtime_seconds` | {ours:.2f} | {usual:.2f} | – |" in written
    assert "is met in 2 of 2 cells (run time and memory); 2 are within 0.90." in written
    assert "What a scheduler gains:\n\nmuch.\n" in written
    assert written.startswith("Before.\n<!-- benchmark -->\n| family") and written.endswith("-->\nAfter.\n")
    assert "old" not in written
    page.write_text("No marks.")
    readme.write(finished[1], page)
    assert page.read_text() == "No marks."


def test_notes_by_hand_are_taken_into_the_page(finished: tuple[Path, Results], tmp_path: Path) -> None:
    (tmp_path / "benchmark-notes.md").write_text("Tried *this*.\n")
    report.write(finished[1], tmp_path)
    assert "and what was tried\n\nTried *this*.\n" in (tmp_path / "benchmark.md").read_text()


def test_the_frontier_is_drawn_where_there_are_candidates(tmp_path: Path) -> None:
    candidates, plot = tmp_path / "frontier.json", tmp_path / "frontier.png"
    assert not ratio_plots.frontier(candidates, plot)
    rows = [
        {
            "name": n,
            "parameters": 6_000_000,
            "latency_ms": latency,
            "error": error,
            "crps": crps,
            "dtype": "float32",
        }
        for n, latency, error, crps in (("a", 5.0, 0.7, None), ("b", 9.0, 0.6, 0.4), ("c", 9.5, 0.65, 0.35))
    ]
    candidates.write_text(json.dumps(rows))
    assert ratio_plots.frontier(candidates, plot)
    assert plot.stat().st_size > 5_000


def test_a_manifest_gets_errors_figures_and_coverage(finished: tuple[Path, Results]) -> None:
    summary = manifest_summary(finished[1])
    place = "workflow/test_seen/runtime_seconds"
    errors, ratios, coverage = (summary[name] for name in ("mean_abs_ln", "ratios", "coverage"))
    assert isinstance(errors, dict)
    assert isinstance(ratios, dict)
    assert isinstance(coverage, dict)
    assert errors[place][JOBCAST] == pytest.approx(math.log(1.5), abs=1e-4)
    assert 0 < ratios[place] < 1
    assert ratios["recurring sources/test_seen/runtime_seconds"] > 0
    assert coverage[place] == pytest.approx(1.0)  # its interval always holds the truth
    json.dumps(summary)


def test_a_second_run_asks_nothing_again_and_another_checkpoint_asks_only_the_model(
    records: list[Record], tmp_path: Path
) -> None:
    few = [record for record in records if record.source == "julia"]
    first = evaluated(few, tmp_path, Oracle())
    pages = [(tmp_path / "docs" / name).read_bytes() for name in ("benchmark.md", "benchmark.json")]
    again = Oracle()
    assert evaluated(few, tmp_path, again) == first
    assert again.asked == []
    assert [(tmp_path / "docs" / n).read_bytes() for n in ("benchmark.md", "benchmark.json")] == pages
    other = Oracle("oracle-2")
    evaluated(few, tmp_path, other)
    assert len(other.asked) == 50 + 50  # all without history, and those with one once more
    assert sum(1 for _, past in other.asked if past) == 50


def test_texts_of_a_changed_reader_ask_the_model_again(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [r for r in records if r.source == "c3o"]
    evaluated(few, tmp_path, Oracle())
    monkeypatch.setitem(globals(), "text_of", lambda record: json.dumps(record.config))
    again = Oracle()
    evaluated(few, tmp_path, again)
    assert len(again.asked) == 50


def test_texts_are_kept_beside_the_records_that_they_were_read_from() -> None:
    remembered = harness._remembering(lambda record: str(record.config))
    # Records that come and go may share an identity: each must get its own text.
    texts = [remembered(replace(a_record(0, "c3o", "train"), config=f"text {n}")) for n in range(50)]
    assert texts == [f"text {n}" for n in range(50)]


def test_without_a_corpus_the_commands_say_so_and_exit_with_2(tmp_path: Path) -> None:
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "docs")]
    for app, given in ((command, arguments), (cli, ["evaluate", *arguments])):
        result = CliRunner().invoke(app, given)
        assert result.exit_code == 2
        assert "JOBCAST_DATA" in result.output
    assert not (tmp_path / "docs").exists()


def test_an_unknown_source_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "gha.jsonl.xz").touch()
    result = CliRunner().invoke(command, ["--data", str(tmp_path), "--source", "nowhere"])
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert "it has gha" in result.output


def test_both_commands_list_the_same_options() -> None:
    shown = [CliRunner().invoke(app, given).output for app, given in ((command, ["--help"]), (cli, HELP))]
    for option in ("--checkpoint", "--source", "--limit", "--seed", "--runs", "--baselines-only"):
        assert all(option in text for text in shown)


def test_without_the_extra_the_command_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name == "model.evaluation.__main__":
            raise ModuleNotFoundError("No module named 'lightgbm'", name="lightgbm")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", missing)
    result = CliRunner().invoke(cli, HELP)
    assert result.exit_code == 2
    assert "needs the package lightgbm" in result.output
    assert "pip install 'jobcast[evaluate]'" in result.output


def test_without_a_forecaster_only_the_baselines_are_stored(records: list[Record], tmp_path: Path) -> None:
    few = [r for r in records if r.source == "c3o"]
    assert evaluated(few, tmp_path) is None
    assert list((tmp_path / "runs").rglob("*.npz"))
    assert not (tmp_path / "docs").exists()
