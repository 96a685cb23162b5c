"""The baselines on small synthetic sources with obvious rules."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from model.evaluation import methods, suite
from model.evaluation.baselines import Medians, last_values, stage_of
from model.evaluation.cells import QUANTILES, TARGETS, Cell, cells_of
from model.evaluation.features import (
    FeatureOptions,
    TextFeatures,
    history_features,
)
from model.evaluation.intervals import ENOUGH_RESIDUALS, offsets, spread
from model.evaluation.learner import Fit, Parameters, Rows, group_weights
from model.evaluation.linear import RidgeLearner
from model.evaluation.methods import WITHOUT_HISTORY
from model.evaluation.neighbours import NeighboursLearner
from model.evaluation.requested import requested_of
from model.evaluation.store import Store
from model.evaluation.suite import (
    BASELINES,
    BASELINES_WITH_HISTORY,
    BaselineOptions,
    baselines,
    chosen_parameters,
)
from model.evaluation.text_values import labels_of, numbers_of
from model.evaluation.tuning import RATIO, tuned
from model.jobs import read
from model.jobs.job import Outcome
from model.training.corpus import HistoryIndex, Record
from model.training.examples import job_of, text_of
from model.training.views import BEFORE_THE_FLOW
from tests.model.jobs_fixtures import CHAIN, workflow_of

RUNTIME = TARGETS.index("runtime_seconds")
MIDDLE = QUANTILES.index(0.5)
SMALL = BaselineOptions(
    per_source=200, searched=120, rounds=60, processes=1, features=FeatureOptions(components=4, numbers=20)
)


def a_task(number: int, split: str) -> Record:
    """Without a key: its runtime is its size times 10 (`slow`) or 1 (`fast`); it asks for twice that."""
    tool, size = ("slow", "fast")[number % 2], 1 + number * 7 % 50
    runtime = size * (10.0 if tool == "slow" else 1.0)
    return Record(
        id=f"task{number}",
        source="tasks",
        family="workflow",
        kind="nextflow",
        group=tool,
        key=None,
        date=None,
        config={"task": tool, "size": size, "time_limit_seconds": 2 * runtime},
        context={},
        targets={"runtime_seconds": runtime},
        split=split,
    )


def a_run(number: int, split: str) -> Record:
    """Recurring: four jobs, a run a day, each day 2 % slower than the one before."""
    job, day = number % 4, number // 4
    return Record(
        id=f"run{number}",
        source="runs",
        family="ci",
        kind="text",
        group=f"group {job // 2}",
        key=f"job {job}",
        date=f"{2020 + day // 336}-{1 + day // 28 % 12:02}-{1 + day % 28:02}",
        config=f"job: {job}",
        context={},
        targets={"runtime_seconds": 10.0 ** (job + 1) * 1.02**day},
        split=split,
    )


def split_of(number: int) -> str:
    if number < 200:
        return "train"
    return "val" if number < 260 else "test_seen"


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return [make(n, split_of(n)) for make in (a_task, a_run) for n in range(280)]


@pytest.fixture(scope="module")
def cells(records: list[Record]) -> list[Cell]:
    return cells_of(records, HistoryIndex(records), limit=1000, seed=0)


Answers = dict[str, Sequence[np.ndarray]]


def answered(
    records: list[Record], cells: Sequence[Cell], directory: Path, options: BaselineOptions = SMALL
) -> Answers:
    with Progress(console=Console(file=io.StringIO())) as progress:
        return dict(baselines(records, text_of, job_of, cells, Store(directory), options, progress))


@pytest.fixture(scope="module")
def finished(
    records: list[Record], cells: list[Cell], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Answers]:
    directory = tmp_path_factory.mktemp("baselines")
    return directory, answered(records, cells, directory)


def errors(cell: Cell, values: np.ndarray) -> np.ndarray:
    """|ln predicted median - ln truth| of the runtime."""
    return np.abs(np.log(values[:, RUNTIME, MIDDLE] / cell.truth("runtime_seconds")))


def place_of(cells: Sequence[Cell], source: str) -> int:
    return next(place for place, cell in enumerate(cells) if cell.source == source)


def outcomes(*values: float) -> tuple[Outcome, ...]:
    return tuple(Outcome({"runtime_seconds": value}, age_seconds=1.0) for value in values)


# Points


def test_medians_are_those_of_the_most_similar_records_that_train_holds() -> None:
    one = replace(a_run(0, "train"), kind="k", group="g", key="a", context={"stage": "route"})
    train = [
        replace(one, targets={"runtime_seconds": 1.0}),
        replace(one, key="b", targets={"runtime_seconds": 10.0}),
        replace(one, key="b", context={"stage": "place"}, targets={"runtime_seconds": 1000.0}),
        replace(one, key="c", group="h", context={"stage": "place"}, targets={"runtime_seconds": 1e5}),
    ]
    medians = Medians(train, "runtime_seconds", Medians.KEY)
    asked = [
        one,  # its key
        replace(one, key="new"),  # its stage in its group
        replace(one, key=None, context={"stage": "place"}, group="new"),  # its stage elsewhere
        replace(one, key=None, context={}),  # its group
        replace(one, key=None, context={}, group="new"),  # its kind
        replace(one, key=None, context={}, group="new", kind="new"),  # its source
    ]
    everything = 10.0**2  # the median of ln over 1, 10, 1000, 1e5
    expected = [1.0, 10.0**0.5, 1e4, 10.0, everything, everything]
    assert np.exp(medians.predict(asked)).tolist() == pytest.approx(expected)
    by_kind = Medians(train, "runtime_seconds", Medians.KIND)
    assert np.exp(by_kind.predict(asked)).tolist() == pytest.approx([everything] * 6)
    assert np.isnan(Medians(train, "cpu_cores", Medians.KEY).predict(asked)).all()


def test_the_stage_is_the_context_s_or_what_the_configuration_calls_it() -> None:
    assert stage_of(replace(a_run(0, "train"), context={"stage": "route"})) == "route"
    assert stage_of(a_task(0, "train")) == "slow"
    assert stage_of(a_run(0, "train")) == ""


def test_last_values_take_the_median_of_the_newest_that_measured_the_target() -> None:
    other = Outcome({"cpu_cores": 2.0}, age_seconds=0.5)
    past = [(other, *outcomes(5.0, 1.0, 9.0, 1000.0)), (other,), ()]
    assert np.exp(last_values(past, "runtime_seconds", count=3))[0] == pytest.approx(5.0)
    assert np.exp(last_values(past, "runtime_seconds", count=1))[0] == pytest.approx(5.0)
    assert np.exp(last_values(past, "runtime_seconds", count=2))[0] == pytest.approx(5.0**0.5)
    assert np.isnan(last_values(past, "runtime_seconds", count=3)[1:]).all()


def test_a_workflow_requests_the_limits_along_its_longest_chain() -> None:
    assert requested_of(workflow_of(CHAIN)) == {"runtime_seconds": (25 + 30) * 60.0}
    unlimited = "\n".join(line for line in CHAIN.splitlines() if "timeout" not in line)
    assert requested_of(workflow_of(unlimited)) == {}


def test_a_buildkite_job_requests_its_own_step_s_limit_with_its_platform_filled_in() -> None:
    config = (
        "buildkite_job: build linux\n"
        "steps:\n"
        "  - group: all\n"
        "    steps:\n"
        '      - {label: "build ${OS?}", command: make, timeout_in_minutes: "${TIMEOUT?}"}\n'
        "      - {label: docs, command: make docs, timeout_in_minutes: 90}\n"
        "# build.arches\n"
        "# OS TIMEOUT\n"
        "linux 45\n"
    )
    assert requested_of(read("buildkite", config, {}).jobs[0]) == {"runtime_seconds": 45 * 60.0}
    docs = config.replace("build linux", "docs", 1)
    assert requested_of(read("buildkite", docs, {}).jobs[0]) == {"runtime_seconds": 90 * 60.0}


def test_a_request_that_the_reader_found_is_taken_as_it_is() -> None:
    job = job_of(a_task(0, "train"))
    assert requested_of(job) == {"runtime_seconds": 20.0}


# Intervals


def test_offsets_are_quantiles_of_the_residuals_around_the_median() -> None:
    truth = np.linspace(-1.0, 1.0, 101)
    around = offsets(truth, np.zeros(101))
    assert around[MIDDLE] == 0
    assert around[[0, -1]] == pytest.approx([-0.9, 0.9])
    biased = offsets(truth + 5.0, np.zeros(101))
    assert (biased[:MIDDLE] == 0).all()
    assert (np.diff(biased) >= 0).all()
    values = spread(np.log(np.array([10.0])), around)
    assert values[0, MIDDLE] == pytest.approx(10.0)
    assert values[0, -1] == pytest.approx(10.0 * math.e**0.9)


def test_too_few_residuals_give_a_median_alone() -> None:
    few = offsets(np.zeros(ENOUGH_RESIDUALS), np.array([np.nan] + [0.0] * (ENOUGH_RESIDUALS - 1)))
    assert few[MIDDLE] == 0
    assert np.isnan(np.delete(few, MIDDLE)).all()


# Features


def test_numbers_are_read_with_the_key_before_them() -> None:
    text = '{"size": 12, "rate": -1.5e3, "size": 99}\nexport CORE_UTILIZATION = 40\nversion v2x sha a1b2'
    assert dict(numbers_of(text)) == {"size": 12.0, "rate": -1500.0, "core_utilization": 40.0}


def test_numbers_that_follow_a_number_are_read_with_their_place() -> None:
    found = dict(numbers_of("DIE_AREA: 0 0 620 520.8\nlayers: [1, 2]\nver: 1.2.3"))
    assert found["die_area"] == 0
    assert (found["die_area[2]"], found["die_area[3]"]) == (620.0, 520.8)
    assert (found["layers"], found["layers[1]"]) == (1.0, 2.0)
    assert "ver" not in found


def test_labels_are_short_values_that_are_no_numbers() -> None:
    text = "kind: spark job\njob: sort\nparameters:\n size: 12\n - machine: m4.large\nscript: " + "x" * 81
    assert labels_of(text) == {"kind": "spark job", "job": "sort", "machine": "m4.large"}


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


def test_features_tell_a_missing_number_from_a_zero_and_an_unseen_label_is_kept() -> None:
    def record(n: int, config: dict[str, object]) -> Record:
        return replace(a_task(n, "train"), config=config)

    train = [record(n, {"task": "slow", "size": n, **({"depth": 0} if n % 2 else {})}) for n in range(8)]
    features = TextFeatures(text_of, job_of, FeatureOptions(components=2)).fit(train)
    table = features.transform([*train[:2], record(9, {"task": "other", "machine": "new"})])
    missing = np.isnan(table.numbers)
    columns = missing[0] & ~missing[1]
    assert (table.numbers[1, columns] == 0).any()
    assert table.labels[2, :2].tolist() == ["fast", "other"]
    assert table.meaning.shape == (3, 2)


# Learning


def test_groups_weigh_the_same_whatever_their_size() -> None:
    weights = group_weights(np.array(["a", "a", "a", "b"]))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])


def a_fit(records: Sequence[Record], *, with_history: bool) -> Fit:
    known = [r for r in records if r.split in ("train", "val")]
    index = HistoryIndex(known)
    features = TextFeatures(text_of, job_of, FeatureOptions(components=3)).fit(known)

    def rows(split: str) -> tuple[Rows, np.ndarray]:
        chosen = [r for r in known if r.split == split]
        histories = [index.history_of(r) for r in chosen]
        with_past = [i for i, h in enumerate(histories) if h or not with_history]
        chosen, histories = [chosen[i] for i in with_past], [histories[i] for i in with_past]
        history = history_features(histories, "runtime_seconds") if with_history else None
        truth = np.log(np.array([r.targets["runtime_seconds"] for r in chosen]))
        return Rows(features.transform(chosen), history, np.ones(len(chosen))), truth

    (train, truth), (val, val_truth) = rows("train"), rows("val")
    return Fit(train, truth, val, val_truth, threads=1, seed=0)


def test_ridge_never_answers_beyond_what_it_has_seen(records: list[Record]) -> None:
    fit = a_fit([r for r in records if r.source == "tasks"], with_history=False)
    model = RidgeLearner().fit(fit, {"alpha": 0.1})
    huge = replace(fit.val, table=replace(fit.val.table, numbers=fit.val.table.numbers * 1e6))
    assert model.predict(huge).max() <= fit.truth.max()
    assert np.abs(model.predict(fit.val) - fit.val_truth).mean() < 0.3


def test_one_neighbour_is_the_record_itself_and_three_are_their_median(records: list[Record]) -> None:
    fit = a_fit([r for r in records if r.source == "tasks"], with_history=False)
    parameters: Parameters = {"space": "SVD and numbers", "k": 1, "weights": "uniform"}
    own = NeighboursLearner().fit(fit, parameters).predict(fit.train)
    assert np.abs(own - fit.truth).max() < 1e-6
    three = NeighboursLearner().fit(fit, {**parameters, "k": 3}).predict(fit.val)
    assert np.isin(np.round(three, 9), np.round(fit.truth, 9)).all()


def test_the_ratio_to_past_runs_is_learned_where_val_says_so(records: list[Record]) -> None:
    # Each day is 2 % slower: the values drift out of what train held, the ratio stays.
    fit = a_fit([r for r in records if r.source == "runs"], with_history=True)
    best = tuned(NeighboursLearner(), fit, np.arange(len(fit.train)))
    assert best.parameters[RATIO] is True
    assert best.error < 0.01
    assert best.predict(fit.val) == pytest.approx(fit.val_truth, abs=0.05)
    plain = tuned(
        NeighboursLearner(),
        a_fit([r for r in records if r.source == "runs"], with_history=False),
        np.arange(len(fit.train)),
    )
    assert RATIO not in plain.parameters
    assert plain.error > 10 * best.error


# The suite


def test_every_baseline_answers_every_cell(cells: list[Cell], finished: tuple[Path, Answers]) -> None:
    assert tuple(finished[1]) == (*BASELINES, *BASELINES_WITH_HISTORY)
    for arrays in finished[1].values():
        assert [values.shape for values in arrays] == [
            (len(cell.cases), len(TARGETS), len(QUANTILES)) for cell in cells
        ]
        assert all(np.isnan(values[:, TARGETS.index("cpu_cores")]).all() for values in arrays)


@pytest.mark.parametrize(
    ("method", "least", "most"),
    [
        ("kind median", 0.8, 2.0),
        ("key median", 0.5, 1.0),
        ("requested", math.log(2) - 1e-6, math.log(2) + 1e-6),
        ("requested, scaled", 0.0, 1e-6),
        ("ridge", 0.0, 0.3),
        ("kNN", 0.0, 0.3),
        ("LightGBM", 0.0, 0.3),
        ("CatBoost", 0.0, 0.3),
    ],
)
def test_each_learns_what_it_can_of_the_rule(
    cells: list[Cell], finished: tuple[Path, Answers], method: str, least: float, most: float
) -> None:
    place = place_of(cells, "tasks")
    values = finished[1][method][place]
    assert least <= errors(cells[place], values).mean() <= most
    quantiles = values[:, RUNTIME]
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


def test_history_helps_where_jobs_recur(cells: list[Cell], finished: tuple[Path, Answers]) -> None:
    place = place_of(cells, "runs")
    error = {m: errors(cells[place], arrays[place]).mean() for m, arrays in finished[1].items()}
    for method in BASELINES_WITH_HISTORY:
        assert error[method] < 0.05 < error["key median"], method
    assert error["last run"] == pytest.approx(math.log(1.02))
    assert error["last 3"] == pytest.approx(2 * math.log(1.02))
    assert np.isnan(error["requested"])


def test_without_a_history_the_plain_baseline_answers(
    cells: list[Cell], finished: tuple[Path, Answers]
) -> None:
    place = place_of(cells, "tasks")
    for method, plain in WITHOUT_HISTORY.items():
        np.testing.assert_array_equal(finished[1][method][place], finished[1][plain][place])


def test_a_case_without_a_history_gets_the_plain_answer_among_others_that_have_one(
    records: list[Record], cells: list[Cell], tmp_path: Path
) -> None:
    cell = cells[place_of(cells, "runs")]
    new = replace(cell, cases=(replace(cell.cases[0], history=()), *cell.cases[1:]))
    options = replace(SMALL, only=("key median", "last 3"))
    found = answered(records, [new], tmp_path, options)
    last, plain = found["last 3"][0][:, RUNTIME], found["key median"][0][:, RUNTIME]
    np.testing.assert_array_equal(last[0], plain[0])
    assert (last[1:, MIDDLE] != plain[1:, MIDDLE]).all()


def test_what_was_chosen_is_kept_with_its_error_on_val(finished: tuple[Path, Answers]) -> None:
    chosen = chosen_parameters(Store(finished[0]))
    assert sorted(chosen) == ["runs", "tasks"]
    tasks = chosen["tasks"]["runtime_seconds"]
    assert {"ridge", "kNN", "LightGBM", "CatBoost", "requested, scaled"} <= set(tasks)
    assert "ridge + history" not in tasks  # no key: there is nothing to learn from
    assert set(dict(tasks["LightGBM"]["parameters"])) == {"leaves", "rate", "rounds"}  # type: ignore[call-overload]
    assert tasks["LightGBM"]["train records"] == 200
    assert tasks["LightGBM"]["searched on"] == 120
    assert tasks["requested"]["mean abs ln on val"] == pytest.approx(math.log(2))
    assert "CatBoost + history" in chosen["runs"]["runtime_seconds"]
    assert chosen_parameters(Store(finished[0] / "nowhere")) == {}


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("fitted again")


def test_what_is_stored_is_not_fitted_again(
    records: list[Record],
    cells: list[Cell],
    finished: tuple[Path, Answers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suite, "answer", refuse)
    again = answered(records, cells, finished[0], replace(SMALL, processes=2))
    for method, arrays in finished[1].items():
        for found, expected in zip(again[method], arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_other_measurements_texts_or_options_fit_again(
    records: list[Record],
    cells: list[Cell],
    finished: tuple[Path, Answers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suite, "answer", refuse)
    changed = [replace(records[0], targets={"runtime_seconds": 7.0}), *records[1:]]
    with pytest.raises(AssertionError, match="fitted again"):
        answered(changed, cells, finished[0])
    with pytest.raises(AssertionError, match="fitted again"):
        answered(records, cells, finished[0], replace(SMALL, seed=1))
    monkeypatch.setitem(globals(), "text_of", lambda record: str(record.config))
    with pytest.raises(AssertionError, match="fitted again"):
        answered(records, cells, finished[0])


def test_an_interrupted_run_goes_on_where_it_stopped(
    records: list[Record], cells: list[Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(SMALL, only=("kind median", "key median", "last run"))
    real = methods.answer
    asked: list[tuple[str, str]] = []

    def stopping(limit: int) -> Callable[..., object]:
        def answer(method: str, target: str, *rest: object) -> object:
            if len(asked) == limit:
                raise KeyboardInterrupt
            asked.append((method, target))
            return real(method, target, *rest)  # type: ignore[arg-type]

        return answer

    monkeypatch.setattr(suite, "answer", stopping(8))
    with pytest.raises(KeyboardInterrupt):
        answered(records, cells, tmp_path, options)
    monkeypatch.setattr(suite, "answer", stopping(1000))
    answered(records, cells, tmp_path, options)
    assert len(asked) == 2 * len(TARGETS) * len(options.methods)  # none twice


def test_openroad_before_the_flow_is_fitted_without_what_is_known_only_mid_flow(tmp_path: Path) -> None:
    def record(number: int, split: str) -> Record:
        area = 10 * (1 + number % 5)
        config = f"facts_before_stage:\n  area: {area}\nconfig.mk: |\n  export CORE_UTILIZATION = 40\n"
        return replace(
            a_run(number, split),
            source="openroad",
            kind="eda.openroad",
            key=None,
            config=config,
            context={"stage": "route"},
            targets={"runtime_seconds": float(area)},
        )

    records = [record(n, split_of(n)) for n in range(280)]
    cells = cells_of(records, HistoryIndex(records), limit=50, seed=0)
    assert {cell.name for cell in cells} == {"openroad", BEFORE_THE_FLOW}
    found = answered(records, cells, tmp_path, replace(SMALL, only=("kNN",)))["kNN"]
    error = {cell.name: errors(cell, values).mean() for cell, values in zip(cells, found, strict=True)}
    assert error["openroad"] < 0.01
    assert error[BEFORE_THE_FLOW] > 0.3
    assert set(chosen_parameters(Store(tmp_path))) == {"openroad", BEFORE_THE_FLOW}


def test_an_unknown_baseline_is_refused() -> None:
    assert replace(SMALL, only=("last 3", "kNN")).methods == ("kNN", "last 3")
    with pytest.raises(ValueError, match="no baseline is called lgbm"):
        _ = replace(SMALL, only=("lgbm",)).methods
