"""Which recurring job a run belongs to: what stays the same while its configuration changes.

    github-actions      repository, file (or name) of the workflow, name of the job
    eda.openroad        platform, design, stage; repository, where the context has it
    eda.openlane        design, stage, cell library or platform; repository
    eda.vtr             architecture, circuit, stage, parameters, host; repository
    the others          name, and where it runs: repository, pipeline, machine ... of the context

Jobs whose runs differ by their inputs more than by anything else have no series: there a past run of the same name says
less than the configuration does (docs/decisions.md, 2026-11-29). Only equal jobs share a history then.
"""

from collections.abc import Callable, Iterable, Mapping

from model.jobs.job import Job, Value

#: Entries of the context that stay from run to run; branch, event, commit and run number do not.
_PLACES = (
    "repository",
    "project",
    "pipeline",
    "workflow_path",
    "cluster",
    "partition",
    "machine",
    "host",
    "runner",
)
#: Names that readers give where the configuration has none.
_UNNAMED = frozenset({"job", "text", "pipeline", "workflow"})


def series_of(job: Job) -> tuple[str, ...] | None:
    """What all runs of a recurring job have in common, secrets in names masked as the job's are.

    None where nothing tells this job from others of its kind.
    """
    parts = _PARTS.get(job.kind, _nothing)(job)
    return None if parts is None else (job.kind, job.scope, *parts)


def _github(job: Job) -> tuple[str, ...] | None:
    head = job.body if job.scope == "workflow" else _mapping(job.body.get("workflow"))
    repository = _text(job.context.get("repository"))
    workflow = _text(job.context.get("workflow_path")) or _text(head.get("name"))
    if not repository or not workflow:
        return None
    return (repository, workflow, job.name if job.scope == "job" else "")


def _openroad(job: Job) -> tuple[str, ...] | None:
    named = _all_of(job.body, ("platform", "design", "stage"))
    return named and (*named, *_owner(job))


def _openlane(job: Job) -> tuple[str, ...] | None:
    named = _all_of(job.body, ("design", "stage"))
    library = _text(_mapping(job.body.get("parameters")).get("STD_CELL_LIBRARY"))
    return named and (*named, library or _text(job.body.get("platform")), *_owner(job))


def _vtr(job: Job) -> tuple[str, ...] | None:
    named = _all_of(job.body, ("arch", "circuit", "stage"))
    return named and (*named, _text(job.body.get("script_params")), _text(job.body.get("host")), *_owner(job))


def _owner(job: Job) -> tuple[str, str]:
    """Whose design it is, where the context says: many are called `top` or `user_project_wrapper`."""
    return _text(job.context.get("repository")), _text(job.context.get("project"))


def _named(job: Job) -> tuple[str, ...] | None:
    """By its name and where it runs; nothing for a name that the reader made up and no place."""
    places = tuple(_text(job.context.get(name)) for name in _PLACES)
    if job.name in _UNNAMED and not any(places):
        return None
    return (job.name, *places)


def _nothing(_: Job) -> None:
    return None


_PARTS: Mapping[str, Callable[[Job], tuple[str, ...] | None]] = {
    "github-actions": _github,
    "eda.openroad": _openroad,
    "eda.openlane": _openlane,
    "eda.vtr": _vtr,
    "buildkite": _named,
    "slurm": _named,
}


def _all_of(body: Mapping[str, Value], names: Iterable[str]) -> tuple[str, ...] | None:
    """The texts under all of these names; None where one is missing."""
    found = tuple(_text(body.get(name)) for name in names)
    return found if all(found) else None


def _mapping(value: Value) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Value) -> str:
    """A name as text; empty for what is none."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
