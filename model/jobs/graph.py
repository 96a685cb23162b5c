"""What the structure of a job says: the shape of its body's tree, and the graph of the jobs inside it.

A text model sees both only implicitly; here they are written out as numbers, for the experts and for the tabular
baselines. Every walk is linear in the size of the body: it may be anyone's.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from model.jobs.job import Value
from model.jobs.time_limit import check_time

#: Where a Buildkite step names those it waits for, and where a GitHub Actions job does.
_WAITS = ("needs", "depends_on")
#: What stands before the names where other numbers of a job are beside them.
GRAPH = "graph: "
_BEGINS_NUMBER = frozenset("0123456789+-. ")
#: More of a matrix say nothing more, and their product has no end.
_MOST_COMBINATIONS = 1e9


def graph_features(body: Mapping[str, Value]) -> dict[str, float]:
    """Name -> number, of a job's body; a name that does not apply to it is left out."""
    found = _tree(body)
    for key in ("parents", "children"):  # of WfCommons: task name -> how many of it
        if isinstance(around := body.get(key), Mapping):
            counts = [count for n in around.values() if (count := _count(n)) is not None]
            found |= {
                f"distinct {key}": float(len(around)),
                f"largest share of {key}": max(counts, default=0.0),
            }
    if jobs := jobs_of(body):
        found |= _graph(jobs)
    return found


def jobs_of(body: Mapping[str, Value]) -> Mapping[str, Mapping[str, Value]]:
    """The jobs or steps inside a workflow's body, by the name that others wait for; empty for a single job."""
    inside = _mappings(body.get("jobs"))
    pipeline = body.get("pipeline")
    if isinstance(pipeline, Mapping):
        steps = flat_steps(pipeline.get("steps"))
        inside = {str(step.get("key", f"step {place}")): step for place, step in enumerate(steps)}
    return inside


def flat_steps(steps: Value) -> Iterator[Mapping[str, Value]]:
    """Buildkite's steps, those inside groups included."""
    if isinstance(steps, Sequence) and not isinstance(steps, str):
        for step in steps:
            if isinstance(step, Mapping):
                if "group" in step:
                    yield from flat_steps(step.get("steps"))
                else:
                    yield step


def longest_chain(
    jobs: Mapping[str, Mapping[str, Value]], weight: Callable[[Mapping[str, Value]], float]
) -> float:
    """The largest sum of weights along jobs that wait for each other; called workflows count inside theirs.

    Jobs that wait for each other in a circle count for themselves alone.
    """
    needed = _edges(jobs)
    waiting = {name: len(names) for name, names in needed.items()}
    followers: dict[str, list[str]] = {name: [] for name in jobs}
    for name, names in needed.items():
        for before in names:
            followers[before].append(name)
    own = {
        name: longest_chain(called, weight) if (called := _called(job)) else weight(job)
        for name, job in jobs.items()
    }
    until = dict(own)
    free = [name for name, count in waiting.items() if not count]
    while free:
        name = free.pop()
        check_time()
        for follower in followers[name]:
            until[follower] = max(until[follower], until[name] + own[follower])
            waiting[follower] -= 1
            if not waiting[follower]:
                free.append(follower)
    return max(until.values(), default=0.0)


def _edges(jobs: Mapping[str, Mapping[str, Value]]) -> dict[str, list[str]]:
    """Each job with the jobs of the same workflow that it waits for, each once."""
    return {name: [n for n in dict.fromkeys(_needed(job)) if n in jobs] for name, job in jobs.items()}


def _graph(jobs: Mapping[str, Mapping[str, Value]]) -> dict[str, float]:
    everything = list(_all_jobs(jobs))
    needed = _edges(jobs)
    fan_in = [len(names) for names in needed.values()]
    waited_for = Counter(name for names in needed.values() for name in names)
    steps = [_steps(job) for job in everything]
    combinations = [_combinations(job) for job in everything]
    commands = [str(step["run"]) for found in steps for step in found if "run" in step]
    return {
        "jobs": len(everything),
        "edges": sum(fan_in),
        "largest fan-in": max(fan_in),
        "largest fan-out": max(waited_for.values(), default=0),
        "first jobs": fan_in.count(0),
        "last jobs": len(jobs) - len(waited_for),
        "longest chain of jobs": longest_chain(jobs, lambda _: 1.0),
        "longest chain of steps": longest_chain(jobs, lambda job: float(len(_steps(job)))),
        "steps": sum(map(len, steps)),
        "most steps of a job": max(map(len, steps), default=0),
        "matrix combinations": sum(combinations),
        "largest matrix": max(combinations, default=1.0),
        "matrix axes": sum(len(_matrix(job)) for job in everything),
        "jobs after the matrix": sum(max(n, 1.0) for n in combinations),
        "actions used": sum("uses" in step for found in steps for step in found),
        "command lines": sum(command.count("\n") + 1 for command in commands),
        "command characters": sum(map(len, commands)),
    }


def _needed(job: Mapping[str, Value]) -> list[str]:
    for key in _WAITS:
        needed = job.get(key)
        if isinstance(needed, str):
            return [needed]
        if isinstance(needed, Sequence):
            return [str(name) for name in needed]
    return []


def _all_jobs(jobs: Mapping[str, Mapping[str, Value]]) -> Iterator[Mapping[str, Value]]:
    for job in jobs.values():
        if called := _called(job):
            yield from _all_jobs(called)
        else:
            yield job


def _called(job: Mapping[str, Value]) -> Mapping[str, Mapping[str, Value]]:
    called = job.get("called")
    return _mappings(called.get("jobs")) if isinstance(called, Mapping) else {}


def _mappings(value: Value) -> Mapping[str, Mapping[str, Value]]:
    if not isinstance(value, Mapping):
        return {}
    return {name: inner for name, inner in value.items() if isinstance(inner, Mapping)}


def _steps(job: Mapping[str, Value]) -> list[Mapping[str, Value]]:
    steps = job.get("steps")
    if isinstance(steps, Sequence) and not isinstance(steps, str):
        return [step for step in steps if isinstance(step, Mapping)]
    return []


def _matrix(job: Mapping[str, Value]) -> list[int]:
    """Lengths of the matrix's axes."""
    strategy = job.get("strategy")
    matrix = strategy.get("matrix") if isinstance(strategy, Mapping) else None
    axes = matrix.items() if isinstance(matrix, Mapping) else ()
    return [
        len(values)
        for axis, values in axes
        if axis not in ("include", "exclude") and isinstance(values, Sequence) and not isinstance(values, str)
    ]


def _combinations(job: Mapping[str, Value]) -> float:
    strategy = job.get("strategy")
    written = strategy.get("combinations") if isinstance(strategy, Mapping) else None
    if isinstance(written, int | float):
        return float(min(written, _MOST_COMBINATIONS))
    if isinstance(written, str) and written.isdecimal():
        return min(float(written), _MOST_COMBINATIONS)
    return min(prod(map(float, _matrix(job))), _MOST_COMBINATIONS)


@dataclass(slots=True)
class _Leaf:
    """A value inside of a body: its depth, the nearest key, and its text."""

    depth: int
    key: str
    text: str


def _leaves(value: Value, depth: int, key: str, found: list[_Leaf]) -> None:
    """Append every leaf, in order."""
    if isinstance(value, str):
        found.append(_Leaf(depth, key, value))
    elif isinstance(value, Mapping):
        check_time()
        for name, inner in value.items():
            _leaves(inner, depth + 1, name, found)
    elif isinstance(value, list | tuple):
        check_time()
        for inner in value:
            _leaves(inner, depth + 1, key, found)
    elif value is not None:
        found.append(_Leaf(depth, key, str(value)))


def _tree(body: Mapping[str, Value]) -> dict[str, float]:
    leaves: list[_Leaf] = []
    found: dict[str, float] = {}
    for name, value in body.items():
        before = len(leaves)
        _leaves(value, 1, name, leaves)
        own = leaves[before:]
        found[f"leaves of {name}"] = float(len(own))
        found[f"words of {name}"] = float(sum(len(leaf.text.split()) for leaf in own))
    depths = [leaf.depth for leaf in leaves] or [0]
    return {
        "leaves": float(len(leaves)),
        "depth": float(max(depths)),
        "mean depth": sum(depths) / len(depths),
        "keys": float(len({leaf.key for leaf in leaves})),
        "characters": float(sum(len(leaf.text) for leaf in leaves)),
        "lines": float(sum(leaf.text.count("\n") + 1 for leaf in leaves)),
        "longest leaf": float(max((len(leaf.text) for leaf in leaves), default=0)),
        **found,
        **_repeated_numbers(leaves),
    }


def _repeated_numbers(leaves: Sequence[_Leaf]) -> dict[str, float]:
    """Sum and maximum of the numbers that stand behind one key more than once, as sizes of inputs do."""
    numbers: dict[str, list[float]] = {}
    for leaf in leaves:
        if (value := _number(leaf.text)) is not None:
            numbers.setdefault(leaf.key, []).append(value)
    found: dict[str, float] = {}
    for key, values in numbers.items():
        if len(values) > 1:
            found |= {f"sum of {key}": sum(values), f"largest {key}": max(values)}
    return found


def _count(value: Value) -> float | None:
    return (
        _number(value) if isinstance(value, str) else float(value) if isinstance(value, int | float) else None
    )


def _number(text: str) -> float | None:
    """Neither infinity nor NaN nor a hash of digits."""
    if not text or text[0] not in _BEGINS_NUMBER:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e18 else None
