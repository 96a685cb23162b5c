"""Hypothesis strategies for inputs that are nearly right: each format's own words in shapes of its own."""

from collections.abc import Mapping

from hypothesis import strategies as st

from loadtest.reliability.mutation import TOKENS

_word = st.one_of(
    st.sampled_from(TOKENS), st.text(max_size=12), st.integers().map(str), st.sampled_from("abc")
)
_scalar = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), _word
)
_tree = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_word, inner, max_size=4),
    max_leaves=25,
)


def _shaped(*names: str) -> st.SearchStrategy[Mapping[str, object]]:
    """An object with the names that a format knows, and any values."""
    return st.dictionaries(st.sampled_from(names) | _word, _tree, max_size=8)


_STEP = _shaped("name", "uses", "run", "with", "env", "if", "shell")
_MATRIX = st.dictionaries(
    st.sampled_from(("os", "python", "include", "exclude")),
    st.lists(_scalar | _shaped("os", "python"), max_size=4) | _word,
)
_GITHUB_JOB = st.fixed_dictionaries(
    {"runs-on": _word | st.lists(_word, max_size=2), "steps": st.lists(_STEP, max_size=4)},
    optional={
        "needs": st.lists(st.sampled_from("abc"), max_size=3) | _word,
        "strategy": st.fixed_dictionaries({"matrix": _MATRIX | _word}),
        "name": st.sampled_from(("${{ matrix.os }}", "x")) | _word,
        "uses": _word,
        "timeout-minutes": _scalar,
        "container": _tree,
        "services": _tree,
    },
)
_ENVELOPE = (
    *(
        "platform",
        "design",
        "stage",
        "command",
        "facts_before_stage",
        "parameters",
        "config.mk",
        "config.tcl",
        "config.json",
    ),
    *(
        "constraint.sdc",
        "info.yaml",
        "task",
        "circuit",
        "arch",
        "task_config",
        "script_params",
        "DESIGN_NAME",
        "PLATFORM",
    ),
)
_TASK = _shaped(
    *(
        "task",
        "job",
        "package",
        "recipe",
        "recipe_text",
        "script",
        "threads",
        "requested_cpus",
        "requested_memory_bytes",
    ),
    *("time_limit_seconds", "inputs", "container", "machine", "steps", "buildkite_job", "platforms"),
)
_OBJECTS: dict[str, st.SearchStrategy[Mapping[str, object]]] = {
    "github-actions": st.fixed_dictionaries(
        {"on": _tree, "jobs": st.dictionaries(st.sampled_from("abc"), _GITHUB_JOB | _tree, max_size=3)},
        optional={"name": _scalar, "env": _tree, "defaults": _tree},
    )
    | _GITHUB_JOB,
    "buildkite": st.fixed_dictionaries({"steps": st.lists(_shaped("label", "command", "agents"), max_size=4)})
    | _TASK,
    "eda.openroad": _shaped(*_ENVELOPE),
    "eda.openlane": _shaped(*_ENVELOPE),
    "eda.vtr": _shaped(*_ENVELOPE),
}


def objects(kind: str) -> st.SearchStrategy[Mapping[str, object]]:
    """Configs of a kind as objects, as a JSON body could hold them."""
    return _OBJECTS.get(kind, _TASK)


def lines(kind: str) -> st.SearchStrategy[str]:
    """Texts of words and tokens, a few per line, under a kind's usual first line."""
    first = {
        "slurm": "#SBATCH ",
        "eda.openroad": "export ",
        "eda.openlane": "set ::env(A) ",
        "eda.vtr": "a=",
    }.get(kind, "")
    line = st.lists(_word, max_size=5).map(" ".join)
    return st.lists(st.tuples(st.sampled_from((first, "", "  ")), line), max_size=12).map(
        lambda rows: "\n".join(start + rest for start, rest in rows)
    )


contexts = _shaped(
    "repository", "event", "runner", "branch", "stage", "repo_facts", "local_actions", "machine", "cpu_cores"
)
