"""Buildkite pipelines: YAML steps, with what a pipeline generator keeps beside them.

buildkite_job: LABEL            optional first line: the one job that is meant
steps: ...                      the pipeline
# path/name.arches              optional tables behind it: a comment line of column names, then one line of
# OS  TRIPLET  TIMEOUT          blank-separated values per platform the steps are run for; `.` is no value
linux x86_64-linux-gnu .
"""

import re
from collections.abc import Mapping

from model.errors import InvalidConfig
from model.jobs.generic import clean, clean_context
from model.jobs.job import Job, Reading, Value
from model.jobs.time_limit import check_time
from model.jobs.yaml_source import load_yaml

_TABLE = re.compile(r"^# \S+\.arches[ \t]*$", re.M)


def read_buildkite(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """A pipeline as text or object; scope `job` where a label names one job, else `workflow`.

    Raises InvalidConfig.
    """
    pipeline, label, platforms = _parse(config) if isinstance(config, str) else (dict(config), "", [])
    label = label or str(pipeline.pop("buildkite_job", ""))
    platforms = platforms or pipeline.pop("platforms", [])
    steps = pipeline.get("steps")
    if not isinstance(steps, list):
        raise InvalidConfig("a Buildkite pipeline needs a list of steps", path="steps")
    body: dict[str, Value] = {}
    for name, value in (("pipeline", pipeline), ("platforms", platforms), ("buildkite_job", label)):
        if value:
            body[name] = clean(value, name)
    cleaned = clean_context(context)
    if label:
        return Reading(jobs=(Job(kind, "job", label, body, context=cleaned),))
    return Reading(jobs=(), workflow=Job(kind, "workflow", "pipeline", body, context=cleaned))


def _parse(text: str) -> tuple[dict[str, object], str, object]:
    """The pipeline, the label and the platforms of a text."""
    label, first_line = "", 1
    start, _, rest = text.partition("\n")
    if start.startswith("buildkite_job:"):
        label, text, first_line = start.partition(":")[2].strip(), rest, 2
    table = _TABLE.search(text)
    platforms = _platforms(text[table.start() :]) if table else []
    pipeline = load_yaml(text[: table.start()] if table else text, first_line=first_line)
    if isinstance(pipeline, list):  # a pipeline may be the bare list of its steps
        pipeline = {"steps": pipeline}
    if not isinstance(pipeline, Mapping):
        raise InvalidConfig("a Buildkite pipeline is a mapping or a list of steps", line=first_line)
    merged = _merged(pipeline, {})
    assert isinstance(merged, dict)
    return merged, label, platforms


def _merged(value: object, known: dict[int, object]) -> object:
    """The same with `<<: *common` replaced by what it stands for, as Buildkite reads it; a mapping's own keys win.

    known: what became of collections; what aliases share stays shared.
    """
    if not isinstance(value, dict | list):
        return value
    if id(value) not in known:
        check_time()
        if isinstance(value, list):
            known[id(value)] = [_merged(item, known) for item in value]
        else:
            own = {key: _merged(inner, known) for key, inner in value.items()}
            below = own.pop("<<", {})
            for one in below if isinstance(below, list) else [below]:
                own = {**one, **own} if isinstance(one, dict) else own
            known[id(value)] = own
    return known[id(value)]


def _platforms(tables: str) -> list[dict[str, str]]:
    """One mapping of column name to value per line of the tables."""
    columns: list[str] = []
    found = []
    for line in tables.splitlines():
        check_time()
        words = line.lstrip("#").split()
        if line.startswith("#"):
            columns = [] if _TABLE.match(line) else words
        elif words:
            names = columns if len(columns) == len(words) else [str(i) for i in range(len(words))]
            found.append({name: w for name, w in zip(names, words, strict=True) if w != "."})
    return found
