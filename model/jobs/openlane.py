"""Reader of eda.openlane: OpenLane, the whole flow of one design.

envelope (text or object), a bare config.json (text or object) or config.tcl -> Job
"""

import re
from collections.abc import Mapping

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig
from model.jobs.eda_job import (
    NO_STAGE,
    WHOLE_FLOW,
    compact_tree,
    complete_from_context,
    eda_reading,
    other_sections,
    sorted_map,
    text_lines,
)
from model.jobs.eda_json import parse_json_object, sorted_object
from model.jobs.eda_sections import (
    Envelope,
    Section,
    clean_text,
    envelope_from_object,
    envelope_from_text,
    is_envelope,
    remember,
)
from model.jobs.eda_values import compact_names, compact_words, version_without_commit
from model.jobs.job import Reading, Value
from model.jobs.tcl_source import Settings, parse_settings
from model.jobs.yaml_source import load_yaml

_MAPS = frozenset({"parameters", "facts_before_stage"})
_FIELDS = ("design", "platform", "openlane_version", "stage", "command")
_FILES = ("config.json", "config.tcl", "info.yaml")
_KEYS = {"flow", *_FIELDS, *_MAPS, *_FILES}
_COMMAND = re.compile(r"flow\.tcl -design (?:\S*/)?(?:sv_)?([^/\s]+)")
#: Commands that say where files lie, and the customary last lines that read a library's own settings, if any.
_PLACE = re.compile(r"set (?:script_dir|filename) |if ?\{ ?\[file exists \$filename\]")
#: Of a Tiny Tapeout info.yaml: what the chip is and how large. Pins, authors, links and how to test it say
#: nothing about the time its layout takes.
_INFO = (
    "title",
    "language",
    "tiles",
    "clock_hz",
    "top_module",
    "wokwi_id",
    "source_files",
    "description",
    "how_it_works",
)


def read_openlane(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """Read an OpenLane job. Raises InvalidConfig with line and column or path."""
    envelope = _envelope(config)
    rest = complete_from_context(envelope, context, _FIELDS, _MAPS)
    files = _files(envelope)
    fields = envelope.fields
    design = fields.get("design") or _design_name(files)
    body: dict[str, Value] = {
        "design": design,
        **files,
        **other_sections(envelope, _KEYS),
        "platform": fields.get("platform"),
        "parameters": sorted_map(envelope.maps.get("parameters", {})),
        "openlane_version": _version(fields.get("openlane_version", "")),
        "facts_before_stage": sorted_map(envelope.maps.get("facts_before_stage", {})),
        "stage": fields.get("stage", WHOLE_FLOW),
        "command": _command(fields.get("command", ""), design),
    }
    return eda_reading(kind, design, body, rest, () if "stage" in fields else (NO_STAGE,))


def _envelope(config: str | Mapping[str, object]) -> Envelope:
    if isinstance(config, str):
        text = clean_text(config)
        if text.lstrip().startswith("{"):
            return Envelope(sections={"config.json": Section(text)})
        if is_envelope(text):
            return envelope_from_text(text)
        section = Section(text)
        if not section.parse(parse_settings).variables:
            raise InvalidConfig("neither an envelope, config.json nor config.tcl", line=1, column=1)
        return Envelope(sections={"config.tcl": section})
    if not config:
        raise InvalidConfig("the config is empty")
    if any(name in _KEYS for name in config):
        return envelope_from_object(config, _MAPS)
    return Envelope(sections={"config.json": Section(config)})


def _files(envelope: Envelope) -> dict[str, Value]:
    files: dict[str, Value] = {}
    if section := envelope.sections.get("config.json"):
        if isinstance(section.content, str):
            files["config.json"] = section.parse(_compact_json)
        else:
            files["config.json"] = compact_tree(sorted_object(section.content, section.path))
    if section := envelope.sections.get("config.tcl"):
        files["config.tcl"] = _settings_value(section.parse(parse_settings))
    if section := envelope.sections.get("info.yaml"):
        if isinstance(section.content, str):
            files["info.yaml"] = section.parse(_project_info)
        else:
            files["info.yaml"] = _selected_info(sorted_object(section.content, section.path))
    return files


@remember
def _compact_json(text: str) -> Value:
    return compact_tree(parse_json_object(text))


def _settings_value(settings: Settings) -> dict[str, Value]:
    variables = settings.variables
    found: dict[str, Value] = {name: compact_words(variables[name]) for name in sorted(variables)}
    commands = [command for command in settings.commands if not _PLACE.match(command)]
    if commands:
        found["commands"] = commands
    return found


@remember
def _project_info(text: str) -> Value:
    """info.yaml, written by hand by many people: where it is no YAML, its lines."""
    try:
        parsed = load_yaml(text)
    except (ConfigTooDeep, ConfigTooLarge):
        raise
    except InvalidConfig:
        return text_lines(text)
    return _selected_info(parsed)


def _selected_info(parsed: object) -> Value:
    if not isinstance(parsed, Mapping):
        return " ".join(str(parsed).split())
    found: dict[str, Value] = {}
    # Older files keep title and description under `documentation`, newer ones all under `project`.
    parts = [
        part
        for part in (parsed.get("project"), parsed.get("documentation"), parsed)
        if isinstance(part, Mapping)
    ]
    for name in _INFO:
        value = next((part[name] for part in parts if part.get(name)), None)
        if isinstance(value, list):
            found[name] = compact_names([str(item) for item in value])
        elif value and str(value) != "0":
            found[name] = " ".join(str(value).split())
    return found


def _design_name(files: Mapping[str, Value]) -> str:
    for values in files.values():
        if isinstance(values, Mapping) and isinstance(name := values.get("DESIGN_NAME"), str):
            return name
    return ""


def _version(version: str) -> str:
    """`OpenLane <commit>` says nothing that the kind does not."""
    without = version_without_commit(version)
    return "" if without == "OpenLane" else without


def _command(command: str, design: str) -> str:
    match = _COMMAND.fullmatch(command)
    return "" if match and match[1] in (design, "src") else command
