"""The corpus loader and the history of a job, on small synthetic records."""

import json
import lzma
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.training import corpus
from model.training.corpus import (
    CorpusMissing,
    Histories,
    HistoryIndex,
    Record,
    load,
    scope_of,
    source_weights,
)


def record(number: int = 0, **changes: object) -> Record:
    base = Record(
        id=f"r{number}",
        source="julia",
        family="ci",
        kind="buildkite",
        group="g",
        key="job",
        date="2026-01-01",
        config="steps: []",
        context={},
        targets={"runtime_seconds": float(number + 1)},
        split="train",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def write(directory: Path, source: str, *rows: dict[str, object]) -> None:
    blank = {
        "upstream": "u",
        "family": "ci",
        "kind": "k",
        "group": "g",
        "key": None,
        "date": None,
        "config": {"a": 1},
        "context": {"stage": "s"},
        "targets": {"runtime_seconds": 2, "peak_memory_bytes": None},
        "split": "train",
    }
    with lzma.open(directory / f"{source}.jsonl.xz", "wt", encoding="utf-8") as out:
        for number, row in enumerate(rows):
            out.write(json.dumps({"id": f"{source}-{number}", "source": source} | blank | row) + "\n")


def runtimes(index: HistoryIndex | Histories, of: Record, **options: int) -> list[float]:
    return [past.values["runtime_seconds"] for past in index.history_of(of, **options)]


def test_load_orders_by_source_then_file_and_keeps_only_measured_targets(tmp_path: Path) -> None:
    write(tmp_path, "zebra", {}, {"split": "val"})
    write(tmp_path, "ant", {"config": "text"})
    loaded = load(tmp_path)
    assert [r.id for r in loaded] == ["ant-0", "zebra-0", "zebra-1"]
    assert loaded[0].config == "text"
    assert loaded[1].config == {"a": 1}
    assert loaded[1].context == {"stage": "s"}
    assert loaded[1].targets == {"runtime_seconds": 2.0}


def test_load_selects_sources_and_splits(tmp_path: Path) -> None:
    write(tmp_path, "a", {}, {"split": "val"})
    write(tmp_path, "b", {"split": "val"})
    assert [r.id for r in load(tmp_path, sources=["a"])] == ["a-0", "a-1"]
    assert [r.id for r in load(tmp_path, splits=["val"])] == ["a-1", "b-0"]


def test_an_absent_corpus_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(CorpusMissing, match=r"JOBCAST_DATA"):
        load(tmp_path / "nowhere")


def test_unknown_sources_and_splits_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", {})
    with pytest.raises(ValueError, match="no source b"):
        load(tmp_path, sources=["b"])
    with pytest.raises(ValueError, match="test_sen"):
        load(tmp_path, splits=["test_sen"])


def test_the_environment_names_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBCAST_DATA", str(tmp_path))
    assert corpus.corpus_directory() == tmp_path


def test_without_a_name_the_corpus_is_beside_the_repository_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBCAST_DATA", raising=False)
    monkeypatch.setattr(corpus, "_REPOSITORY", tmp_path / "repository")
    assert corpus.corpus_directory() is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert corpus.corpus_directory() == tmp_path / "shared" / "data"


def test_only_gha_measures_whole_workflows() -> None:
    assert scope_of(record(source="gha")) == "workflow"
    assert scope_of(record(source="julia")) == "job"


def test_history_is_newest_first_with_ages_and_limited() -> None:
    days = [record(day, date=f"2026-01-0{day + 1}") for day in range(6)]
    now = record(9, date="2026-01-06T12:00")
    history = HistoryIndex(days).history_of(now, limit=3)
    assert [past.values["runtime_seconds"] for past in history] == [6.0, 5.0, 4.0]
    assert [past.age_seconds for past in history] == [43200.0, 129600.0, 216000.0]


def test_a_run_at_the_same_time_is_not_history() -> None:
    twin = record(1, date="2026-01-01T00:00")
    assert HistoryIndex([twin, record(2)]).history_of(record(3, date="2026-01-01T00:00:00")) == ()


def test_past_runs_that_share_a_time_are_all_kept() -> None:
    past = [record(n, date="2026-01-01T10:00:30") for n in range(3)]
    assert sorted(runtimes(HistoryIndex(past), record(9, date="2026-01-02"))) == [1.0, 2.0, 3.0]
    assert len(HistoryIndex(past).history_of(record(9, date="2026-01-02"), limit=2)) == 2


def test_keys_of_other_sources_are_other_jobs() -> None:
    past = [record(1, source="gha"), record(2, key="another"), record(3, key=None), record(4, date=None)]
    assert HistoryIndex(past).history_of(record(9, date="2026-02-01")) == ()


def test_runs_without_key_or_date_have_no_history() -> None:
    index = HistoryIndex([record(1)])
    assert index.history_of(record(9, key=None)) == ()
    assert index.history_of(record(9, date=None)) == ()


def test_history_says_whether_the_config_was_the_same() -> None:
    past = [
        record(1, date="2026-01-01", config={"a": 1, "b": 2}),
        record(2, date="2026-01-02", config={"a": 1, "b": 3}),
        record(3, date="2026-01-03", config={"b": 2, "a": 1}, kind="other"),
    ]
    now = record(9, date="2026-02-01", config={"b": 2, "a": 1})
    assert [run.same_config for run in HistoryIndex(past).history_of(now)] == [False, False, True]
    constant = HistoryIndex(past, fingerprint=lambda _: "same")
    assert [run.same_config for run in constant.history_of(now)] == [True, True, True]


moments = st.datetimes().map(lambda t: t.isoformat()) | st.dates().map(lambda d: d.isoformat())


@settings(max_examples=60, deadline=None)
@given(dates=st.lists(moments, max_size=12), now=moments, limit=st.integers(1, 6))
def test_history_never_shows_the_future(dates: list[str], now: str, limit: int) -> None:
    runs = [record(number, date=date) for number, date in enumerate(dates)]
    history = HistoryIndex(runs).history_of(record(99, date=now), limit=limit)
    moment = corpus.timestamp_of(now)
    earlier = [moment - corpus.timestamp_of(date) for date in dates if corpus.timestamp_of(date) < moment]
    assert [run.age_seconds for run in history] == sorted(earlier)[:limit]


def test_temperature_flattens_the_shares_of_the_sources() -> None:
    assert source_weights({"a": 1, "b": 3}, 1.0) == pytest.approx({"a": 0.25, "b": 0.75})
    assert source_weights({"a": 4, "b": 16, "none": 0}, 0.5) == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert source_weights({"a": 4, "b": 16}, 0.0) == pytest.approx({"a": 0.5, "b": 0.5})


def test_train_records_know_train_records_and_the_others_all_that_came_before() -> None:
    train = [record(n, date=f"2026-01-0{n}") for n in (1, 2)]
    val = [replace(record(n, date=f"2026-01-0{n}"), split="val") for n in (3, 4)]
    late = record(5, date="2026-01-05")
    known = Histories([*train, *val, late])
    assert runtimes(known, val[1]) == [4.0, 3.0, 2.0]
    assert runtimes(known, late) == [3.0, 2.0]
    assert runtimes(known, train[1]) == [2.0]
