"""The parts of a workflow that bear on its run time, each in one fixed form.

Left out: permissions, secrets, credentials, outputs, step ids, and the comments and blank lines of scripts.
Written one way: `[x]` as `x` for runner labels, an image alone for a container, `if` without its braces,
mappings by key where GitHub gives their order no meaning.
"""

import re
from collections.abc import Callable, Mapping

from model.jobs.generic import is_comment
from model.jobs.github_format import Tree, needs_of
from model.jobs.time_limit import check_time

_WORKFLOW_KEYS = ("name", "on", "env", "defaults", "concurrency")
_JOB_KEYS = (
    "name",
    "runs-on",
    "needs",
    "if",
    "strategy",
    "matrix",
    "timeout-minutes",
    "continue-on-error",
    "environment",
    "concurrency",
    "container",
    "services",
    "defaults",
    "env",
    "uses",
    "with",
)
_STEP_KEYS = (
    "name",
    "uses",
    "with",
    "run",
    "env",
    "working-directory",
    "shell",
    "if",
    "timeout-minutes",
    "continue-on-error",
)
#: Maps a local action's `uses` to what it does: `{"steps": [...]}` or `{"runs": {...}}`; {} where unknown.
Inline = Callable[[str], dict[str, Tree]]


def workflow_head(tree: Mapping[str, Tree]) -> dict[str, Tree]:
    """Name, triggers and settings of the workflow as a whole."""
    return _pick(tree, _WORKFLOW_KEYS)


def called_head(tree: Mapping[str, Tree]) -> dict[str, Tree]:
    """What a reusable workflow adds to its own jobs."""
    return _pick(tree, ("env", "defaults"))


def job_body(job: Mapping[str, Tree], inline: Inline) -> dict[str, Tree]:
    """A job as written, matrix unexpanded; local composite actions stand under the steps that use them."""
    body = _pick(job, _JOB_KEYS)
    steps = job.get("steps", [])
    if isinstance(steps, list) and steps:
        body["steps"] = steps_body(steps, inline)
    return body


def steps_body(steps: list[Tree], inline: Inline) -> list[Tree]:
    """Steps in their order."""
    bodies: list[Tree] = []
    for step in steps:
        if isinstance(step, dict):
            body = _pick(step, _STEP_KEYS)
            uses = step.get("uses", "")
            if isinstance(uses, str) and uses.startswith("."):
                body.update(inline(uses))
            bodies.append(body)
    return bodies


def ordered(tree: Tree) -> Tree:
    """Mappings sorted by key, texts without blanks at their end."""
    check_time()
    if isinstance(tree, dict):
        return {key: ordered(tree[key]) for key in sorted(tree) if key != "credentials"}
    return [ordered(item) for item in tree] if isinstance(tree, list) else tree.rstrip()


def clean_script(script: str) -> str:
    """A script without comment lines, blank lines and blanks at line ends; continued lines joined.

    >>> clean_script("# build\\nmvn \\\\\\n  verify\\n")
    'mvn verify'
    """
    kept: list[list[str]] = []  # the pieces of each line
    continued = False
    for line in script.split("\n"):
        check_time()
        text = line.rstrip()
        stripped = text.lstrip()
        if not stripped or is_comment(stripped, first=not kept):
            continue
        joins = (len(text) - len(text.rstrip("\\"))) % 2 == 1
        if joins:
            text = text[:-1].rstrip()
        if continued:
            kept[-1].append(text.lstrip())
        else:
            kept.append([text])
        continued = joins
    return "\n".join(" ".join(filter(None, pieces)) for pieces in kept)


def _pick(tree: Mapping[str, Tree], keys: tuple[str, ...]) -> dict[str, Tree]:
    picked: dict[str, Tree] = {}
    for key in keys:
        value = tree.get(key, "")
        form = _FORMS.get(key, ordered)(value) if key != "needs" else list[Tree](needs_of(tree))
        if form not in ("", [], {}):
            picked[key] = form
    return picked


def _triggers(on: Tree) -> Tree:
    """Events by name; with their filters only where some have any."""
    if isinstance(on, str):
        return [on] if on else []
    if isinstance(on, list):
        return list[Tree](sorted({event for event in on if isinstance(event, str)}))
    return ordered(on) if any(on.values()) else list[Tree](sorted(on))


def _labels(runs_on: Tree) -> Tree:
    form = ordered(runs_on)
    if isinstance(form, dict):
        form = {key: _alone(value) for key, value in form.items()}
    return _alone(form)


def _alone(form: Tree) -> Tree:
    return form[0] if isinstance(form, list) and len(form) == 1 else form


def _container(container: Tree) -> Tree:
    form = ordered(container)
    return form["image"] if isinstance(form, dict) and list(form) == ["image"] else form


def _services(services: Tree) -> Tree:
    if isinstance(services, dict):
        return {name: _container(services[name]) for name in sorted(services)}
    return services


_BRACES = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}", re.DOTALL)


def _condition(condition: Tree) -> Tree:
    if not isinstance(condition, str):
        return ordered(condition)
    whole = _BRACES.fullmatch(condition.strip())
    return (whole.group(1) if whole else condition).strip()


def _script(script: Tree) -> Tree:
    return clean_script(script) if isinstance(script, str) else ordered(script)


_FORMS: dict[str, Callable[[Tree], Tree]] = {
    "on": _triggers,
    "runs-on": _labels,
    "container": _container,
    "services": _services,
    "if": _condition,
    "run": _script,
}
