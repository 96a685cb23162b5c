"""Properties of the EDA readers over generated input, and a sample of the corpus where it is at hand."""

import json
import lzma
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import InvalidConfig
from model.jobs.makefile_source import parse_makefile
from model.jobs.openlane import read_openlane
from model.jobs.openroad import read_openroad
from model.jobs.tcl_source import parse_settings, split_commands
from model.jobs.vtr import read_vtr

READERS = {"eda.openroad": read_openroad, "eda.openlane": read_openlane, "eda.vtr": read_vtr}
CORPUS = Path(__file__).parents[3] / "shared" / "data"

names = st.from_regex(r"[A-Z][A-Z_]{0,8}", fullmatch=True)
words = st.from_regex(r"[a-z0-9.]{1,8}", fullmatch=True)
values = st.lists(words, min_size=1, max_size=4).map(" ".join)
variables = st.dictionaries(names, values, min_size=1, max_size=6)
noise = st.lists(st.sampled_from(["", "   ", "# a comment", "\t# another {", '  # "']), max_size=3)


def lines_with_noise(lines, extra):
    """Comment lines and blank lines before each line."""
    return "\n".join(part for line in lines for part in [*extra, line])


@given(variables, noise, st.sampled_from([" ", "  ", " \\\n   "]))
def test_comments_and_white_space_never_change_make_variables(found, extra, space):
    plain = "\n".join(f"export {name} = {value}" for name, value in found.items())
    noisy = [f"export {name} ={space}{value.replace(' ', space)}  # why" for name, value in found.items()]
    assert read_openroad("eda.openroad", lines_with_noise(noisy, extra), {}) == read_openroad(
        "eda.openroad", plain, {}
    )
    assert parse_makefile(plain).plain == found


@given(variables, noise, st.sampled_from([" ", "  ", " \\\n   "]))
def test_comments_and_white_space_never_change_tcl_settings(found, extra, space):
    plain = "\n".join(f'set ::env({name}) "{value}"' for name, value in found.items())
    noisy = [f'set{space}::env({name}){space}"{value}" ;# why' for name, value in found.items()]
    assert read_openlane("eda.openlane", lines_with_noise(noisy, extra), {}) == read_openlane(
        "eda.openlane", plain, {}
    )
    assert parse_settings(plain).variables == found


@given(variables, noise)
def test_comments_and_white_space_never_change_a_task_config(found, extra):
    plain = "\n".join(f"{name}={value}" for name, value in found.items())
    noisy = lines_with_noise([f"  {name} =  {value} " for name, value in found.items()], extra)
    assert read_vtr("eda.vtr", noisy, {}) == read_vtr("eda.vtr", plain, {})
    assert read_vtr("eda.vtr", found, {}) == read_vtr("eda.vtr", plain, {})


@given(variables, st.randoms())
def test_key_order_of_an_object_never_shows(found, random):
    items = list(found.items())
    random.shuffle(items)
    for read, config in ((read_openlane, dict(items)), (read_openroad, {"config.mk": dict(items)})):
        ordered = dict(sorted(items)) if read is read_openlane else {"config.mk": dict(sorted(items))}
        first, second = (read("eda", form, {}).jobs[0].body for form in (config, ordered))
        assert json.dumps(first) == json.dumps(second)


HEADS = [
    f"{name}: |"
    for name in ("config.mk", "constraint.sdc", "config.json", "info.yaml", "config.tcl", "task_config")
]
PIECES = [
    "design: x",
    "facts_before_stage:",
    "  a: 1",
    "  A = b",
    '  {"a": 1}',
    "{",
    "}",
    '"',
    "[",
    "\\",
    "endef",
]
MORE = ["ifeq (a,b)", "endif", "define x", "set ::env(A) {b", "x=1", "a: b", "\tc", "# d", "- e", "&a *a"]
fragments = st.lists(
    st.sampled_from([*HEADS, *PIECES, *MORE]) | st.text(max_size=20),
    max_size=12,
).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(fragments | st.text(), st.sampled_from(sorted(READERS)))
def test_any_text_reads_or_is_invalid_config(text, kind):
    try:
        READERS[kind](kind, text, {})
    except InvalidConfig as error:
        assert error.line is None or 1 <= error.line <= text.count("\n") + text.count("\r") + 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
keys = st.text(max_size=6) | st.sampled_from(
    ["design", "stage", "config.mk", "config.json", "info.yaml", "x.sdc", "facts_before_stage", "task_config"]
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(keys, json_values, max_size=4),
    st.dictionaries(keys, json_values, max_size=2),
    st.sampled_from(sorted(READERS)),
)
def test_any_object_and_context_read_or_are_invalid_config(config, context, kind):
    try:
        reading = READERS[kind](kind, config, context)
    except InvalidConfig:
        return
    json.dumps(reading.jobs[0].body, allow_nan=False)
    json.dumps(reading.jobs[0].context, allow_nan=False)


@given(st.lists(st.sampled_from(["a", "{b c}", '"d e"', "[f g]", "$h", "{i\n j}"]), min_size=1, max_size=6))
def test_balanced_tcl_is_one_command(parts):
    assert split_commands("x " + " ".join(parts)) == [" ".join(("x " + " ".join(parts)).split())]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not part of the repository")
@pytest.mark.parametrize("source", ["openroad", "metrics4ml", "openlane", "vtr"])
def test_corpus_configs_read(source):
    with lzma.open(CORPUS / f"{source}.jsonl.xz", "rt") as lines:
        for line in islice(lines, 0, 3000, 10):
            record = json.loads(line)
            (job,) = READERS[record["kind"]](record["kind"], record["config"], record["context"]).jobs
            assert job.body["stage"] == record["context"]["stage"]
