"""What else is known before a run of GitHub Actions: facts of the request's context, in one fixed order."""

from collections.abc import Mapping

from model.errors import ConfigTooDeep
from model.jobs.job import Value

#: What changes least from run to run comes first.
_KEYS = (
    "repository",
    "workflow_path",
    "branch",
    "event",
    "runner",
    "machine",
    "host",
    "cpu_cores",
    "memory_bytes",
    "repo_facts",
)
_LARGEST = ("languages", "language_files")
KEPT_LANGUAGES = 6
MAX_DEPTH = 16


def job_context(context: Mapping[str, object]) -> dict[str, Value]:
    """The known facts; local_actions are left out, since they are already part of the bodies."""
    facts: dict[str, Value] = {}
    for key in _KEYS:
        value = context.get(key)
        if value is not None:
            facts[key] = _ordered(value, f"context.{key}", 1)
    return facts


def _ordered(value: object, path: str, depth: int) -> Value:
    if depth > MAX_DEPTH:
        raise ConfigTooDeep(f"context nested deeper than {MAX_DEPTH} levels", path=path)
    if isinstance(value, Mapping):
        texts = {str(key): inner for key, inner in value.items()}
        return {
            key: _largest(texts[key]) if key in _LARGEST else _ordered(texts[key], path, depth + 1)
            for key in sorted(texts)
        }
    if isinstance(value, list | tuple):
        return [_ordered(inner, path, depth + 1) for inner in value]
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _largest(sizes: object) -> Value:
    """The largest entries of a map of sizes, the largest first."""
    if not isinstance(sizes, Mapping):
        return _ordered(sizes, "context.repo_facts", 2)
    numbers = {str(key): size for key, size in sizes.items() if isinstance(size, int | float)}
    kept = sorted(numbers, key=lambda key: (-numbers[key], key))[:KEPT_LANGUAGES]
    return {key: numbers[key] for key in kept}
