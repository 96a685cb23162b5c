"""Parquet in and out says what JSON Lines say."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from app.batch.command import batch
from app.batch.source import ParquetSource
from app.settings import Settings
from app.startup import ConfigurationError
from tests.app.stored import WORKFLOW

REQUESTS: list[dict[str, Any]] = [
    {"id": "a", "kind": "github-actions", "config": WORKFLOW, "context": {"event": "push"}},
    {"id": "b", "kind": "text", "config": "make", "quantiles": [0.5], "targets": ["cpu_cores"]},
    {"id": "c", "kind": "text", "config": "make", "history": [{"cpu_cores": 2.0, "age_seconds": 60.0}]},
    {"id": "d", "kind": "text", "config": "make", "given": {"cpu_cores": 3.0}, "series": "123"},
    {"kind": "unheard-of", "config": ""},
]


@pytest.fixture
def settings(stored: Path) -> Settings:
    return Settings(checkpoint=stored, engine="fake")


COLUMNS = ("id", "kind", "config", "context", "quantiles", "targets", "history", "given", "series")
PLAIN = ("id", "kind", "config", "series")


def nested(path: Path, *, times: int = 1) -> Path:
    """As Parquet has nested values; what a row does not say is null."""
    rows = [{name: request.get(name) for name in COLUMNS} for request in REQUESTS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows * times), path, row_group_size=2)
    return path


def as_text(path: Path) -> Path:
    """Everything but plain text as a column of JSON."""
    rows = [
        {name: value if name in PLAIN else json.dumps(value) for name, value in request.items()}
        for request in REQUESTS
    ]
    rows = [{name: row.get(name) for name in COLUMNS} for row in rows]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_rows_give_the_answers_that_lines_give(tmp_path: Path, settings: Settings) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(json.dumps(request) + "\n" for request in REQUESTS))
    answers = []
    for source in (lines, nested(tmp_path / "nested.parquet"), as_text(tmp_path / "text.parquet")):
        output = source.with_suffix(".out.jsonl")
        assert batch(source, output, settings, readers=1) == 3
        found = [json.loads(line) for line in output.read_text().splitlines()]
        answers.append([{name: one[name] for name in one if name != "request_id"} for one in found])
    assert answers[0] == answers[1] == answers[2]


def test_an_answer_is_a_row_with_its_forecasts(tmp_path: Path, settings: Settings) -> None:
    source = nested(tmp_path / "in.parquet")
    assert batch(source, tmp_path / "out.parquet", settings, readers=1) == 3
    assert batch(source, tmp_path / "out.jsonl", settings, readers=1) == 3
    rows = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [row["answer"] for row in rows] == lines
    assert [row["id"] for row in rows] == ["a", "b", "c", "d", None]
    assert [row["problem"] for row in rows] == [None] * 4 + ["unknown_kind"]
    answer = json.loads(lines[1])["predictions"][0]
    assert rows[1]["forecasts"] == [
        {
            "scope": "job",
            "name": "text",
            "target": "cpu_cores",
            "quantile": 0.5,
            "value": answer["cpu_cores"]["0.5"],
        }
    ]
    jobs = {(one["scope"], one["name"]) for one in rows[0]["forecasts"]}
    assert len(rows[0]["forecasts"]) == 9 * len(jobs) == 9 * 4
    assert rows[4]["forecasts"] == []
    assert not list(tmp_path.glob("*partial*"))


def test_rows_are_found_from_any_position(tmp_path: Path) -> None:
    source = ParquetSource(nested(tmp_path / "in.parquet", times=3), 100_000)
    whole = list(source.records())
    assert source.end == len(whole) == 15
    for position in range(16):
        assert list(source.records(position)) == whole[position:]
    assert source.fetch([1, 2, 8, 14]) == [whole[place].line for place in (1, 2, 8, 14)]


def test_a_map_with_a_key_twice_and_json_with_one_fail_alone(tmp_path: Path, settings: Settings) -> None:
    kind = pyarrow.map_(pyarrow.string(), pyarrow.string())
    for twice, column in (
        ([("a", "1"), ("a", "2")], pyarrow.array([[("a", "1")], [("a", "1"), ("a", "2")]], kind)),
        ('{"a": 1, "a": 2}', pyarrow.array(['{"a": 1}', '{"a": 1, "a": 2}'])),
    ):
        table = pyarrow.table({"kind": ["text"] * 2, "config": ["make"] * 2, "context": column})
        pyarrow.parquet.write_table(table, tmp_path / "in.parquet")
        output = tmp_path / f"{type(twice).__name__}.jsonl"
        assert batch(tmp_path / "in.parquet", output, settings, readers=1) == 3
        found = [json.loads(line) for line in output.read_text().splitlines()]
        assert [one.get("code") for one in found] == [None, "malformed_body"]


def test_damage_in_the_middle_ends_the_run_in_one_line(tmp_path: Path, settings: Settings) -> None:
    path = nested(tmp_path / "in.parquet", times=200)
    content = bytearray(path.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="the input is damaged"):
        batch(path, tmp_path / "out.jsonl", settings, readers=1)


def test_a_file_that_is_no_parquet_is_told_so(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "in.parquet").write_text("not at all")
    with pytest.raises(ConfigurationError, match="not a Parquet file"):
        batch(tmp_path / "in.parquet", tmp_path / "out.jsonl", settings)
