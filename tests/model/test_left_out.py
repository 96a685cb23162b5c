"""One application left out: nothing of it is fitted on, what is measured is kept, averages are over applications."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from model.evaluation import left_out as module
from model.evaluation.left_out import (
    EXPERTS,
    METHODS,
    LeftOut,
    LeftOutOptions,
    left_out,
    over_applications,
    sources_with_few_groups,
)
from model.evaluation.methods import KIND_MEDIAN, LIGHTGBM, RIDGE, Effort
from model.evaluation.report_tables import left_out as section
from model.training.corpus import Record
from model.training.evidence import fit_experts
from model.training.examples import job_of, text_of
from model.training.growing import EvidenceSettings

SMALL = LeftOutOptions(
    applications=2,
    train=100,
    cases=12,
    effort=Effort(searched=60, rounds=20, threads=1, seed=0),
    experts=EvidenceSettings(rounds=20, held_out_rounds=10, leaves=8, most_leaves=8),
)


def a_record(number: int, split: str = "train", *, source: str = "sizes", family: str = "workflow") -> Record:
    """Each application takes its own time per byte."""
    application, size = number % 3, 1 + number * 7 % 50
    return Record(
        id=f"{source}{number}",
        source=source,
        family=family,
        kind="nextflow",
        group=f"app{application}",
        key=None,
        date=None,
        config={"workflow": f"app{application}", "task": f"T{number % 5}", "bytes": 1000 * size},
        context={},
        targets={"runtime_seconds": size * (2.0 + application)},
        split=split,
    )


@pytest.fixture(scope="module")
def records() -> list[Record]:
    train = [a_record(n) for n in range(180)]
    return [*train, *(a_record(n, "val") for n in range(180, 240)), a_record(240, "test_seen")]


def measured(records: Sequence[Record], directory: Path) -> list[LeftOut]:
    with Progress(console=Console(file=io.StringIO())) as progress:
        return left_out(records, text_of, job_of, directory, progress, SMALL, processes=1)


@pytest.fixture(scope="module")
def found(records: list[Record], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[LeftOut]]:
    directory = tmp_path_factory.mktemp("left-out")
    return directory, measured(records, directory)


def test_sources_of_many_unseen_groups_and_of_ci_are_not_asked(records: list[Record]) -> None:
    ci = [a_record(n, source="ci", family="ci") for n in range(6)]
    many = [a_record(n, source="many") for n in range(6)]
    unseen = [
        Record(**{**vars_of(a_record(n, "test_unseen", source="many")), "group": f"u{n}"}) for n in range(9)
    ]
    assert sources_with_few_groups([*records, *ci, *many, *unseen]) == ["sizes"]
    assert sources_with_few_groups([*many, *unseen[:6]]) == ["many"]


def vars_of(record: Record) -> dict[str, object]:
    return {name: getattr(record, name) for name in Record.__slots__}


def test_every_method_answers_for_applications_it_does_not_know(found: tuple[Path, list[LeftOut]]) -> None:
    rows = found[1]
    assert [(row["application"], row["target"], row["n"]) for row in rows] == [
        ("app0", "runtime_seconds", 12),
        ("app1", "runtime_seconds", 12),
    ]
    for row in rows:
        assert set(row["errors"]) == {EXPERTS, *METHODS}
        error = row["errors"][EXPERTS]
        assert error is not None
        assert 0 < error < 1  # the size is known, the factor is not
        assert row["errors"]["requested, scaled"] is None  # nobody asked


def test_nothing_of_the_application_is_fitted_on(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def watched(given: Sequence[Record], *rest: object) -> object:
        seen.append({record.group for record in given})
        assert not {record.split for record in given} & {"test_seen", "test_unseen"}
        return fit_experts(given, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "fit_experts", watched)
    measured(records, tmp_path)
    assert seen == [{"app1", "app2"}, {"app0", "app2"}]


def test_what_was_measured_is_not_measured_again(
    records: list[Record], found: tuple[Path, list[LeftOut]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fit_experts", lambda *_: pytest.fail("fitted again"))
    assert measured(records, found[0]) == found[1]


def test_averages_are_over_applications_and_the_best_answers_them_all() -> None:
    def row(application: str, **errors: float | None) -> LeftOut:
        return LeftOut(
            source="s", family="f", application=application, target="cpu_cores", n=5, errors=dict(errors)
        )

    rows = [
        row("a", **{EXPERTS: 0.2, KIND_MEDIAN: 0.3, RIDGE: 0.5, LIGHTGBM: 0.01}),
        row("b", **{EXPERTS: 0.6, KIND_MEDIAN: 0.5, RIDGE: 0.4, LIGHTGBM: None}),
    ]
    (cell,) = over_applications(rows)
    assert (cell.baseline, cell.applications, cell.better) == (KIND_MEDIAN, 2, 1)
    assert cell.ratio == pytest.approx(0.4 / 0.4)
    written = section({"left_out": rows})  # type: ignore[typeddict-item]
    assert "| s | CPU | 2 | kind median | 0.400 | 0.400 | 1.00 | 1 of 2 |" in written
    assert section({"left_out": []}) == ""  # type: ignore[typeddict-item]
