"""Reader of eda.vtr: Verilog-to-Routing, one stage (or the whole flow) of one circuit on one architecture.

envelope (text or object) or a bare task config.txt -> Job(task, circuit, arch, ..., stage)
"""

import re
from collections.abc import Mapping, Sequence

from model.errors import InvalidConfig
from model.jobs.eda_job import (
    NO_STAGE,
    WHOLE_FLOW,
    complete_from_context,
    eda_reading,
    other_sections,
    sorted_map,
)
from model.jobs.eda_sections import (
    Envelope,
    Section,
    clean_text,
    envelope_from_object,
    envelope_from_text,
    field_text,
    is_envelope,
    remember,
)
from model.jobs.eda_values import base_name, version_without_commit
from model.jobs.job import Reading, Value
from model.jobs.time_limit import check_time

_MAPS = frozenset({"facts_before_stage"})
_FIELDS = (
    "task",
    "circuit",
    "circuit_file",
    "arch",
    "script_params",
    "compiler",
    "build",
    "host",
    "vpr_revision",
    "stage",
    "command",
)
_KEYS = {"flow", "task_config", *_FIELDS, *_MAPS}
_TASK_LINE = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)", re.ASCII)
_RUN_FLOW = re.compile(r"run_vtr_flow (\S+) (\S+)")
_COMMAND_OF_STAGE = {
    "vpr_pack": "vpr --pack",
    "vpr_place": "vpr --place",
    "vpr_route": "vpr --route (fixed/relaxed channel width)",
    "vpr_route_min_w": "vpr --route (binary search for minimum channel width)",
}
#: How results are read and judged afterwards.
_AFTER_THE_RUN = frozenset({"parse_file", "qor_parse_file", "pass_requirements_file"})
#: Runners made for one run each: their number says nothing.
_NUMBERED_RUNNER = re.compile(r"(?<=spawned)\d+$", re.ASCII)

TaskConfig = Mapping[str, Sequence[str]]


def read_vtr(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """Read a VTR job. Raises InvalidConfig with line and column or path."""
    envelope = _envelope(config)
    rest = complete_from_context(envelope, context, _FIELDS, _MAPS)
    task = _task_config(envelope)
    fields = envelope.fields
    circuit = fields.get("circuit") or _only(task, "circuit_list_add", "circuits_dir")
    arch = fields.get("arch") or _only(task, "arch_list_add", "archs_dir")
    stage = fields.get("stage", WHOLE_FLOW)
    body: dict[str, Value] = {
        "task": fields.get("task"),
        "circuit": circuit,
        "circuit_file": fields.get("circuit_file"),
        "arch": arch,
        "script_params": fields.get("script_params"),
        "task_config": _task_value(task, circuit, arch, "script_params" in fields),
        **other_sections(envelope, _KEYS),
        "compiler": fields.get("compiler"),
        "build": fields.get("build"),
        "host": _NUMBERED_RUNNER.sub("", fields.get("host", "")),
        "vpr_revision": version_without_commit(fields.get("vpr_revision", "")),
        "facts_before_stage": sorted_map(envelope.maps.get("facts_before_stage", {})),
        "stage": stage,
        "command": _command(fields.get("command", ""), stage, circuit, arch),
    }
    subject = base_name(circuit or fields.get("task", "")).rsplit(".", 1)[0]
    return eda_reading(kind, subject, body, rest, () if "stage" in fields else (NO_STAGE,))


def _envelope(config: str | Mapping[str, object]) -> Envelope:
    if isinstance(config, str):
        text = clean_text(config)
        if is_envelope(text):
            return envelope_from_text(text)
        return Envelope(sections={"task_config": Section(text)})
    if not config:
        raise InvalidConfig("the config is empty")
    # `script_params` is a key of both; a task config alone has a directory or a list besides.
    if any(name in _KEYS - {"script_params"} for name in config):
        return envelope_from_object(config, _MAPS)
    return Envelope(sections={"task_config": Section(config)})


def _task_config(envelope: Envelope) -> TaskConfig:
    section = envelope.sections.get("task_config")
    if section is None:
        return {}
    if isinstance(section.content, str):
        return section.parse(parse_task_config)
    found: dict[str, list[str]] = {}
    for name, value in section.content.items():
        path = f"{section.path}.{name}" if section.path else str(name)
        values = value if isinstance(value, list) else [value]
        if not values:
            raise InvalidConfig("an empty list", path=path)
        found[str(name)] = [field_text(item, path) for item in values]
    return found


@remember
def parse_task_config(text: str) -> TaskConfig:
    """Lines `name = value`; `..._list_add` names repeat. Raises InvalidConfig with the line."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        check_time()
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _TASK_LINE.fullmatch(line)
        if match is None:
            raise InvalidConfig("a task line that is no `name=value`", line=number, column=1)
        name, value = match[1], " ".join(match[2].split())
        if name.endswith("_list_add"):
            found.setdefault(name, []).append(value)
        else:
            found[name] = [value]
    return found


def _only(task: TaskConfig, name: str, directory: str) -> str:
    """The path of the task's circuit or architecture, if it has just one."""
    values = task.get(name, ())
    if len(values) != 1:
        return ""
    return "/".join(part for part in (*task.get(directory, ()), values[0]) if part)


def _task_value(task: TaskConfig, circuit: str, arch: str, one_parameter_set: bool) -> dict[str, Value]:
    """The task's settings by name.

    Lists over which the task varies are only counted where this job's entry is known.
    """
    known = {"circuit_list_add": bool(circuit), "arch_list_add": bool(arch)}
    known["script_params_list_add"] = one_parameter_set
    found: dict[str, Value] = {}
    for name in sorted(task.keys() - _AFTER_THE_RUN):
        values = list(task[name])
        if name == "circuits_dir" and circuit.startswith(values[-1]):
            continue
        if name == "archs_dir" and arch.startswith(values[-1]):
            continue
        if name == "circuit_constraint_list_add":
            values = _constraints_of(values, circuit)
        if not name.endswith("_list_add"):
            found[name] = values[-1]
        elif known.get(name, False):
            found[name.removesuffix("_list_add") + "_count"] = len(values)
        elif values:
            found[name] = values[0] if len(values) == 1 else values
    return found


def _constraints_of(values: list[str], circuit: str) -> list[str]:
    """Entries `(circuit, setting)` that are about this circuit."""
    name = circuit.rsplit("/", 1)[-1]
    return [value for value in values if not name or name in value.split(",", 1)[0]]


def _command(command: str, stage: str, circuit: str, arch: str) -> str:
    """The command, unless stage, circuit and architecture already say it."""
    if command in (stage, _COMMAND_OF_STAGE.get(stage)):
        return ""
    match = _RUN_FLOW.fullmatch(command)
    implied = match and circuit.endswith(match[1]) and arch.endswith(match[2])
    return "" if implied else command
