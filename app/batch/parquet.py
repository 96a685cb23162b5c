"""Answers as Parquet: a row per record, its forecasts as a list that query engines can unnest.

id, code, title of the problem or null    forecasts: list of (scope, name, target, quantile, value)    answer: the JSON
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow
from pyarrow.parquet import ParquetWriter

_ROWS = 4096
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("problem", pyarrow.string()),
        (
            "forecasts",
            pyarrow.list_(
                pyarrow.struct(
                    [
                        ("scope", pyarrow.string()),
                        ("name", pyarrow.string()),
                        ("target", pyarrow.string()),
                        ("quantile", pyarrow.float64()),
                        ("value", pyarrow.float64()),
                    ]
                )
            ),
        ),
        ("answer", pyarrow.string()),
    ]
)


def write_parquet(lines: Path, finished: Path) -> None:
    """From JSON Lines as `app.batch.output` writes them."""
    with lines.open("rb") as source, ParquetWriter(finished, SCHEMA, compression="zstd") as writer:
        while rows := [_row(line.rstrip(b"\n")) for line in islice(source, _ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(rows, SCHEMA))


def _row(line: bytes) -> dict[str, Any]:
    answer = orjson.loads(line)
    name = answer.get("id")
    return {
        "id": None if name is None else str(name),
        "problem": answer.get("code"),
        "forecasts": list(_forecasts(answer)),
        "answer": line.decode(),
    }


def _forecasts(answer: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    parts = [("workflow", None, answer["workflow"]["direct"])] if "workflow" in answer else []
    parts += [(one["scope"], one["name"], one) for one in answer.get("predictions", ())]
    for scope, name, part in parts:
        for target in (target for target in part["support"] if target != "novelty"):
            for quantile, value in part[target].items():
                yield {
                    "scope": scope,
                    "name": name,
                    "target": target,
                    "quantile": float(quantile),
                    "value": value,
                }
