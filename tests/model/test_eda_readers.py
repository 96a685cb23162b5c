"""The three EDA readers: what the body holds and in which order; all forms of a config are one Reading."""

import contextlib
import json

import pytest

from model.errors import InvalidConfig
from model.jobs import read
from model.jobs.job import Reading, Value
from model.jobs.openlane import read_openlane
from model.jobs.openroad import read_openroad
from model.jobs.vtr import read_vtr

MAKEFILE = """\
export DESIGN_NAME = blinker
export PLATFORM    = asap7
# the sources
export VERILOG_FILES = ./designs/src/blinker/a.v \\
    ./designs/src/blinker/b.v ./designs/src/blinker/c.v \\
    ./designs/src/blinker/d.v
export CORE_UTILIZATION = 30
export CORE_UTILIZATION = 40
ifeq ($(USE_FILL),1)
export FILL = yes
endif
"""
SDC = "set clk_period 2.5 ;# ns\ncreate_clock -period $clk_period \\\n   [get_ports clk]\n"
FACTS = {"synth__cells": 1200.0, "floorplan__area": "33.5"}
OPENROAD = {
    "flow": "OpenROAD-flow-scripts",
    "platform": "asap7",
    "design": "blinker",
    "stage": "cts",
    "step": "4_1_cts: clock tree (openroad)",
    "command": "make DESIGN_CONFIG=./designs/asap7/blinker/config.mk cts",
    "openroad_version": "v2.0-2318-gfed16d7ea",
    "rtl_sources": "4 HDL files, 900 bytes",
    "facts_before_stage": FACTS,
    "config.mk": MAKEFILE,
    "constraint.sdc": SDC,
}
SETTINGS = """\
set script_dir [file dirname [file normalize [info script]]]
set ::env(DESIGN_NAME) "blinker"
set ::env(CLOCK_PERIOD) 10
set ::env(CLOCK_PERIOD) "12.5"
lappend ::env(VERILOG_FILES) $script_dir/../rtl/a.v
source $script_dir/more.tcl
"""
DESIGN_JSON = {"DESIGN_NAME": "blinker", "pdk::sky130*": {"FP_CORE_UTIL": 20}, "CLOCK_PERIOD": 17.5}
INFO = "project:\n  title: 'Blinker'  # name\n  tiles: 1x2\n  author: someone\npinout:\n  ui[0]: a\n"
OPENLANE = {
    "flow": "OpenLane RTL-to-GDS",
    "design": "blinker",
    "command": "flow.tcl -design openlane/blinker",
    "openlane_version": "OpenLane 7e5a2e9fb274c0a100b4859a927adce7089455ff",
    "parameters": {"CLOCK_PERIOD": "17.0", "SYNTH_STRATEGY": "AREA 0"},
    "config.json": json.dumps(DESIGN_JSON, indent=2),
    "config.tcl": SETTINGS,
    "info.yaml": INFO,
}
TASK = """\
circuits_dir=benchmarks/verilog
archs_dir = arch/timing
circuit_list_add=one.v
circuit_list_add=two.v
script_params_list_add = --seed 1
script_params_list_add = --seed 2
qor_parse_file=x.txt
"""
VTR = {
    "flow": "VTR (Verilog-to-Routing)",
    "task": "small/two_circuits",
    "circuit": "benchmarks/verilog/one.v",
    "arch": "arch/timing/k6.xml",
    "script_params": "common_--seed_1",
    "host": "gh-runner-auto-spawned37",
    "vpr_revision": "v8.0.0-3684-g44d092b7d-dirty",
    "stage": "vpr_pack",
    "command": "vpr --pack",
    "facts_before_stage": {"num_io": 4},
    "task_config": TASK,
}


def envelope(config: dict[str, object]) -> str:
    """The text form of an envelope object."""
    lines: list[str] = []
    for key, value in config.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {item}" for name, item in value.items())]
        elif "\n" in str(value):
            lines += [f"{key}: |", *(f"  {line}" for line in str(value).rstrip("\n").split("\n"))]
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines) + "\n"


def body(reading: Reading) -> dict[str, Value]:
    assert len(reading.jobs) == 1 and reading.workflow is None
    return dict(reading.jobs[0].body)


CASES = [
    ("eda.openroad", read_openroad, OPENROAD),
    ("eda.openlane", read_openlane, OPENLANE),
    ("eda.vtr", read_vtr, VTR),
]


@pytest.mark.parametrize(("kind", "read", "config"), CASES)
def test_text_form_and_object_form_in_any_key_order_are_one_reading(kind, read, config):
    expected = read(kind, envelope(config), {})
    backwards = dict(reversed(config.items()))
    for form in (config, backwards, envelope(backwards), envelope(config).replace("\n", "\r\n")):
        found = read(kind, form, {})
        assert found == expected
        assert json.dumps(body(found)) == json.dumps(body(expected))  # the same order, too


def test_openroad_body_begins_with_what_never_changes_and_ends_with_the_stage():
    reading = read_openroad("eda.openroad", OPENROAD, {})
    assert reading.jobs[0].name == "blinker/cts"
    assert body(reading) == {
        "platform": "asap7",
        "design": "blinker",
        "config.mk": {
            "CORE_UTILIZATION": "40",
            "VERILOG_FILES": {"count": 4, "names": ["a.v", "b.v", "c.v", "d.v"]},
            "ifeq ($(USE_FILL),1)": {"FILL": "yes"},
        },
        "constraint.sdc": ["set clk_period 2.5", "create_clock -period $clk_period [get_ports clk]"],
        "rtl_sources": "4 HDL files, 900 bytes",
        "openroad_version": "v2.0-2318",
        "facts_before_stage": {"floorplan__area": 33.5, "synth__cells": 1200},
        "stage": "cts",
        "step": "4_1_cts: clock tree (openroad)",
    }
    assert list(body(reading))[-2:] == ["stage", "step"]


def test_a_variant_of_openroad_overrides_the_config_it_includes():
    config = {**OPENROAD, "config-DoE.mk": "include ../config.mk\nexport CORE_UTILIZATION = 55"}
    assert body(read_openroad("eda.openroad", config, {}))["config.mk"]["CORE_UTILIZATION"] == "55"


def test_a_command_that_says_more_than_the_stage_is_kept():
    config = {**OPENROAD, "command": "make DESIGN_CONFIG=./x.mk cts NUM_CORES=4"}
    assert body(read_openroad("eda.openroad", config, {}))["command"] == config["command"]


def test_openlane_body_holds_settings_without_places_pins_and_hashes():
    assert body(read_openlane("eda.openlane", OPENLANE, {"stage": "flow"})) == {
        "design": "blinker",
        "config.json": {"CLOCK_PERIOD": 17.5, "DESIGN_NAME": "blinker", "pdk::sky130*": {"FP_CORE_UTIL": 20}},
        "config.tcl": {
            "CLOCK_PERIOD": "12.5",
            "DESIGN_NAME": "blinker",
            "VERILOG_FILES": "a.v",
            "commands": ["source $script_dir/more.tcl"],
        },
        "info.yaml": {"title": "Blinker", "tiles": "1x2"},
        "parameters": {"CLOCK_PERIOD": 17, "SYNTH_STRATEGY": "AREA 0"},
        "stage": "flow",
    }


def test_vtr_body_counts_the_lists_of_which_this_job_is_one_entry():
    reading = read_vtr("eda.vtr", VTR, {})
    assert reading.jobs[0].name == "one/vpr_pack"
    assert body(reading) == {
        "task": "small/two_circuits",
        "circuit": "benchmarks/verilog/one.v",
        "arch": "arch/timing/k6.xml",
        "script_params": "common_--seed_1",
        "task_config": {"circuit_count": 2, "script_params_count": 2},
        "host": "gh-runner-auto-spawned",
        "vpr_revision": "v8.0.0-3684",
        "facts_before_stage": {"num_io": 4},
        "stage": "vpr_pack",
    }


def test_bare_files_are_read_and_the_context_fills_the_rest():
    made = read_openroad("eda.openroad", MAKEFILE, {"stage": "cts", "machine": "m1"}).jobs[0]
    assert (made.name, dict(made.context)) == ("blinker/cts", {"machine": "m1"})
    assert made.body["platform"] == "asap7"
    for config in (DESIGN_JSON, json.dumps(DESIGN_JSON), SETTINGS):
        assert read_openlane("eda.openlane", config, {"stage": "flow"}).jobs[0].name == "blinker/flow"
    task = "circuits_dir=b\ncircuit_list_add=one.v\narch_list_add=k6.xml\nscript_params=-x"
    assert read_vtr("eda.vtr", task, {"host": "h"}).jobs[0].body["circuit"] == "b/one.v"


def test_without_a_stage_the_whole_flow_is_meant_and_the_caller_is_told():
    reading = read_openroad("eda.openroad", MAKEFILE, {})
    assert reading.jobs[0].body["stage"] == "flow"
    assert reading.warnings


def test_the_config_wins_over_the_context():
    assert read_openroad("eda.openroad", OPENROAD, {"stage": "synth"}).jobs[0].name == "blinker/cts"


@pytest.mark.parametrize("lines", [60, 90])
def test_an_embedded_file_of_the_collectors_length_may_end_inside_a_bracket(lines):
    settings = [f'  "K{i:02}": {i},' for i in range(lines - 2)]
    config = {**OPENLANE, "config.json": "\n".join(["{", *settings, '  "HOOKS": [\n'])}
    found = body(read_openlane("eda.openlane", config, {}))["config.json"]
    assert found["K10"] == 10


ERRORS = [
    (read_openroad, " \n", (1, 1, None)),
    (read_openroad, "design: x\nnot a key\n", (2, 1, None)),
    (read_openroad, "design: x\ndesign: y\n", (2, 1, None)),
    (read_openroad, "design: x\nconfig.mk: |\nstage: cts\n", (2, 1, None)),
    (read_openroad, "design: x\nconfig.mk: |\n  A = 1\n  what is this\n", (4, 3, None)),
    (read_openroad, "design: x\nconstraint.sdc: |\n  set a 1\n  foo {bar\n", (4, 7, None)),
    (read_openroad, 'constraint.sdc: |\n  set a "1\n', (2, 9, None)),
    (read_openroad, {"design": "x", "constraint.sdc": "a }"}, (1, 3, "constraint.sdc")),
    (read_openroad, {"design": ["x"]}, (None, None, "design")),
    (read_openroad, {"facts_before_stage": {"a": [1]}}, (None, None, "facts_before_stage")),
    (read_openroad, {"facts_before_stage": {"a": float("nan")}}, (None, None, "facts_before_stage")),
    (read_openroad, "ifeq (a,b)\nA = 1\n", (3, None, None)),
    (read_openlane, 'design: x\nconfig.json: |\n  {\n    "a": 1,\n    b\n  }\n', (5, 5, None)),
    (read_openlane, '{"a": NaN}', (None, None, None)),
    (read_openlane, '{"a": [1, 2', (1, 12, None)),
    (read_openlane, "hello there", (1, 1, None)),
    (read_openlane, {}, (None, None, None)),
    (read_vtr, "circuits_dir=x\nnonsense\n", (2, 1, None)),
    (read_vtr, {"task": "t", "task_config": {"a": {}}}, (None, None, "task_config.a")),
]


@pytest.mark.parametrize(("read", "config", "where"), ERRORS)
def test_a_broken_config_is_refused_with_its_place(read, config, where):
    with pytest.raises(InvalidConfig) as caught:
        read("eda", config, {})
    error = caught.value
    assert (error.line, error.column, error.path) == where


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "{" * 100_000, '"\\' * 100_000, "x#" * 200_000]
)
@pytest.mark.parametrize("read", [read_openroad, read_openlane, read_vtr])
def test_hostile_text_never_crashes_or_hangs(read, text):
    for name in ("", "config.json", "task_config", "config.mk", "config.tcl", "info.yaml", "constraint.sdc"):
        with contextlib.suppress(InvalidConfig):  # some of it is, to make, a rule
            read("eda", {"design": "x", name: text} if name else text, {})


@pytest.mark.parametrize("kind", ["eda.openroad", "eda.openlane", "eda.vtr"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_context_number_that_is_not_finite_is_refused_with_its_path(kind: str, value: float) -> None:
    with pytest.raises(InvalidConfig, match="finite") as refused:
        read(kind, {"design": "x", "stage": "flow"}, {"threads": value})
    assert refused.value.path == "context.threads"
