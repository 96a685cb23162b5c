"""Readers: raw configuration -> Reading. One reader per format, one registry."""

from collections.abc import Mapping

from model.errors import UnknownJob, UnknownKind
from model.jobs.buildkite import read_buildkite
from model.jobs.generic import read_generic, read_text
from model.jobs.github_actions import read_github_actions
from model.jobs.job import Job, Outcome, Reader, Reading
from model.jobs.openlane import read_openlane
from model.jobs.openroad import read_openroad
from model.jobs.recipes import read_bitbake, read_spack
from model.jobs.slurm import read_slurm
from model.jobs.vtr import read_vtr

__all__ = ["KINDS", "Job", "Outcome", "Reading", "read", "select"]

_READERS: dict[str, Reader] = {
    "github-actions": read_github_actions,
    "buildkite": read_buildkite,
    "gitlab-spack": read_spack,
    "bitbake": read_bitbake,
    "eda.openroad": read_openroad,
    "eda.openlane": read_openlane,
    "eda.vtr": read_vtr,
    "nextflow": read_generic,
    "pegasus": read_generic,
    "makeflow": read_generic,
    "snakemake": read_generic,
    "galaxy": read_generic,
    "spark": read_generic,
    "slurm": read_slurm,
    "text": read_text,
}

#: Every kind that can be asked for.
KINDS = tuple(_READERS)


def read(kind: str, config: str | Mapping[str, object], context: Mapping[str, object]) -> Reading:
    """Read a configuration of one of KINDS. Raises UnknownKind, InvalidConfig and its children."""
    reader = _READERS.get(kind)
    if reader is None:
        raise UnknownKind(f"unknown kind; known: {', '.join(KINDS)}")
    if isinstance(config, str):
        config = config.removeprefix("\ufeff")  # says in what order bytes stood
    return reader(kind, config, context)


def select(reading: Reading, name: str) -> Job:
    """The job of that name, or the workflow if it alone has it. Raises UnknownJob."""
    for job in reading.jobs:
        if job.answers_to(name):
            return job
    if reading.workflow is not None and reading.workflow.answers_to(name):
        return reading.workflow
    raise UnknownJob(f"no job of that name; the config has {len(reading.jobs)} jobs")
