"""GitHub Actions: a workflow file (or one job of it) -> the run as a whole and each job that it starts.

    text or object --github_format--> checked tree --github_matrix--> combinations --github_body--> bodies
                                           └--github_local--> reusable workflows, composite actions

The order of keys is never seen in a body. It does show in names: GitHub lists a matrix job's values in the
order in which its axes are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from model.errors import ConfigTooLarge, InvalidConfig
from model.jobs.github_body import called_head, job_body, workflow_head
from model.jobs.github_context import job_context
from model.jobs.github_expressions import Filling, inputs_of
from model.jobs.github_format import (
    Tree,
    check_job,
    check_workflow,
    is_single_job,
    needs_of,
    order_of,
    read_tree,
)
from model.jobs.github_local import Expanding
from model.jobs.github_matrix import Combination, Title, expand
from model.jobs.job import Job, Reading, Value

MAX_JOBS = 2048
#: Of what nobody called: every input is an expression as it is written.
_NO_INPUTS = Filling("inputs", {}, others_unknown=True)
MAX_CALL_DEPTH = 10  # GitHub's limit on workflows calling workflows, the first one included


@dataclass(frozen=True)
class _Planned:
    """One job that GitHub would start. `callers` lead to it from the outermost workflow inwards.

    `name` is GitHub's, by which others refer to it; `shown` is what answers may show of it,
    once secrets that can be told from the name alone are masked.
    """

    name: str
    shown: str
    body: dict[str, Tree]
    needs: tuple[str, ...] = ()
    callers: tuple[dict[str, Tree], ...] = ()


@dataclass(frozen=True)
class _Plan:
    """One workflow's jobs, expanded, and the same jobs compactly for the body of the whole run.

    `head` is what a called workflow sets for all its jobs.
    """

    jobs: tuple[_Planned, ...]
    compact: dict[str, Tree]
    head: dict[str, Tree] = field(default_factory=dict)


def read_github_actions(
    kind: str, config: str | Mapping[str, object], context: Mapping[str, object]
) -> Reading:
    """Read a workflow, or a single job (a mapping with steps, runs-on or uses, but without jobs).

    A whole workflow gives one Job of scope `workflow` and one of scope `job` per expanded job; a single job
    gives the latter only. Raises InvalidConfig with line or path.
    """
    tree = read_tree(config)
    expanding = Expanding(context.get("local_actions"), context.get("repository"))
    facts = job_context(context)
    if is_single_job(tree):
        # Its `needs` name jobs that are not here, so the graph has no edge for them; the body keeps them.
        jobs, _ = _expand_job(check_job(tree, ""), "job", (), {}, "", 1, expanding, _NO_INPUTS)
        return Reading(tuple(_job(kind, job, {}, facts) for job in jobs), warnings=expanding.warnings())
    plan = _plan(tree, "", 1, expanding, _NO_INPUTS)
    head = workflow_head(tree)
    name = head.get("name", "")
    return Reading(
        jobs=tuple(_job(kind, job, head, facts) for job in plan.jobs),
        workflow=Job(
            kind=kind,
            scope="workflow",
            name=name if isinstance(name, str) and name else "workflow",
            body={**head, "jobs": plan.compact},
            context=facts,
        ),
        warnings=expanding.warnings(),
    )


def _job(kind: str, planned: _Planned, head: dict[str, Tree], facts: Mapping[str, Value]) -> Job:
    body: dict[str, Value] = {}
    if head:
        body["workflow"] = head
    if planned.callers:
        body["callers"] = list(planned.callers)
    body["job"] = planned.body
    return Job(
        kind=kind,
        scope="job",
        name=planned.shown,
        body=body,
        needs=planned.needs,
        requested=_requested(planned.body),
        context=facts,
        written_name=planned.name if planned.name != planned.shown else None,
    )


def _requested(body: Mapping[str, Tree]) -> dict[str, float]:
    minutes = body.get("timeout-minutes", "")
    if not isinstance(minutes, str) or not minutes.replace(".", "", 1).isdecimal() or len(minutes) > 9:
        return {}
    return {"runtime_seconds": float(minutes) * 60} if float(minutes) else {}


def _plan(tree: Mapping[str, Tree], at: str, depth: int, expanding: Expanding, inputs: Filling) -> _Plan:
    """Expand one workflow; `at` prefixes the path of errors. inputs: what it was called with."""
    jobs = check_workflow(tree)
    names: dict[str, tuple[str, ...]] = {}
    planned: list[_Planned] = []
    compact: dict[str, Tree] = {}
    taken: dict[str, int] = {}
    for job_id in order_of(jobs):
        needs = tuple(name for needed in needs_of(jobs[job_id]) for name in names[needed])
        path = f"{at}jobs.{job_id}"
        found, compact[job_id] = _expand_job(
            jobs[job_id], job_id, needs, taken, path, depth, expanding, inputs
        )
        names[job_id] = tuple(job.name for job in found)
        planned += found
        if len(planned) > MAX_JOBS:
            raise ConfigTooLarge(f"more than {MAX_JOBS} jobs once all are expanded", path="jobs")
    return _Plan(tuple(planned), compact, called_head(tree))


def _expand_job(
    job: Mapping[str, Tree],
    job_id: str,
    needs: tuple[str, ...],
    taken: dict[str, int],
    path: str,
    depth: int,
    expanding: Expanding,
    inputs: Filling,
) -> tuple[list[_Planned], Tree]:
    """All jobs that one entry under `jobs` stands for, and its compact body. Adds their names to `taken`.

    The jobs are as they run, inputs filled in; the compact body is as it is written.
    """
    known = cast(dict[str, Tree], inputs(dict(job)))
    expansion = expand(known.get("strategy", ""), f"{path}.strategy" if path else "strategy")
    if not expansion.complete:
        expanding.warn("a matrix holds expressions that only the run can resolve: it may start more jobs")
    written = job_body(job, lambda uses: expanding.action(uses, path))
    called = _called(known, path, depth, expanding)
    own = cast(dict[str, Tree], inputs(written))
    # Refuse before the work is done; what the values add to it is counted as it comes.
    expanding.spend(own, path, times=len(expansion.combinations))
    planned: list[_Planned] = []
    name = known.get("name", "")
    title = Title(name if isinstance(name, str) else "", computed="${{" in job.get("name", ""))
    for combination in expansion.combinations:
        body = _filled(own, combination)
        expanding.spend(body, path)
        wanted = combination.name(title, job_id)
        name = _free_name(wanted, called, taken)
        shown = combination.shown_name(title, job_id) + name.removeprefix(wanted)
        one = _Planned(name, shown, body, needs)
        planned += [one] if called is None else _calls(called, one)
    return planned, _compact(written, len(expansion.combinations), called)


def _free_name(wanted: str, called: _Plan | None, taken: dict[str, int]) -> str:
    """GitHub lets several jobs share a name; `needs` cannot, so later ones get a number.

    `taken` maps each name to the last number given to it, so that many equal names cost no search.
    """
    endings = [""] if called is None else [f" / {inner.name}" for inner in called.jobs]
    name, first = wanted, wanted + endings[0]
    number = taken.get(first, 1)
    while any(name + ending in taken for ending in endings):
        number += 1
        name = f"{wanted} #{number}"
    taken.update({name + ending: 1 for ending in endings})
    taken[first] = number
    return name


def _called(job: Mapping[str, Tree], path: str, depth: int, expanding: Expanding) -> _Plan | None:
    """The workflow that a job calls, expanded; None where there is none or it cannot be had."""
    uses = job.get("uses", "")
    if not isinstance(uses, str) or not uses:
        return None
    if depth >= MAX_CALL_DEPTH:
        expanding.warn(f"workflows that call each other deeper than {MAX_CALL_DEPTH} levels were left out")
        return None
    tree = expanding.workflow(uses)
    if tree is None:
        return None
    try:
        return _plan(tree, f"{path}.uses.", depth + 1, expanding, inputs_of(tree, job.get("with", "")))
    except ConfigTooLarge:
        raise
    except InvalidConfig:
        # The caller's own text is fine: it is read as if the file had not been given.
        expanding.warn("a reusable workflow in context.local_actions is broken")
        return None


def _calls(called: _Plan, by: _Planned) -> list[_Planned]:
    """The called workflow's jobs as GitHub shows them under their caller, for which they stand."""
    caller: dict[str, Tree] = {**by.body, "called": called.head} if called.head else by.body
    return [
        replace(
            inner,
            name=f"{by.name} / {inner.name}",
            shown=f"{by.shown} / {inner.shown}",
            # The first jobs of a called workflow wait for what their caller waits for.
            needs=tuple(f"{by.name} / {needed}" for needed in inner.needs) or by.needs,
            callers=(caller, *inner.callers),
        )
        for inner in called.jobs
    ]


def _filled(written: dict[str, Tree], combination: Combination) -> dict[str, Tree]:
    """A job's body for one combination, whose values stand where the strategy stood: there they keep their names."""
    body: dict[str, Tree] = {}
    masked = combination.masked
    for key, value in written.items():
        if key != "strategy":
            body[key] = masked.fill(value)
        elif masked.values:
            body["matrix"] = {axis: masked.values[axis] for axis in sorted(masked.values)}
    return body


def _compact(written: dict[str, Tree], combinations: int, called: _Plan | None) -> Tree:
    """A job's body in the whole run: its matrix as axes and a count, a called workflow under its caller."""
    body = dict(written)
    strategy = body.get("strategy")
    if isinstance(strategy, dict) and "matrix" in strategy:
        body["strategy"] = {"combinations": str(combinations), **strategy}
    if called is not None:
        body["called"] = {**called.head, "jobs": called.compact}
    return body
