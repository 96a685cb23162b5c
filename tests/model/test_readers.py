"""The registry, the generic reader, Buildkite, Slurm, recipes and plain text."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig, UnknownJob, UnknownKind
from model.jobs import KINDS, read, select
from model.text import full_text
from model.training.corpus import corpus_directory, load
from model.training.examples import job_of
from tests.model.jobs_fixtures import CONFIGS, WORKFLOW

GENERIC = ["nextflow", "pegasus", "makeflow", "snakemake", "galaxy", "spark", "bitbake", "gitlab-spack"]


def body_of(kind: str, config: Any) -> Any:
    return read(kind, config, {}).jobs[0].body


def test_an_unknown_kind_lists_the_known_ones_and_echoes_nothing() -> None:
    with pytest.raises(UnknownKind) as error:
        read("canary-kind", "x", {})
    assert "canary" not in error.value.message
    assert all(kind in error.value.message for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_its_fixture(kind: str) -> None:
    reading = read(kind, CONFIGS[kind], {"host": "n1"})
    assert reading.jobs or reading.workflow
    for job in reading.jobs:
        assert job.kind == kind
        assert job.body


@pytest.mark.parametrize("kind", GENERIC)
def test_yaml_json_and_object_agree(kind: str) -> None:
    config = CONFIGS[kind]
    assert read(kind, json.dumps(config), {}) == read(kind, config, {})
    yaml_text = "task: align\nworkflow: rnaseq\nscript: |\n  run it\n"
    assert body_of(kind, yaml_text) == body_of(
        kind, {"workflow": "rnaseq", "script": "run it\n", "task": "align"}
    )


def test_plain_values_of_yaml_are_what_they_are_in_json() -> None:
    config = {"task": "a", "cores": 2, "ratio": 2.5, "size": 8.0e9, "deep": {"on": True, "list": [1, False]}}
    written = "task: a\ncores: 2\nratio: 2.5\nsize: 8.0e9\ndeep:\n  'on': true\n  list: [1, False]\nnone: null\nno: ~\n"
    assert full_text(read("nextflow", written, {}).jobs[0]) == full_text(read("nextflow", config, {}).jobs[0])
    # What is quoted is text, and so is what JSON cannot write.
    texts = {"a": "2.0", "b": "null", "c": "007", "d": "1_000", "e": "22:22", "f": "1e999", "null": "~"}
    quoted = "a: '2.0'\nb: \"null\"\nc: 007\nd: 1_000\ne: 22:22\nf: 1e999\nnull: '~'\n"
    assert body_of("nextflow", quoted) == body_of("nextflow", texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mark_of_the_byte_order_is_none_of_a_configuration(kind: str) -> None:
    config = CONFIGS[kind]
    written = config if isinstance(config, str) else json.dumps(config)
    assert read(kind, "\ufeff" + written, {}) == read(kind, written, {})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"rule": "align", "threads": 8}, "align"),
        ({"task": None, "process": "SORT"}, "SORT"),
        ({"task": "", "tool": "bwa"}, "bwa"),
        ({"task": 7}, "snakemake"),
    ],
)
def test_a_task_is_called_what_it_says(config: dict[str, Any], name: str) -> None:
    assert read("snakemake", config, {}).jobs[0].name == name


def test_scripts_keep_what_only_looks_like_a_comment() -> None:
    script = "\n  #!/usr/bin/env python3\n  # why\n  sbatch <<EOF\n#SBATCH --time=48:00:00\nEOF\n#!late\n"
    kept = "  #!/usr/bin/env python3\n  sbatch <<EOF\n#SBATCH --time=48:00:00\nEOF"
    assert body_of("nextflow", {"script": script}) == {"script": kept}


@pytest.mark.parametrize(
    ("config", "line", "column"),
    [
        ('{"task": }', 1, 10),
        ('{\n "a": 1,\n "b" 2}', 3, 6),
        ("task: a\n  wrong: indent", 2, 8),
        ("task: [1, 2", 2, 1),
        ("task: *nothing", 1, 7),
        ("task: a\ntask: b", 2, 1),
        ("- a\n- b", 1, None),
        ("task: a\n---\ntask: b", 2, 1),
    ],
)
def test_what_breaks_the_format_is_refused_with_its_place(config: str, line: int, column: int | None) -> None:
    with pytest.raises(InvalidConfig) as error:
        read("nextflow", config, {})
    assert (error.value.line, error.value.column) == (line, column)


@pytest.mark.parametrize(
    "config", ["", "{}", "# nothing", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5000 + "}"]
)
def test_empty_and_impossible_configurations_are_refused(config: str) -> None:
    with pytest.raises(InvalidConfig):
        read("nextflow", config, {})


def test_values_that_no_configuration_holds_are_refused_with_their_path() -> None:
    for value in (float("inf"), object()):
        with pytest.raises(InvalidConfig) as error:
            read("nextflow", {"a": {"b": [1, value]}}, {})
        assert error.value.path == "a.b[1]"


def test_depth_and_number_of_values_are_bounded() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ConfigTooDeep):
        read("nextflow", {"a": deep}, {})
    with pytest.raises(ConfigTooDeep):
        read("nextflow", "a: " + "[" * 30_000, {})
    with pytest.raises(ConfigTooLarge):
        read("nextflow", {"a": [0] * 200_000}, {})
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
        for old, new in zip("abcdef", "bcdefg", strict=True)
    )
    with pytest.raises(ConfigTooLarge):
        read("nextflow", bomb, {})


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), st.text(max_size=200))
def test_any_text_is_read_or_refused_nothing_else(kind: str, text: str) -> None:
    try:
        reading = read(kind, text, {})
    except InvalidConfig as error:
        assert not text.strip() or len(text) < 8 or text.strip() not in error.message
    else:
        assert reading.jobs or reading.workflow


def test_requests_of_the_author_are_found_in_target_units() -> None:
    job = read(
        "nextflow", {"requested_cpus": "8", "requested_memory_bytes": 1e9, "time_limit_seconds": 60}, {}
    ).jobs[0]
    assert job.requested == {"cpu_cores": 8.0, "peak_memory_bytes": 1e9, "runtime_seconds": 60.0}


def test_slurm_directives_become_requests_in_every_spelling() -> None:
    script = "#!/bin/bash\n#SBATCH --time=1-02:03:04 --mem 4G\n#SBATCH -c4 -n 2\n# note\nsrun x # y\n#SBATCH --mem=9G\n"
    job = read("slurm", script, {}).jobs[0]
    assert job.requested == {
        "runtime_seconds": 93_784.0,
        "peak_memory_bytes": 4 * 2.0**30,
        "cpu_cores": 8.0,
    }
    assert "note" not in str(job.body)
    options = {"cpus-per-task": 4, "time": "01:00:00", "mem-per-cpu": "1G", "job-name": "foo"}
    named = read("slurm", options, {}).jobs[0]
    assert (named.name, named.requested) == (
        "foo",
        {"cpu_cores": 4.0, "peak_memory_bytes": 4 * 2.0**30, "runtime_seconds": 3600.0},
    )
    spread = "#SBATCH --nodes=4 --ntasks-per-node=16 --cpus-per-task=2 --mem=0\nx"
    assert read("slurm", spread, {}).jobs[0].requested == {"cpu_cores": 128.0}
    for limit, seconds in {"30": 1800, "1:30": 90, "2:00:00": 7200, "1-0": 86400}.items():
        assert read("slurm", f"#SBATCH -t {limit}\nx", {}).jobs[0].requested["runtime_seconds"] == seconds
    with pytest.raises(InvalidConfig) as error:
        read("slurm", "#!/bin/sh\n#SBATCH 'oops\n", {})
    assert error.value.line == 2


def test_buildkite_merges_what_steps_have_in_common() -> None:
    merged = """
common: &common {agents: {queue: big}, timeout_in_minutes: 30}
retry: &retry {retry: 2, timeout_in_minutes: 5}
steps:
  - {<<: *common, command: make test, timeout_in_minutes: 10}
  - {<<: [*common, *retry], command: make lint}
"""
    first, second = (
        {"agents": {"queue": "big"}, "command": "make test", "timeout_in_minutes": "10"},
        {"agents": {"queue": "big"}, "command": "make lint", "retry": "2", "timeout_in_minutes": "30"},
    )
    found = read("buildkite", merged, {}).workflow
    assert found is not None
    assert found.body["pipeline"]["steps"] == [first, second]  # type: ignore[index,call-overload]


def test_buildkite_tables_become_platforms() -> None:
    text = (
        "buildkite_job: :mac: build arm\nsteps:\n  - label: build\n"
        "# pipelines/a.arches\n# OS  TRIPLET  TIMEOUT\nmacos  aarch64-darwin  .\n"
    )
    job = read("buildkite", text, {}).jobs[0]
    assert job.name == ":mac: build arm"
    assert job.body["platforms"] == [{"OS": "macos", "TRIPLET": "aarch64-darwin"}]
    whole = read("buildkite", "- command: make\n", {})
    assert whole.workflow is not None
    assert whole.jobs == ()
    with pytest.raises(InvalidConfig):
        read("buildkite", "steps: 3", {})


def test_spack_recipes_keep_dependencies_and_lose_checksums() -> None:
    recipe = (
        'class Zlib(Package):\n    """Text\n    of many lines"""\n    homepage = "h"\n'
        '    version(\n        "1.2", sha256="abc1234"\n    )\n    depends_on("cmake@3:", type="build")\n'
        '    variant("pic", default=True)\n    def install(self):\n        # why\n        make()\n'
    )
    body = body_of("gitlab-spack", {"package": "zlib", "recipe": recipe})
    assert body["depends_on"] == "cmake"
    assert body["variants"] == "pic"
    assert body["versions"] == 1
    assert body["recipe"] == "class Zlib(Package):\n    def install(self):\n        make()"


def test_bitbake_recipes_lose_checksums_and_licences() -> None:
    recipe = (
        'DEPENDS = "a \\\n   b"\nLIC_FILES_CHKSUM = "x \\\n y"\nSRC_URI[sha256sum] = "1"\ninherit meson\n'
    )
    assert body_of("bitbake", {"recipe_text": recipe})["recipe_text"] == 'DEPENDS = "a  b"\ninherit meson'


def test_select_finds_jobs_and_the_workflow_by_name() -> None:
    reading = read("github-actions", WORKFLOW, {})
    assert select(reading, "lint").name == "lint"
    assert select(reading, "build").scope == "workflow"
    with pytest.raises(UnknownJob) as error:
        select(reading, "canary")
    assert "canary" not in error.value.message


@pytest.mark.skipif(corpus_directory() is None, reason="the corpus is absent")
def test_every_source_of_the_corpus_reads() -> None:
    directory = corpus_directory()
    assert directory is not None
    records = load(directory, splits=["val"])
    assert len(records) > 5000
    for record in records[::7]:
        assert job_of(record).body
