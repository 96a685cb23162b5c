"""The generic structured reader: kinds whose configuration is one task as a mapping, and plain text.

A mapping comes as an object or as its JSON or YAML text. Keys are put in one order whatever the input's: identity of
the work first, then the rest by name, then what differs from run to run (samples, inputs, machine).
"""

import json
import math
from collections.abc import Mapping

from model.errors import ConfigTooDeep, InvalidConfig
from model.jobs.job import Job, Reading, Value
from model.jobs.limits import MAX_DEPTH, check_json, check_object
from model.jobs.time_limit import check_time
from model.jobs.yaml_source import as_json_has_it, load_yaml

_FIRST = (
    "system", "workflow", "task", "job", "buildkite_job", "package", "depends_on",
    "variants", "versions", "recipe", "recipe_text", "container",
)  # fmt: skip
_LAST = (
    "params", "parameters", "script", "command", "n_children", "n_parents", "parents", "children",
    "n_workflow_tasks", "compiler", "arch", "bitbake_task", "run_type", "machine", "cluster", "platform",
    "attempt", "tag", "sample", "inputs_label", "inputs", "n_inputs", "input_bytes", "total_input_bytes",
    "workflow_input_bytes", "workflow_input_bytes_uncompressed", "n_sequences", "task_input_bytes",
    "task_input_bytes_uncompressed",
)  # fmt: skip
_RANK = {key: rank - len(_FIRST) for rank, key in enumerate(_FIRST)} | {
    key: rank for rank, key in enumerate(_LAST, start=1)
}
#: What a task itself is called, the likeliest first.
_NAMES = ("task", "job", "process", "rule", "package", "recipe", "tool", "program", "job_name", "job-name")
#: The author's own resource requests, by the names the formats use, and their target.
_REQUESTS = {
    "requested_cpus": "cpu_cores",
    "requested_cores": "cpu_cores",
    "threads": "cpu_cores",
    "requested_memory_bytes": "peak_memory_bytes",
    "time_limit_seconds": "runtime_seconds",
}


_DIRECTIVES = ("#SBATCH ", "#PBS ", "#BSUB ", "#$ -", "#FLUX:")


def read_generic(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """One task as a mapping, or as the JSON or YAML text of one. Raises InvalidConfig."""
    task = parse_mapping(config) if isinstance(config, str) else config
    if not task:
        raise InvalidConfig("an empty configuration")
    body = clean(task, "")
    assert isinstance(body, Mapping)
    named = (body.get(key) for key in _NAMES)
    name = next((value for value in named if isinstance(value, str) and value), kind)
    return Reading(
        jobs=(
            Job(
                kind=kind,
                scope="job",
                name=name,
                body=body,
                requested=_requested(body),
                context=clean_context(context),
            ),
        )
    )


def read_text(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """Any text, as it is but for trailing blanks and empty lines; an object is taken as its own text."""
    if isinstance(config, str):
        lines = [line.rstrip() for line in config.splitlines()]
        content: Value = "\n".join(line for line in lines if line)
        if not content:
            raise InvalidConfig("an empty configuration")
    else:
        content = clean(config, "")
    job = Job(kind=kind, scope="job", name="text", body={"text": content}, context=clean_context(context))
    return Reading(jobs=(job,))


def parse_mapping(text: str) -> Mapping[str, object]:
    """A JSON or YAML text that holds one mapping. Raises InvalidConfig with line and column."""
    if text.lstrip().startswith("{"):
        try:
            parsed: object = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            raise InvalidConfig(
                f"not valid JSON: {error.msg}", line=error.lineno, column=error.colno
            ) from None
        except RecursionError:
            raise ConfigTooDeep(f"nested deeper than {MAX_DEPTH} levels") from None
        except ValueError as error:  # an integer of thousands of digits
            if isinstance(error, InvalidConfig):
                raise
            raise InvalidConfig("a number of too many digits") from None
        check_json(text, parsed)
    else:
        parsed = load_yaml(text, plain=as_json_has_it)
    if not isinstance(parsed, Mapping):
        raise InvalidConfig(
            "this kind needs a mapping of names to values; kind `text` takes any text", line=1
        )
    return parsed


def _reject_constant(_: str) -> object:
    raise InvalidConfig("NaN and Infinity are not JSON")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidConfig("a key that appears twice in one mapping")
    return found


def clean(value: object, path: str) -> Value:
    """Any JSON-like value as a job's body: keys in canonical order, comment lines of scripts dropped.

    Raises InvalidConfig with the path of what has no place in a configuration, ConfigTooDeep, ConfigTooLarge.
    """
    check_object(value)
    return _clean(value, path)


def _clean(value: object, path: str) -> Value:
    check_time()
    if isinstance(value, str):
        return without_comments(value) if "\n" in value else value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidConfig("a number that is not finite", path=path)
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InvalidConfig("a key that is not text", path=path)
        ordered = sorted(value.items(), key=lambda item: (_RANK.get(item[0], 0), item[0]))
        return {key: _clean(inner, f"{path}.{key}".lstrip(".")) for key, inner in ordered}
    if isinstance(value, list | tuple):
        return [_clean(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
    raise InvalidConfig("a value that is neither text, number, list nor mapping", path=path)


def without_comments(script: str) -> str:
    """A script or recipe without comment lines, blank lines and trailing blanks."""
    kept: list[str] = []
    for line in script.splitlines():
        check_time()
        bare = line.strip()
        if bare and not is_comment(bare, first=not kept):
            kept.append(line.rstrip())
    return "\n".join(kept)


def is_comment(line: str, *, first: bool) -> bool:
    """Whether a line without blanks around it only explains. first: nothing else stands in front of it.

    `#!/bin/bash` in front does not, nor do options of a batch system: a script may hold those of a job that it submits.
    """
    return line.startswith("#") and not ((first and line.startswith("#!")) or line.startswith(_DIRECTIVES))


def clean_context(context: Mapping[str, object]) -> Mapping[str, Value]:
    """The context in canonical order, without the sources handed in for other parts of the config."""
    cleaned = clean({k: v for k, v in context.items() if k != "local_actions"}, "context")
    assert isinstance(cleaned, Mapping)
    return cleaned


def _requested(body: Mapping[str, Value]) -> dict[str, float]:
    requested = {}
    for key, target in _REQUESTS.items():
        value = body.get(key)
        try:
            number = float(value) if isinstance(value, int | float | str) else 0.0
        except (ValueError, OverflowError):  # an integer beyond every float
            continue
        if 0 < number < math.inf:
            requested[target] = number
    return requested
