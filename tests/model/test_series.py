"""Which recurring job a run belongs to: the same while its configuration changes, another one for another job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.jobs import read
from model.jobs.job import Job
from model.jobs.series import series_of

WORKFLOW = """
name: CI
on: [push]
jobs:
  lint: {{runs-on: ubuntu-latest, steps: [{{run: ruff check}}]}}
  test:
    runs-on: ubuntu-latest
    strategy: {{matrix: {{python: ['3.11', '3.12']}}}}
    steps: [{{run: {run}}}]
"""
OPENROAD = """flow: OpenROAD-flow-scripts
platform: {platform}
design: gcd
stage: {stage}
openroad_version: {version}
config.mk: |
  export CORE_UTILIZATION = {utilization}
"""
OPENLANE = """flow: OpenLane RTL-to-GDS
design: {design}
parameters:
  CLOCK_PERIOD: {period}
  STD_CELL_LIBRARY: {library}
"""
VTR = """flow: VTR (Verilog-to-Routing)
arch: arch/timing/k6_N10_40nm.xml
circuit: benchmarks/verilog/{circuit}.v
script_params: common
host: {host}
vpr_revision: {revision}
stage: {stage}
"""
PLACE = {"repository": "octo/app", "workflow_path": ".github/workflows/ci.yml"}


def github(run: str = "pytest", **context: object) -> dict[str, tuple[str, ...] | None]:
    """Series by the name of the job, the whole run's under `workflow`."""
    reading = read("github-actions", WORKFLOW.format(run=run), context)
    assert reading.workflow is not None
    return {job.name: series_of(job) for job in reading.jobs} | {"workflow": series_of(reading.workflow)}


def only(kind: str, config: str | dict[str, object], **context: object) -> tuple[str, ...] | None:
    (job,) = read(kind, config, context).jobs
    return series_of(job)


def test_jobs_of_a_workflow_are_told_apart_and_stay_what_they_are_when_their_steps_change() -> None:
    series = github(**PLACE)
    assert None not in series.values()
    assert len(set(series.values())) == len(series) == 4
    assert github("pytest -x", **PLACE) == series


@pytest.mark.parametrize("other", [{"repository": "octo/lib"}, {"workflow_path": ".github/workflows/b.yml"}])
def test_another_repository_or_file_is_another_job(other: dict[str, object]) -> None:
    assert not set(github(**PLACE).values()) & set(github(**{**PLACE, **other}).values())


def test_a_workflow_is_known_by_its_name_where_its_file_is_not() -> None:
    assert None not in github(repository="octo/app").values()


def test_without_a_repository_nothing_tells_two_workflows_apart() -> None:
    assert set(github().values()) == {None}


def test_a_job_on_its_own_needs_the_name_of_its_workflow() -> None:
    job: dict[str, object] = {"runs-on": "ubuntu-latest", "steps": [{"run": "make"}]}
    assert only("github-actions", job, repository="octo/app") is None
    assert only("github-actions", job, **PLACE) is not None


@given(st.sampled_from(["event", "branch", "run_number", "commit"]), st.text(max_size=8))
def test_what_changes_from_run_to_run_does_not_matter(name: str, value: str) -> None:
    assert github(**PLACE, **{name: value}) == github(**PLACE)


def test_a_stage_of_a_design_on_a_platform() -> None:
    known = {"platform": "asap7", "stage": "cts", "version": "v2.0-1", "utilization": 40}
    series = only("eda.openroad", OPENROAD.format(**known))
    assert series is not None
    assert (
        only("eda.openroad", OPENROAD.format(**{**known, "version": "v2.0-9", "utilization": 60})) == series
    )
    for other in ({"platform": "nangate45"}, {"stage": "route"}):
        assert only("eda.openroad", OPENROAD.format(**{**known, **other})) not in (series, None)
    assert only("eda.openroad", OPENROAD.format(**known), repository="octo/chip") not in (series, None)


def test_a_design_in_a_cell_library() -> None:
    known = {"design": "aes", "period": 10, "library": "sky130_fd_sc_hd"}
    series = only("eda.openlane", OPENLANE.format(**known))
    assert series is not None
    assert only("eda.openlane", OPENLANE.format(**{**known, "period": 12})) == series
    for other in ({"design": "gcd"}, {"library": "sky130_fd_sc_hs"}):
        assert only("eda.openlane", OPENLANE.format(**{**known, **other})) not in (series, None)


def test_a_circuit_on_an_architecture_and_a_host_whatever_its_number() -> None:
    known = {"circuit": "bgm", "host": "runner-spawned12", "revision": "v8.0", "stage": "vpr_route"}
    series = only("eda.vtr", VTR.format(**known))
    assert series is not None
    assert only("eda.vtr", VTR.format(**{**known, "host": "runner-spawned7", "revision": "v9.0"})) == series
    for other in ({"circuit": "sha"}, {"host": "wintermute"}, {"stage": "vpr_place"}):
        assert only("eda.vtr", VTR.format(**{**known, **other})) not in (series, None)


def test_a_label_and_a_batch_script_go_by_their_names_and_where_they_run() -> None:
    pipeline = "buildkite_job: {}\nsteps:\n  - label: x\n    command: {}\n"
    series = only("buildkite", pipeline.format(":linux: test", "make"))
    assert series is not None
    assert only("buildkite", pipeline.format(":linux: test", "make -j8")) == series
    assert only("buildkite", pipeline.format(":macos: test", "make")) not in (series, None)
    script = "#!/bin/bash\n#SBATCH --job-name={}\nsrun ./a\n"
    named = only("slurm", script.format("fold"), cluster="a")
    assert named not in (only("slurm", script.format("fold"), cluster="b"), None)
    assert only("slurm", "#!/bin/bash\nsrun ./a\n") is None


@pytest.mark.parametrize("kind", ["nextflow", "galaxy", "spark", "snakemake", "gitlab-spack"])
def test_jobs_that_differ_by_their_inputs_have_no_series(kind: str) -> None:
    assert (
        only(kind, {"task": "align", "workflow": "rnaseq", "inputs": "a.fq"}, repository="octo/app") is None
    )
    assert series_of(Job("text", "job", "text", {"text": "make"}, context={"repository": "octo/app"})) is None
