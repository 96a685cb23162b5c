"""Comparisons, verdicts, intervals and noise floors against values worked out by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.cells import QUANTILES, TARGETS, Case, Cell
from model.evaluation.comparison import SECOND_VIEW, Compared, Question, compare
from model.evaluation.forecast import JOBCAST
from model.evaluation.headline import headlines
from model.evaluation.noise import Floor, at_the_floor, floor_of, floors, named
from model.evaluation.parts import LONGER, SUBSECOND, with_parts
from model.evaluation.significance import (
    Pairs,
    drawn_ratios,
    family_interval,
    geometric_mean,
    interval,
    signed_rank,
)
from model.evaluation.store import Store
from model.evaluation.verdict import RECURRING_FAMILY, verdicts
from model.jobs.job import Outcome
from model.training.corpus import Record

RUNTIME = TARGETS.index("runtime_seconds")
ASKED = Question("test", JOBCAST, ("good", "poor"), bar=0.9, highest=1.0, floors=True)
PAST = (Outcome({"runtime_seconds": 1.0}, 60.0, True),)


def a_record(source: str = "c3o", group: str = "g", runtime: float = 10.0, text: str = "x") -> Record:
    return Record(
        id=f"{source} {group} {runtime} {text}",
        source=source,
        family="ci" if source in ("julia", "spack", "yocto", "gha") else "workflow",
        kind="spark",
        group=group,
        key=None,
        date=None,
        config=text,
        context={},
        targets={"runtime_seconds": runtime},
        split="test_seen",
    )


def a_cell(
    groups: Sequence[str], source: str = "c3o", known: Sequence[bool] | None = None, runtime: float = 10.0
) -> Cell:
    records = [a_record(source, group, runtime) for group in groups]
    pasts = [PAST if past else () for past in known or [False] * len(groups)]
    cases = tuple(Case(record, past) for record, past in zip(records, pasts, strict=True))
    return Cell(source, source, records[0].family, "test_seen", len(cases), cases)


def off_by(cell: Cell, errors: Sequence[float]) -> np.ndarray:
    """Run times that are off by these ln errors; NaN stays unanswered."""
    values = np.full((len(cell.cases), len(TARGETS), len(QUANTILES)), np.nan)
    values[:, RUNTIME] = (cell.truth("runtime_seconds") * np.exp(np.array(errors)))[:, None]
    return values


def answers(
    found: Sequence[tuple[Cell, Mapping[str, Sequence[float]]]],
    question: Question = ASKED,
    floor: Mapping[tuple[str, str], Floor] | None = None,
) -> list[Compared]:
    methods = found[0][1]
    predictions = {m: [off_by(cell, errors[m]) for cell, errors in found] for m in methods}
    return compare([cell for cell, _ in found], predictions, QUANTILES, floor or {}, question, 0)


def test_the_ratio_is_of_group_means_and_the_best_baseline_is_named() -> None:
    cell = a_cell(["a", "a", "b"])
    errors = {JOBCAST: (0.1, 0.3, -0.4), "poor": (2.0, 2.0, 2.0), "good": (0.5, -0.7, 0.2)}
    (one,) = answers([(cell, errors)])
    row = one.row
    assert (row["n"], row["groups"], row["baseline"], row["apart"]) == (3, 2, "good", "")
    assert row["error"] == pytest.approx((0.2 + 0.4) / 2)
    assert row["baseline_error"] == pytest.approx((0.6 + 0.2) / 2)
    assert row["ratio"] == pytest.approx(0.75)
    assert [(g["group"], g["n"], g["error"], g["baseline_error"]) for g in row["by_group"]] == [
        ("a", 2, 0.2, 0.6),
        ("b", 1, 0.4, 0.2),
    ]
    # Of two groups a draw takes one twice or both: the ratios are 1/3, 3/4 and 2.
    assert row["interval"] == pytest.approx([1 / 3, 2.0], abs=1e-5)


def test_hindsight_mixes_the_model_and_all_who_answer_every_record() -> None:
    cell = a_cell(["a", "a", "b"])
    errors = {JOBCAST: (0.5, 0.5, 0.5), "good": (-0.4, -0.4, -0.4), "poor": (0.0, 0.0, math.nan)}
    (one,) = answers([(cell, errors)], replace(ASKED, least_share=0.0))
    assert (one.row["baseline"], one.row["n"]) == ("poor", 2)
    assert one.row["hindsight"] == pytest.approx(0.0)  # on the two that are compared "poor" alone is right
    (one,) = answers([(cell, errors)])  # "poor" leaves too many out; the others err to either side
    assert one.row["baseline"] == "good"
    assert one.row["hindsight"] == pytest.approx(0.005)  # nine twentieths and eleven
    (verdict,) = verdicts(ASKED, [one], 0)
    assert verdict["figure"] == pytest.approx(1.25)
    assert verdict["hindsight"] == pytest.approx(0.0125, abs=1e-4)


def test_hindsight_is_no_better_than_who_errs_to_one_side() -> None:
    errors = {JOBCAST: (0.2, 0.2), "good": (0.4, 0.4), "poor": (1.0, 1.0)}
    found = answers([(a_cell(["a", "b"]), errors)])
    assert found[0].row["hindsight"] == pytest.approx(0.2)
    assert verdicts(ASKED, found, 0)[0]["hindsight"] == pytest.approx(0.5)


def test_a_baseline_that_answers_few_records_is_not_the_bar_unless_asked_for() -> None:
    cell = a_cell(["a", "b", "c"])
    errors = {JOBCAST: (0.1, 0.3, 0.8), "good": (0.01, math.nan, 0.2), "poor": (1.0, 1.0, 1.0)}
    (one,) = answers([(cell, errors)])
    assert one.row["baseline"] == "poor"
    (asked,) = answers([(cell, errors)], replace(ASKED, baselines=("good",), least_share=0.0))
    assert (asked.row["baseline"], asked.row["n"]) == ("good", 2)
    assert asked.row["ratio"] == pytest.approx(0.45 / 0.105, rel=1e-4)
    (nobody,) = answers([(cell, errors)], replace(ASKED, baselines=("good",)))
    assert (nobody.row["baseline"], nobody.row["ratio"]) == (None, None)


def test_with_history_only_known_records_of_recurring_sources_count() -> None:
    question = replace(ASKED, known=True, sources=frozenset({"gha"}), highest=None)
    gha = a_cell(["a", "b"], "gha", [True, False])
    errors = {JOBCAST: (0.3, 9.0), "good": (0.4, 0.1)}
    found = answers([(gha, errors), (a_cell(["a", "b"], known=[True, True]), errors)], question)
    assert [(one.row["name"], one.row["n"]) for one in found] == [("gha", 1)]
    assert found[0].row["ratio"] == pytest.approx(0.75)
    assert found[0].row["interval"] is None
    (verdict,) = verdicts(question, found, 0)
    assert (verdict["family"], verdict["met"], verdict["interval"]) == (RECURRING_FAMILY, True, None)


def test_a_figure_is_the_geometric_mean_over_sources_and_judged_with_the_worst_of_them() -> None:
    def verdict(first: float, second: float) -> dict[str, object]:
        found = answers(
            [
                (a_cell(["a", "b"], "c3o"), {JOBCAST: (first, first), "good": (1.0, 1.0)}),
                (a_cell(["a", "b"], "cws"), {JOBCAST: (second, second), "good": (1.0, 1.0)}),
            ]
        )
        (one,) = verdicts(ASKED, found, 0)
        return dict(one)

    met = verdict(0.4, 0.9)
    assert met["figure"] == pytest.approx(0.6)
    assert met["interval"] == pytest.approx([0.6, 0.6])
    assert (met["met"], met["worst"], met["worst_ratio"]) == (True, "cws", 0.9)
    assert verdict(0.9, 0.95)["met"] is False  # the figure is above its bar
    above = verdict(0.1, 1.2)
    assert above["figure"] == pytest.approx(math.sqrt(0.12), abs=1e-5)
    assert above["met"] is False  # a source above 1 is enough
    assert (above["pairs"], above["better"], above["p"]) == (4, 2, None)


def test_sources_at_their_noise_floor_are_left_out_of_the_figure_and_shown_beside_it() -> None:
    found = answers(
        [
            (a_cell(["a", "b"], "gha"), {JOBCAST: (0.4, 0.4), "good": (0.8, 0.8)}),
            (a_cell(["a", "b"], "julia"), {JOBCAST: (0.8, 0.8), "good": (0.4, 0.4)}),
            (a_cell(["a", "b"], "spack"), {JOBCAST: (0.4, 0.4), "good": (0.2, 0.2)}),
        ],
        floor={
            ("spack", "runtime_seconds"): Floor(0.19, 40, 9),
            ("gha", "runtime_seconds"): Floor(0.1, 40, 9),
        },
    )
    (verdict,) = verdicts(ASKED, found, 0)
    assert (verdict["sources"], verdict["apart"]) == (["gha"], ["julia", "spack"])
    assert verdict["figure"] == pytest.approx(0.5)
    assert verdict["everything"] == pytest.approx(2 ** (1 / 3), abs=1e-5)
    assert found[2].row["floor"] == 0.19


def test_a_model_that_leaves_a_source_unanswered_misses_its_cell() -> None:
    found = answers([(a_cell(["a", "b"]), {JOBCAST: (0.1, math.nan), "good": (1.0, 1.0)})])
    (verdict,) = verdicts(ASKED, found, 0)
    assert (verdict["met"], verdict["figure"], verdict["unanswered"]) == (False, None, ["c3o"])


def test_a_second_view_of_a_source_never_counts() -> None:
    cell = a_cell(["a", "b"])
    view = replace(cell, name="another view", counts=False)
    errors = {JOBCAST: (0.4, 0.4), "good": (0.8, 0.8)}
    found = answers([(cell, errors), (view, {**errors, "good": (0.1, 0.1)})])
    assert [one.row["apart"] for one in found] == ["", SECOND_VIEW]
    (verdict,) = verdicts(ASKED, found, 0)
    assert (verdict["figure"], verdict["everything"], verdict["apart"]) == (0.5, 0.5, [])


def test_short_bitbake_tasks_are_told_apart() -> None:
    cases = tuple(Case(a_record("yocto", "g", runtime), ()) for runtime in (0.3, 5.0, 0.9, 1.0))
    whole = replace(a_cell(["g"], "yocto"), cases=cases)
    other = a_cell(["a", "b"])
    cells, arrays = with_parts([whole, other], {"m": [np.arange(4.0), np.arange(2.0)]})
    assert [(cell.name, cell.counts, len(cell.cases)) for cell in cells] == [
        ("yocto", False, 4),
        (LONGER, True, 2),
        (SUBSECOND, True, 2),
        ("c3o", True, 2),
    ]
    assert [found.tolist() for found in arrays["m"]] == [[0, 1, 2, 3], [1, 3], [0, 2], [0, 1]]


def test_draws_are_the_same_alone_and_in_company_and_pair_the_groups() -> None:
    pairs = Pairs("one", np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    drawn = drawn_ratios(pairs, 7)
    assert set(drawn.tolist()) == {0.5, 1.0, 1.5}
    assert np.mean(drawn == 1.0) == pytest.approx(0.5, abs=0.05)
    assert interval(pairs, 7) == (0.5, 1.5)
    assert drawn.tolist() == drawn_ratios(pairs, 7).tolist()
    assert drawn.tolist() != drawn_ratios(replace(pairs, name="two"), 7).tolist()
    # Groups differ a hundredfold, the ratio does not: drawing the methods apart would not see that.
    hard = np.array([0.01, 1.0, 0.3, 0.05])
    assert interval(Pairs("p", 0.8 * hard, hard), 0) == pytest.approx((0.8, 0.8))


def test_the_interval_of_a_family_draws_within_its_sources() -> None:
    steady = Pairs("steady", np.array([2.0, 2.0]), np.array([1.0, 1.0]))
    single = Pairs("single", np.array([0.5]), np.array([1.0]))
    varied = Pairs("varied", np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert family_interval([steady, single], 0) == pytest.approx((1.0, 1.0))
    assert family_interval([single], 0) is None
    assert family_interval([steady, varied], 0) == pytest.approx((1.0, math.sqrt(3.0)))
    assert geometric_mean([2.0, 0.5, 1.0]) == pytest.approx(1.0)


def test_an_error_of_nothing_still_has_a_ratio() -> None:
    exact = np.zeros(2)
    assert Pairs("p", exact, exact).ratio == 1.0
    assert Pairs("p", exact, np.ones(2)).ratio == pytest.approx(1e-5)


def test_the_signed_rank_test_of_six_groups_that_are_all_better() -> None:
    theirs = np.arange(1.0, 7.0)
    found = signed_rank([Pairs("a", theirs[:4] * 0.5, theirs[:4]), Pairs("b", theirs[4:] * 0.5, theirs[4:])])
    assert (found.pairs, found.better) == (6, 6)
    assert found.p == pytest.approx(2 / 2**6)
    tied = signed_rank([Pairs("a", theirs - 0.5, theirs), Pairs("b", theirs, theirs)])
    assert (tied.pairs, tied.better) == (6, 6)
    assert tied.p is not None
    assert 0.01 < tied.p < 0.05
    assert signed_rank([Pairs("b", theirs, theirs)]).p is None
    assert signed_rank([]).pairs == 0


def test_the_noise_floor_leaves_each_repeat_out() -> None:
    def repeats(group: str, text: str, *logs: float) -> list[Record]:
        return [a_record("gha", group, math.exp(log), text) for log in logs]

    one = repeats("a", "same", 0.0, 1.0, 3.0)  # the medians of the others: 2, 1.5 and 0.5
    once = repeats("a", "alone", 8.0) + repeats("b", "twice", 1.0, 9.0)
    floor = floor_of([*one, *once], "runtime_seconds", str_of)
    assert floor.value == pytest.approx((2.0 + 0.5 + 2.5) / 3)
    assert (floor.repeats, floor.texts) == (3, 1)
    steady = floor_of([*one, *repeats("b", "steady", 4.0, 4.0, 4.0, 4.0)], "runtime_seconds", str_of)
    assert steady.value == pytest.approx(5 / 6)  # groups weigh the same
    elsewhere = [replace(record, context={"host": place}) for place, record in enumerate(one)]
    assert floor_of(elsewhere, "runtime_seconds", str_of) == Floor(None, 0, 0)
    assert floor_of(one, "cpu_cores", str_of) == Floor(None, 0, 0)


def test_the_noise_floor_agrees_with_medians_taken_one_by_one() -> None:
    rng = np.random.default_rng(3)
    for count in range(3, 12):
        logs = np.round(rng.normal(size=count), 1)  # rounded: some repeats are equal
        records = [a_record("gha", "a", math.exp(log)) for log in logs]
        expected = np.mean([abs(logs[i] - np.median(np.delete(logs, i))) for i in range(count)])
        assert floor_of(records, "runtime_seconds", str_of).value == pytest.approx(expected)


def test_floors_are_stored_and_measured_again_for_other_texts(tmp_path: Path) -> None:
    records = [a_record("gha", "a", runtime) for runtime in (1.0, 2.0, 4.0)]
    cells = [replace(a_cell(["a"], "gha"), cases=(Case(records[0], ()),))]
    asked: list[str] = []

    def counted(record: Record) -> str:
        asked.append(record.id)
        return str(record.config)

    store = Store(tmp_path)
    found = floors(records, cells, counted, store)
    assert found["gha", "runtime_seconds"].value == pytest.approx(
        (1.5 + 1.5) * math.log(2) / 3 + 0.0, abs=1e-9
    )
    assert found["gha", "cpu_cores"] == Floor(None, 0, 0)
    asked.clear()
    assert floors(records, cells, counted, store) == found
    assert len(asked) == 1  # only the digest of the cell
    assert floors(records, cells, lambda record: record.id, store)["gha", "runtime_seconds"].value is None


def test_what_is_at_the_floor() -> None:
    assert at_the_floor(Floor(0.9, 30, 5), 1.0)
    assert not at_the_floor(Floor(0.89, 30, 5), 1.0)
    assert not at_the_floor(Floor(0.9, 29, 5), 1.0)
    assert not at_the_floor(Floor(None, 0, 0), 1.0)
    assert named("spack", "peak_memory_bytes")
    assert not named("spack", "runtime_seconds")
    assert named("julia", "runtime_seconds")
    assert named(SUBSECOND, "cpu_cores")
    assert not named(LONGER, "cpu_cores")


def test_headlines_say_mean_and_deviation_over_the_checkpoints() -> None:
    cell = a_cell(["a", "b"])
    seeds = [answers([(cell, {JOBCAST: (e, e), "good": (1.0, 1.0)})]) for e in (0.4, 0.5, 0.6)]
    rows = headlines(seeds, [[], [], []])
    assert [(row["history"], row["split"]) for row in rows] == [
        (False, "test_seen"),
        (False, "test_unseen"),
        (True, "test_seen"),
        (True, "test_unseen"),
    ]
    assert rows[0]["ratio"] == pytest.approx([0.4, 0.5, 0.6])
    assert rows[0]["error"]["runtime_seconds"] == pytest.approx([0.4, 0.5, 0.6])
    assert rows[0]["spread"]["ratio"] == pytest.approx([0.5, 0.1])
    assert rows[0]["error"]["peak_memory_bytes"] == [None, None, None]
    assert rows[3]["spread"]["ratio"] == [None, None]
    assert headlines(seeds[:1], [[]])[0]["spread"]["ratio"] == [pytest.approx(0.4), None]


def str_of(record: Record) -> str:
    return str(record.config)
