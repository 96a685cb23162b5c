"""Cells, baselines, the run and its report on a small synthetic corpus with an obvious rule."""

import copy
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from model.evaluation import plots, report
from model.evaluation.__main__ import main
from model.evaluation.baselines import KIND_MEDIAN, LAST_THREE, KindMedian, last_three
from model.evaluation.boosting import LIGHTGBM, LIGHTGBM_HISTORY, Boosting, BoostingOptions
from model.evaluation.cells import BEFORE_THE_FLOW, QUANTILES, TARGETS, Cell, cells_of, sampled
from model.evaluation.features import history_features, numbers_of
from model.evaluation.results import JOBCAST, JOBCAST_HISTORY, METHODS, Results
from model.evaluation.run import Options, run
from model.evaluation.store import Store
from model.jobs.job import Outcome
from model.training.corpus import HistoryIndex, Record

RUNTIME = TARGETS.index("runtime_seconds")
MIDDLE = QUANTILES.index(0.5)
SMALL = BoostingOptions(
    per_source=300, rounds=60, leaves=7, components=4, numbers=10, learning_rate=0.2, threads=1
)


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


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [a_record(n, source, split_of(n)) for source in ("c3o", "julia") for n in range(330)]


@pytest.fixture(scope="module")
def cells(records: list[Record]) -> list[Cell]:
    return cells_of(records, HistoryIndex(records), limit=1000, seed=0)


class Oracle:
    """A forecaster that knows the truth up to a factor, and counts what it is asked."""

    version = "oracle-1"

    def __init__(self) -> None:
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
            factor = 1.1 if history else 1.5
            yield {
                target: tuple(
                    record.targets.get(target, 1.0) * factor * 4 ** (tau - 0.5) for tau in quantiles
                )
                for target in targets
            }


def evaluated(records: list[Record], directory: Path, forecaster: Oracle | None) -> Results | None:
    options = Options(output=directory / "docs", runs=directory / "runs", boosting=SMALL)
    with Progress(console=Console(file=io.StringIO())) as progress:
        return run(records, text_of, forecaster, options, progress)


@pytest.fixture(scope="module")
def finished(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    directory = tmp_path_factory.mktemp("evaluation")
    results = evaluated(records, directory, Oracle())
    assert results is not None
    return directory, results


def mean_error(cell: Cell, predicted: np.ndarray) -> float:
    return float(np.abs(np.log(predicted / cell.truth("runtime_seconds"))).mean())


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


def test_kind_median_falls_back_to_the_family_then_to_everything(cells: list[Cell]) -> None:
    one = a_record(0, "c3o", "train")
    train = [replace(one, targets={"runtime_seconds": value}) for value in (1.0, 10.0, 100.0)]
    baseline = KindMedian(train)
    assert baseline.predict(cells[0])[0, RUNTIME, MIDDLE] == pytest.approx(10.0)
    relative = replace(one, kind="never seen")
    stranger = replace(relative, family="never seen")
    elsewhere = KindMedian([*train, replace(stranger, kind="x", targets={"runtime_seconds": 1e6})])
    for record, median in ((relative, 10.0), (stranger, 10.0**1.5)):
        case = replace(cells[0].cases[0], record=replace(record, family=record.family.replace("seen", "s")))
        found = elsewhere.predict(replace(cells[0], cases=(case,)))[0]
        assert found[RUNTIME, MIDDLE] == pytest.approx(median)
        assert np.isnan(found[TARGETS.index("cpu_cores")]).all()


def test_last_three_takes_the_median_of_the_newest_and_else_falls_back(cells: list[Cell]) -> None:
    history = tuple(Outcome({"runtime_seconds": v}, age_seconds=1.0) for v in (5.0, 1.0, 9.0, 1000.0, 1000.0))
    cases = (replace(cells[0].cases[0], history=history), cells[0].cases[1])
    fallback = np.full((2, len(TARGETS), len(QUANTILES)), 7.0)
    answer = last_three(replace(cells[0], cases=cases), fallback)
    assert answer[:, RUNTIME, MIDDLE].tolist() == [5.0, 7.0]
    assert answer[0, TARGETS.index("cpu_cores"), MIDDLE] == 7.0
    assert np.isnan(answer[..., 0]).all()


def test_numbers_are_read_with_the_key_before_them() -> None:
    text = '{"size": 12, "rate": -1.5e3, "size": 99}\nexport CORE_UTILIZATION = 40\nversion v2x sha a1b2'
    assert dict(numbers_of(text)) == {"size": 12.0, "rate": -1500.0, "core_utilization": 40.0}


def test_history_features_are_those_of_the_target() -> None:
    past = [
        Outcome({"cpu_cores": 3.0}, 10.0, True),
        Outcome({"runtime_seconds": math.e}, 99.0, False),
        Outcome({"runtime_seconds": math.e**3}, 200.0, True),
    ]
    known, unknown = history_features([past, ()], "runtime_seconds")
    assert known.tolist() == pytest.approx([1.0, 2.0, 2.0, math.log(100.0), 0.0])
    assert unknown[2] == 0
    assert np.isnan(unknown[[0, 1, 3, 4]]).all()


def test_boosting_learns_the_rule_from_text_and_numbers(records: list[Record], cells: list[Cell]) -> None:
    train, val = ([r for r in records if r.split == split] for split in ("train", "val"))
    boosting = Boosting(train, val, text_of, SMALL)
    fitted = boosting.fit("runtime_seconds", with_history=False)
    assert fitted is not None
    predicted = fitted.predict(cells[0])
    assert mean_error(cells[0], predicted[:, MIDDLE]) < 0.25
    assert (np.diff(predicted[:, [0, MIDDLE, -1]], axis=1) >= 0).all()
    assert boosting.fit("cpu_cores", with_history=True) is None


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
    cells = finished[1]["cells"]
    assert [(c["name"], c["split"], c["n"]) for c in cells] == [
        ("c3o", "test_seen", 30),
        ("c3o", "test_unseen", 20),
        ("julia", "test_seen", 30),
        ("julia", "test_unseen", 20),
    ]
    for cell in cells:
        assert tuple(finished[1]["methods"]) == METHODS
        assert {scores["n"] for scores in cell["scores"].values()} == {cell["n"]}
        assert cell["scores"][JOBCAST]["mean_abs_ln"] == pytest.approx(math.log(1.5), abs=1e-4)
        expected = 1.1 if cell["source"] == "julia" else 1.5
        assert cell["scores"][JOBCAST_HISTORY]["mean_abs_ln"] == pytest.approx(math.log(expected), abs=1e-4)
        assert cell["scores"][LIGHTGBM]["coverage"] is not None
        assert cell["scores"][LAST_THREE]["coverage"] is None


def test_history_helps_where_jobs_recur(finished: tuple[Path, Results]) -> None:
    julia = next(c for c in finished[1]["cells"] if c["name"] == "julia")
    error = {method: float(str(scores["mean_abs_ln"])) for method, scores in julia["scores"].items()}
    assert error[LAST_THREE] < 0.2 < 1.0 < error[KIND_MEDIAN]
    assert error[LIGHTGBM_HISTORY] < 0.2


def test_ratios_are_geometric_means_over_sources(finished: tuple[Path, Results]) -> None:
    summary = finished[1]["summary"][0]
    cell = next(c for c in finished[1]["cells"] if c["family"] == summary["family"])
    ours, theirs = (float(str(cell["scores"][m]["mean_abs_ln"])) for m in (JOBCAST, KIND_MEDIAN))
    assert summary["ratios"][f"{JOBCAST} / {KIND_MEDIAN}"] == pytest.approx(ours / theirs, abs=1e-4)


def test_the_report_is_written_again_byte_for_byte(finished: tuple[Path, Results], tmp_path: Path) -> None:
    directory, results = finished
    stored = json.loads((directory / "docs" / "evaluation.json").read_text())
    report.write(stored, tmp_path)
    for name in ("evaluation.md", "evaluation.json"):
        assert (tmp_path / name).read_bytes() == (directory / "docs" / name).read_bytes()
    plots.calibration(results, JOBCAST_HISTORY, tmp_path / "calibration.png")
    drawn = directory / "docs" / "img" / "calibration.png"
    assert (tmp_path / "calibration.png").read_bytes() == drawn.read_bytes()
    assert (directory / "docs" / "img" / "predicted-vs-true.png").stat().st_size > 10_000


def test_the_report_names_what_is_missed(finished: tuple[Path, Results]) -> None:
    results = copy.deepcopy(finished[1])
    good = report.render(results)
    assert f"{JOBCAST} beats {KIND_MEDIAN} in 4 of 4 family x target x split cells; missed: none." in good
    results["summary"][0]["ratios"][f"{JOBCAST} / {KIND_MEDIAN}"] = 1.25
    missed = report.render(results)
    assert f"{JOBCAST} beats {KIND_MEDIAN} in 3 of 4" in missed
    assert "missed: ci runtime_seconds test_seen (1.250)." in missed
    assert "**1.25**" in missed


def test_a_second_run_asks_nothing_again_and_another_checkpoint_asks_only_the_model(
    records: list[Record], finished: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the baselines were fitted again")

    monkeypatch.setattr("model.evaluation.stored.Boosting", refuse)
    again = Oracle()
    assert evaluated(records, finished[0], again) == finished[1]
    assert again.asked == []
    other = Oracle()
    other.version = "oracle-2"
    evaluated(records, finished[0], other)
    assert len(other.asked) == 100 + 50  # all without history, and those with one once more
    assert sum(1 for _, past in other.asked if past) == 50


def test_texts_of_a_changed_reader_refit_the_baseline(
    records: list[Record], finished: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("fitted again")

    monkeypatch.setattr("model.evaluation.stored.Boosting", refuse)
    monkeypatch.setitem(globals(), "text_of", lambda record: str(record.config))
    with pytest.raises(RuntimeError, match="fitted again"):
        evaluated(records, finished[0], Oracle())


def test_texts_of_a_changed_reader_ask_the_model_again(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [r for r in records if r.source == "c3o"]
    evaluated(few, tmp_path, Oracle())
    monkeypatch.setitem(globals(), "text_of", lambda record: json.dumps(record.config))
    again = Oracle()
    evaluated(few, tmp_path, again)
    assert len(again.asked) == 50


def test_without_a_corpus_the_command_says_so_and_exits_with_2(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--data", str(tmp_path), "--output", str(tmp_path / "docs")])
    assert result.exit_code == 2
    assert "JOBCAST_DATA" in result.output
    assert not (tmp_path / "docs").exists()


def test_without_a_forecaster_only_the_baselines_are_stored(records: list[Record], tmp_path: Path) -> None:
    few = [r for r in records if r.source == "c3o"]
    assert evaluated(few, tmp_path, None) is None
    assert list((tmp_path / "runs").rglob("*.npz"))
    assert not (tmp_path / "docs").exists()
