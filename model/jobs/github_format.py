"""What GitHub Actions accepts as a workflow: the tree, its checks and the order of its jobs.

Checked: the shape the rest of the reader relies on, in GitHub's own terms, each failure with its path.
Not checked: expressions, names of runners and actions, and keys that GitHub does not know (they are ignored).
"""

import heapq
from collections.abc import Mapping
from typing import TypeAlias, cast

from model.errors import InvalidConfig
from model.jobs.limits import check_object
from model.jobs.time_limit import check_time
from model.jobs.yaml_source import load_yaml, numbers_marked

#: A configuration once read: every scalar is text, as YAML would write it; "" stands for nothing.
Tree: TypeAlias = "str | list[Tree] | dict[str, Tree]"


def invalid(message: str, path: str) -> InvalidConfig:
    """An InvalidConfig at a path."""
    return InvalidConfig(message, path=path)


def read_tree(config: object) -> dict[str, Tree]:
    """Text or an object -> a mapping of text, lists and mappings."""
    if isinstance(config, str):
        # load_yaml already bounds depth and size and leaves only str, list and dict.
        tree = cast(Tree, load_yaml(config, plain=numbers_marked))
    else:
        check_object(config)
        tree = _as_text(config)
    if not isinstance(tree, dict):
        raise InvalidConfig("the top level is not a mapping", line=1)
    return tree if isinstance(config, str) else _with_triggers(tree)


def _as_text(value: object) -> Tree:
    if isinstance(value, Mapping):
        return {_key(key): _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_text(inner) for inner in value]
    return _scalar(value)


def _scalar(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # JSON clients send 30.0 for 30
    return str(value)


def _key(key: object) -> str:
    # PyYAML's other loaders turn `on:` into True, and a client may have used one of them.
    return "on" if key is True else _scalar(key)


def _with_triggers(tree: dict[str, Tree]) -> dict[str, Tree]:
    """`on:` that became True on its way through YAML 1.1 is "true" once it went through JSON."""
    if "on" in tree or "true" not in tree:
        return tree
    return {"on" if key == "true" else key: value for key, value in tree.items()}


def size_of(tree: Tree) -> int:
    """How many scalars, lists and mappings a tree holds; every 32 characters of a text count as one more."""
    check_time()
    if isinstance(tree, str):
        return 1 + len(tree) // 32
    return 1 + sum(map(size_of, tree.values() if isinstance(tree, dict) else tree))


def is_single_job(tree: Mapping[str, Tree]) -> bool:
    """Is it one job on its own, rather than a workflow?"""
    return "jobs" not in tree and any(key in tree for key in ("steps", "runs-on", "uses"))


def check_workflow(tree: Mapping[str, Tree]) -> dict[str, dict[str, Tree]]:
    """The workflow's jobs by id. Raises InvalidConfig at the first thing GitHub would refuse."""
    if "jobs" not in tree or tree["jobs"] in ("", {}):
        raise invalid("a workflow without jobs", "jobs")
    jobs = tree["jobs"]
    if not isinstance(jobs, dict):
        raise invalid("jobs is not a mapping of job ids to jobs", "jobs")
    _check_mappings(tree, ("env", "defaults"), "")
    _check_text(tree, ("name",), "")
    if isinstance(tree.get("on"), list):
        _check_texts(tree["on"], "on")
    return {job_id: check_job(job, f"jobs.{job_id}") for job_id, job in jobs.items()}


def check_job(job: Tree, path: str) -> dict[str, Tree]:
    """One job, checked; `path` is where it stands ("" for a job on its own)."""
    if not isinstance(job, dict):
        raise invalid("a job is not a mapping", path)
    at = f"{path}." if path else ""
    if "uses" in job:
        if not isinstance(job["uses"], str) or not job["uses"]:
            raise invalid("uses is not the name of a workflow", f"{at}uses")
        if "steps" in job or "runs-on" in job:
            raise invalid("a job with uses has neither steps nor runs-on", f"{at}uses")
    else:
        if job.get("runs-on", "") in ("", [], {}):
            raise invalid("a job with neither runs-on nor uses", f"{at}runs-on")
        steps = job.get("steps", [])
        if not isinstance(steps, list):
            raise invalid("steps is not a list", f"{at}steps")
        if not steps:
            raise invalid("a job without steps", f"{at}steps")
        for index, step in enumerate(steps):
            check_step(step, f"{at}steps[{index}]")
    _check_mappings(job, ("services", "with", "env", "defaults", "strategy"), at)
    _check_text(job, ("name", "if", "timeout-minutes", "continue-on-error"), at)
    if not isinstance(job.get("needs", ""), str):
        _check_texts(job["needs"], f"{at}needs")
    return job


def check_step(step: Tree, path: str) -> dict[str, Tree]:
    """One step: a mapping that either runs a script or uses an action."""
    check_time()
    if not isinstance(step, dict):
        raise invalid("a step is not a mapping", path)
    if ("run" in step) == ("uses" in step):
        both = "both run and uses" if "run" in step else "neither run nor uses"
        raise invalid(f"a step with {both}", path)
    _check_text(step, ("run", "uses", "name", "if", "shell", "working-directory"), f"{path}.")
    _check_text(step, ("timeout-minutes", "continue-on-error"), f"{path}.")
    _check_mappings(step, ("with", "env"), f"{path}.")
    return step


def _check_mappings(parent: Mapping[str, Tree], keys: tuple[str, ...], at: str) -> None:
    for key in keys:
        # A string is either empty (nothing) or an expression that yields a mapping.
        if isinstance(value := parent.get(key, ""), list) or (isinstance(value, str) and _is_literal(value)):
            raise invalid(f"{key} is not a mapping", f"{at}{key}")


def _is_literal(text: str) -> bool:
    return text != "" and "${{" not in text


def _check_text(parent: Mapping[str, Tree], keys: tuple[str, ...], at: str) -> None:
    for key in keys:
        if not isinstance(parent.get(key, ""), str):
            raise invalid(f"{key} is not a single value", f"{at}{key}")


def _check_texts(value: Tree, path: str) -> None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise invalid("neither a single value nor a list of them", path)


def needs_of(job: Mapping[str, Tree]) -> tuple[str, ...]:
    """The job ids a checked job waits for, sorted and without repeats."""
    needs = job.get("needs", "")
    ids = [needs] if isinstance(needs, str) else [str(item) for item in needs]
    return tuple(sorted({job_id for job_id in ids if job_id}))


def order_of(jobs: Mapping[str, Mapping[str, Tree]]) -> list[str]:
    """Job ids, every job after those it needs, the smallest id first where several may come."""
    waiting = {job_id: set(needs_of(job)) for job_id, job in jobs.items()}
    followers: dict[str, list[str]] = {job_id: [] for job_id in jobs}
    for job_id, needs in waiting.items():
        for needed in needs:
            if needed not in jobs:
                raise invalid("needs a job that the workflow does not have", f"jobs.{job_id}.needs")
            followers[needed].append(job_id)
    ready = sorted(job_id for job_id, needs in waiting.items() if not needs)
    ordered: list[str] = []
    while ready:
        check_time()
        done = heapq.heappop(ready)
        ordered.append(done)
        for follower in followers[done]:
            waiting[follower].discard(done)
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(ordered) < len(jobs):
        stuck = min(set(jobs).difference(ordered))
        raise invalid("jobs that wait for each other in a circle", f"jobs.{stuck}.needs")
    return ordered
