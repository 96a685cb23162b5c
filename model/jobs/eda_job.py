"""What the three EDA readers share: facts from the context, the order of the body, the job itself."""

from collections.abc import Iterable, Mapping

from model.errors import InvalidConfig
from model.jobs.eda_json import parse_json_object, sorted_object
from model.jobs.eda_sections import Envelope, Section, field_text, map_from_object
from model.jobs.eda_values import Scalar, compact_names, number_or_text
from model.jobs.job import Job, Reading, Value
from model.jobs.tcl_source import parse_commands
from model.jobs.yaml_source import load_yaml

#: A config that names no stage is the whole flow, as in `make` without a goal.
WHOLE_FLOW = "flow"
NO_STAGE = "neither config nor context names a stage: read as the whole flow"


def complete_from_context(
    envelope: Envelope, context: Mapping[str, object], fields: Iterable[str], maps: Iterable[str]
) -> dict[str, Value]:
    """Fill what the config leaves open from the context; returns the rest of the context, sorted.

    Where both say something the config wins: it is what will run.
    """
    known_fields, known_maps = set(fields), set(maps)
    rest: dict[str, Value] = {}
    for key in sorted(context):
        value, path = context[key], f"context.{key}"
        if value is None or value == "" or value == {}:
            continue
        if key in known_maps:
            if key not in envelope:
                envelope.maps[key] = map_from_object(value, path)
        elif key in known_fields:
            if key not in envelope:
                envelope.fields[key] = field_text(value, path)
        elif isinstance(value, str | int | float):
            text = field_text(value, path)  # refuses what is no finite number
            rest[key] = text if isinstance(value, str) else number_or_text(value)
    return rest


def sorted_map(values: Mapping[str, Scalar]) -> dict[str, Value]:
    """A mapping sorted by name."""
    return {name: values[name] for name in sorted(values)}


def other_sections(envelope: Envelope, known: Iterable[str]) -> dict[str, Value]:
    """Fields, maps and files that the reader has no own place for, sorted by name."""
    known = set(known)
    body: dict[str, Value] = {}
    for name in sorted({*envelope.fields, *envelope.maps, *envelope.sections} - known):
        if name in envelope.fields:
            body[name] = envelope.fields[name]
        elif name in envelope.maps:
            body[name] = sorted_map(envelope.maps[name])
        else:
            body[name] = section_value(name, envelope.sections[name])
    return body


def section_value(name: str, section: Section) -> Value:
    """Any embedded file, read by its suffix; an unknown one as its lines."""
    if isinstance(section.content, Mapping):
        return sorted_object(section.content, section.path)
    if name.endswith((".sdc", ".tcl")):
        return section.parse(parse_commands)
    if name.endswith(".json"):
        return section.parse(parse_json_object)
    if name.endswith((".yml", ".yaml")):
        return _yaml_value(section.parse(load_yaml))
    return section.parse(text_lines)


def _yaml_value(value: object) -> Value:
    """Parsed YAML with sorted keys (the loader has bounded its depth)."""
    if isinstance(value, dict):
        return {str(name): _yaml_value(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_yaml_value(item) for item in value]
    return " ".join(str(value).split())


def text_lines(text: str) -> list[str]:
    """Lines with content, white space collapsed, comment lines left out."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return [line for line in lines if line and not line.startswith("#")]


def compact_tree(value: Value) -> Value:
    """Nested settings with the directories cut off paths and long file lists counted."""
    if isinstance(value, str):
        return " ".join(value.split()) if value.startswith("expr::") else _shorter(value)
    if isinstance(value, Mapping):
        return {name: compact_tree(item) for name, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, str) and len(item.split()) == 1 for item in value):
            return compact_names([str(item) for item in value])
        return [compact_tree(item) for item in value]
    return value


def _shorter(text: str) -> Value:
    # One path or a list of them; prose (a description with a slash in it) stays as it is.
    words = text.split()
    if words and all("/" in word or "dir::" in word for word in words):
        return compact_names(words)
    return " ".join(words)


def eda_reading(
    kind: str, subject: str, body: dict[str, Value], context: Mapping[str, Value], warnings: tuple[str, ...]
) -> Reading:
    """The one job of an EDA config, named after its subject and stage, without its empty values."""
    body = {name: value for name, value in body.items() if value not in ("", None, [], {})}
    if not body.keys() - {"stage"}:
        raise InvalidConfig("the config says nothing about the job")
    name = "/".join(part for part in (subject, str(body.get("stage", ""))) if part)
    return Reading(
        jobs=(Job(kind=kind, scope="job", name=name, body=body, context=context),), warnings=warnings
    )
