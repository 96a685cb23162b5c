"""Reader of eda.openroad: OpenROAD-flow-scripts, one stage of one design (or the whole flow).

envelope (text or object) or a bare config.mk -> Job(platform, design, config.mk, constraint.sdc, ..., stage)
"""

import re
from collections.abc import Mapping

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
)
from model.jobs.eda_values import compact_words, version_without_commit
from model.jobs.job import Reading, Value
from model.jobs.makefile_source import Variables, parse_makefile, variables_from_object

_MAPS = frozenset({"facts_before_stage"})
_FIELDS = ("platform", "design", "clocks", "rtl_sources", "command", "openroad_version", "stage", "step")
_KEYS = {"flow", *_FIELDS, *_MAPS}
#: `make DESIGN_CONFIG=./designs/asap7/gcd/config.mk cts` repeats platform, design and stage.
_COMMAND = re.compile(r"make DESIGN_CONFIG=\./designs/([^/\s]+)/([^/\s]+)/\S+\.mk (\S+)")


def read_openroad(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """Read an ORFS job. Raises InvalidConfig with line and column or path."""
    envelope = _envelope(config)
    rest = complete_from_context(envelope, context, _FIELDS, _MAPS)
    variables = _makefile_variables(envelope)
    fields = envelope.fields
    plain = variables.plain
    design = fields.get("design") or plain.get("DESIGN_NICKNAME") or plain.get("DESIGN_NAME", "")
    platform = fields.get("platform") or plain.get("PLATFORM", "")
    stage = fields.get("stage", WHOLE_FLOW)
    makefiles = {name for name in envelope.sections if name.endswith(".mk")}
    body: dict[str, Value] = {
        "platform": platform,
        "design": design,
        "config.mk": _variables_value(variables, platform, design, envelope),
        **other_sections(envelope, _KEYS | makefiles),
        "clocks": fields.get("clocks"),
        "rtl_sources": fields.get("rtl_sources"),
        "command": _command(fields.get("command", ""), platform, design, stage),
        "openroad_version": version_without_commit(fields.get("openroad_version", "")),
        "facts_before_stage": sorted_map(envelope.maps.get("facts_before_stage", {})),
        "stage": stage,
        "step": fields.get("step"),
    }
    return eda_reading(kind, design, body, rest, () if "stage" in fields else (NO_STAGE,))


def _envelope(config: str | Mapping[str, object]) -> Envelope:
    if isinstance(config, str):
        text = clean_text(config)
        if is_envelope(text):
            return envelope_from_text(text)
        return Envelope(sections={"config.mk": Section(text)})
    if not config:
        raise InvalidConfig("the config is empty")
    if any(name in _KEYS or "." in str(name) for name in config):
        return envelope_from_object(config, _MAPS)
    return Envelope(sections={"config.mk": Section(config)})  # an object of variables alone


def _makefile_variables(envelope: Envelope) -> Variables:
    """config.mk, then the other make fragments: a variant's includes config.mk and goes on from there."""
    names = sorted(
        (name for name in envelope.sections if name.endswith(".mk")),
        key=lambda name: (name != "config.mk", name),
    )
    merged = Variables()
    for name in names:
        section = envelope.sections[name]
        if isinstance(section.content, Mapping):
            values = {str(k): field_text(v, section.path or str(k)) for k, v in section.content.items()}
            found = variables_from_object(values)
        else:
            found = section.parse(parse_makefile)
        merged = merged.overridden_by(found)
    return merged


def _variables_value(
    variables: Variables, platform: str, design: str, envelope: Envelope
) -> dict[str, Value]:
    """Variables by name, then the conditional ones by condition; less what the body says elsewhere."""
    repeated = {"PLATFORM": platform, "DESIGN_NICKNAME": design, "DESIGN_NAME": design}
    shown_files = {
        "SDC_FILE": "constraint.sdc",
        "FASTROUTE_TCL": "fastroute.tcl",
        "FLOW_VARIANT": "config-DoE.mk",  # the name of the variant lists the values that stand beside it
    }
    found: dict[str, Value] = {}
    for name in sorted(variables.plain):
        value = variables.plain[name]
        if "MAKEFILE_LIST" in value or (name == "SDC_FILE" and value.endswith("/constraint.sdc")):
            continue  # where the file lies, or that it has its usual name
        if repeated.get(name) != value and shown_files.get(name, "") not in envelope.sections:
            found[name] = compact_words(value)
    for condition in sorted(variables.conditional):
        scope = variables.conditional[condition]
        found[condition] = {name: compact_words(scope[name]) for name in sorted(scope)}
    included = sorted({name.rsplit("/", 1)[-1] for name in variables.included} - envelope.sections.keys())
    if included:
        found["include"] = included
    return found


def _command(command: str, platform: str, design: str, stage: str) -> str:
    match = _COMMAND.fullmatch(command)
    goal = "all" if stage == WHOLE_FLOW else stage
    return "" if match and match.groups() == (platform, design, goal) else command
