"""The human expert: what the author of a job asked for, in the units of the targets.

Readers put what a job asks for itself into `Job.requested`. What is said inside a whole workflow or a pipeline
is found here: the limits along the longest chain of its jobs, and the limit of the step that is meant.
"""

import re
from collections.abc import Mapping

from model.jobs.graph import flat_steps, jobs_of, longest_chain
from model.jobs.job import Job, Value

RUNTIME = "runtime_seconds"
_SECONDS_PER_MINUTE = 60.0
#: `${TIMEOUT?}` of a pipeline that is a template for several platforms.
_VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")


def requested_of(job: Job) -> Mapping[str, float]:
    """Target -> the author's request; nothing for a target that the author said nothing about."""
    if job.requested:
        return job.requested
    if job.kind == "buildkite":
        minutes = _step_minutes(job)
    else:
        # Jobs without a limit of their own add nothing: GitHub's default of six hours is not the author's.
        minutes = longest_chain(jobs_of(job.body), lambda inner: _minutes(inner.get("timeout-minutes"), {}))
    return {RUNTIME: minutes * _SECONDS_PER_MINUTE} if minutes else {}


def _step_minutes(job: Job) -> float:
    """`timeout_in_minutes` of the step that `buildkite_job` names, or else the longest of the pipeline."""
    pipeline = job.body.get("pipeline")
    if not isinstance(pipeline, Mapping):
        return 0.0
    steps = list(flat_steps(pipeline.get("steps")))
    values = _platform(job)
    label = job.body.get("buildkite_job")
    meant = [step for step in steps if label and _filled(str(step.get("label", "")), values) == label]
    return max((_minutes(step.get("timeout_in_minutes"), values) for step in meant or steps), default=0.0)


def _platform(job: Job) -> Mapping[str, str]:
    """The one row of the platforms' table that the job is run for; of several, what they agree on."""
    rows = job.body.get("platforms")
    if not isinstance(rows, list | tuple):
        return {}
    tables = [{k: str(v) for k, v in row.items()} for row in rows if isinstance(row, Mapping)]
    first = tables[0] if tables else {}
    return {name: value for name, value in first.items() if all(t.get(name) == value for t in tables)}


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def _minutes(value: Value, values: Mapping[str, str]) -> float:
    try:
        minutes = float(_filled(str(value), values))
    except ValueError:  # an expression, or nothing
        return 0.0
    return minutes if 0 < minutes < 1e6 else 0.0
