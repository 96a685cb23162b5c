"""The GitHub Actions reader: graph, matrices, local actions, canonical bodies, errors."""

import itertools
import json
import lzma
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigTooDeep, ConfigTooLarge, InvalidConfig
from model.jobs import select
from model.jobs.github_actions import read_github_actions
from model.jobs.github_body import clean_script
from model.jobs.github_matrix import expand
from model.jobs.job import Reading
from model.jobs.names import with_masked_names

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "gha.jsonl.xz"

WORKFLOW = """\
name: Nightly
on:
  schedule:
    - cron: '0 3 * * *'
  push:
env:
  MAVEN_OPTS: -Xmx2g
  CI: true
permissions:
  contents: read
jobs:
  package:
    needs: [test, lint]
    runs-on: ubuntu-latest
    container: {image: 'eclipse-temurin:21'}
    steps:
      - uses: actions/checkout@v4
      - name: Package
        run: |
          mvn package \\
            -DskipTests
  lint:
    runs-on: [ubuntu-latest]
    if: ${{ github.event_name == 'push' }}
    steps:
      - run: make lint
        timeout-minutes: 5
  test:
    name: Test ${{ matrix.os }}
    runs-on: ${{ matrix.os }}
    timeout-minutes: 30
    strategy:
      fail-fast: false
      matrix:
        os: [ubuntu-latest, windows-latest]
        java: [17, 21]
        exclude:
          - {os: windows-latest, java: 17}
    services:
      redis: {image: redis:7, ports: ['6379:6379']}
    steps:
      - uses: actions/setup-java@v4
        with: {java-version: '${{ matrix.java }}', distribution: temurin}
      - run: make test
        env: {JAVA: 'java-${{ matrix.java }}'}
"""

STEPS: list[dict[str, Any]] = [{"run": "make"}]


def read(config: object, **context: object) -> Reading:
    return read_github_actions("github-actions", config, context)  # type: ignore[arg-type]


def workflow(**jobs: dict[str, Any]) -> dict[str, Any]:
    return {"on": "push", "jobs": jobs}


def job(**parts: Any) -> dict[str, Any]:
    return {"runs-on": "ubuntu-latest", "steps": STEPS} | {k.replace("_", "-"): v for k, v in parts.items()}


def names(reading: Reading) -> list[str]:
    return [each.name for each in reading.jobs]


# --- the graph and the bodies -----------------------------------


def test_a_workflow_becomes_its_run_and_its_jobs_in_order_of_their_needs() -> None:
    reading = read(WORKFLOW)
    assert reading.workflow is not None
    assert (reading.workflow.name, reading.workflow.scope) == ("Nightly", "workflow")
    assert names(reading) == [
        "lint",
        "Test ubuntu-latest",
        "Test ubuntu-latest #2",
        "Test windows-latest",
        "package",
    ]
    package = reading.jobs[-1]
    assert package.needs == tuple(names(reading)[:-1])
    assert reading.jobs[1].requested == {"runtime_seconds": 1800.0}
    assert package.requested == {} and reading.workflow.requested == {}
    assert reading.warnings == ()


def test_an_expanded_job_has_its_own_values_in_its_body() -> None:
    body: Any = read(WORKFLOW).jobs[2].body
    assert list(body) == ["workflow", "job"]
    assert body["workflow"]["on"] == {"push": "", "schedule": [{"cron": "0 3 * * *"}]}
    assert body["job"] == {
        "name": "Test ubuntu-latest",
        "runs-on": "ubuntu-latest",
        "matrix": {"java": "21", "os": "ubuntu-latest"},
        "timeout-minutes": "30",
        "services": {"redis": {"image": "redis:7", "ports": ["6379:6379"]}},
        "steps": [
            {"uses": "actions/setup-java@v4", "with": {"distribution": "temurin", "java-version": "21"}},
            {"run": "make test", "env": {"JAVA": "java-21"}},
        ],
    }


def test_the_run_keeps_its_matrices_compact_and_leaves_permissions_out() -> None:
    reading = read(WORKFLOW)
    assert reading.workflow is not None
    body: Any = reading.workflow.body
    assert list(body) == ["name", "on", "env", "jobs"]
    assert list(body["jobs"]) == ["lint", "test", "package"]
    strategy = body["jobs"]["test"]["strategy"]
    assert strategy["combinations"] == "3"
    assert strategy["matrix"]["java"] == ["17", "21"]
    assert body["jobs"]["package"]["container"] == "eclipse-temurin:21"
    assert body["jobs"]["package"]["steps"][1]["run"] == "mvn package -DskipTests"
    assert body["jobs"]["lint"]["if"] == "github.event_name == 'push'"


def test_one_job_on_its_own_is_read_without_a_run() -> None:
    reading = read("runs-on: ubuntu-latest\nneeds: other\ntimeout-minutes: 1.5\nsteps: [{run: make}]\n")
    assert reading.workflow is None
    (only,) = reading.jobs
    assert (only.name, only.scope, only.needs, only.requested) == (
        "job",
        "job",
        (),
        {"runtime_seconds": 90.0},
    )
    assert only.body["job"]["needs"] == ["other"]  # type: ignore[index, call-overload]


def test_scalars_of_an_object_read_as_yaml_would_write_them() -> None:
    step = {"run": "make", "env": {"A": True, "B": 3.1, "C": None, "D": 7.0}}
    reading = read({True: "push", "jobs": {"a": job(steps=[step])}})
    body: Any = reading.jobs[0].body
    assert body["workflow"]["on"] == ["push"]
    assert body["job"]["steps"][0]["env"] == {"A": "true", "B": "3.1", "C": "", "D": "7"}
    # Through YAML 1.1 and JSON.
    assert read({"true": "push", "jobs": {"a": job(steps=[step])}}) == reading


def test_numbers_without_quotes_are_numbers_in_names() -> None:
    text = """
jobs:
  t:
    strategy: {matrix: {ruby: [3.0, 3.10, "3.10", 2, 1e3], exclude: [{ruby: 2.0}]}}
    runs-on: x
    steps: [{run: "use ${{ matrix.ruby }}"}]
"""
    reading = read(text)
    assert names(reading) == ["t (3)", "t (3.1)", "t (3.10)", "t (1000)"]
    assert [each.body["job"]["steps"][0]["run"] for each in reading.jobs] == [  # type: ignore[index,call-overload]
        "use 3",
        "use 3.1",
        "use 3.10",
        "use 1000",
    ]
    assert reading.workflow is not None  # the run as a whole is read as it is written
    assert "3.0" in str(reading.workflow.body) and "1e3" in str(reading.workflow.body)


def test_null_is_nothing() -> None:
    text = """
on: {push: ~, pull_request: null}
env: null
jobs:
  a:
    needs: null
    services: ~
    strategy: null
    runs-on: {group: g, labels: [x]}
    steps: [{uses: ./x, with: ~}]
"""
    empty = text.replace("null", "").replace("~", "").replace("[x]", "x")
    assert read(text) == read(empty)


def test_context_is_ordered_and_holds_no_local_actions() -> None:
    languages = {f".{letter}": size for size, letter in enumerate("abcdefgh")}
    facts = {"n_files": 3, "languages": languages}
    found = read(workflow(a=job()), repo_facts=facts, local_actions={}, event="push", repository="o/r").jobs[
        0
    ]
    assert list(found.context) == ["repository", "event", "repo_facts"]
    assert found.context["repo_facts"] == {
        "languages": {".h": 7, ".g": 6, ".f": 5, ".e": 4, ".d": 3, ".c": 2},
        "n_files": 3,
    }


# --- what must not matter ---------------------------------------


def shuffled(tree: Any, chance: random.Random, *, keep: bool = False) -> Any:
    """The same tree with its keys in another order; axes stay, because GitHub names jobs in their order."""
    if isinstance(tree, list):
        return [shuffled(item, chance, keep=keep) for item in tree]
    if not isinstance(tree, dict):
        return tree
    keys = list(tree)
    if not keep:
        chance.shuffle(keys)
    return {key: shuffled(tree[key], chance, keep=keep or key == "matrix") for key in keys}


def as_object() -> Any:
    from model.jobs.yaml_source import load_yaml

    return load_yaml(WORKFLOW)


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(chance: random.Random) -> None:
    expected, found = read(WORKFLOW), read(shuffled(as_object(), chance))
    assert found == expected
    assert json.dumps([each.body for each in found.jobs]) == json.dumps([each.body for each in expected.jobs])
    assert found.workflow is not None and expected.workflow is not None
    assert json.dumps(found.workflow.body) == json.dumps(expected.workflow.body)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, WORKFLOW.count("\n")), st.text("ab #:'{", max_size=9), max_size=8))
def test_comments_and_blank_lines_do_not_matter(comments: dict[int, str]) -> None:
    lines: list[str] = []
    for number, line in enumerate(WORKFLOW.splitlines()):
        if number in comments:
            indent = " " * (len(line) - len(line.lstrip()))
            lines += [f"{indent}# {comments[number]}", ""]
        lines.append(line)
    assert read("\n".join(lines)) == read(WORKFLOW)


def test_the_order_of_axes_shows_in_names_only() -> None:
    one = read(workflow(a=job(strategy={"matrix": {"x": [1], "y": [2]}})))
    other = read(workflow(a=job(strategy={"matrix": {"y": [2], "x": [1]}})))
    assert (names(one), names(other)) == (["a (1, 2)"], ["a (2, 1)"])
    assert json.dumps(one.jobs[0].body) == json.dumps(other.jobs[0].body)
    assert one.workflow == other.workflow


def test_scripts_lose_comments_but_keep_their_interpreter() -> None:
    assert clean_script("#!/bin/bash\n# why\n\n  a \\\n  # in between\n    b  \n#!c\nd\\\\\n") == (
        "#!/bin/bash\n  a b\nd\\\\"
    )


# --- matrices ---------------------------------------------------

VALUES = st.sampled_from(["a", "b", "c"])
ENTRIES = st.lists(st.dictionaries(st.sampled_from(["x", "y", "extra"]), VALUES, min_size=1), max_size=4)
EXCLUDES = st.lists(st.dictionaries(st.sampled_from(["x", "y"]), VALUES, min_size=1), max_size=2)


def githubs_rule(axes: Any, includes: Any, excludes: Any) -> list[dict[str, str]]:
    """GitHub's documentation, word by word: an include extends all whose original values it keeps."""
    originals = [dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values())]
    originals = [o for o in originals if not any(all(o[k] == v for k, v in e.items()) for e in excludes)]
    results = [dict(original) for original in originals]
    added = []
    for include in includes:
        fits = [n for n, o in enumerate(originals) if all(o.get(k, v) == v for k, v in include.items())]
        for number in fits:
            results[number].update(include)
        if not fits:
            added.append(dict(include))
    return results + added


@settings(deadline=None)
@given(
    st.lists(VALUES, min_size=1, max_size=3, unique=True),
    st.lists(VALUES, min_size=1, max_size=3, unique=True),
    ENTRIES,
    EXCLUDES,
)
def test_matrices_expand_by_githubs_rule(x: Any, y: Any, include: Any, exclude: Any) -> None:
    expected = githubs_rule({"x": x, "y": y}, include, exclude)
    strategy = {"matrix": {"x": x, "y": y, "include": include, "exclude": exclude}}
    if not expected:
        with pytest.raises(InvalidConfig):
            expand(strategy, "strategy")  # type: ignore[arg-type]
        return
    found = expand(strategy, "strategy")  # type: ignore[arg-type]
    assert [dict(each.values) for each in found.combinations] == expected
    assert found.complete


def test_names_follow_github() -> None:
    matrix = {
        "os": ["linux"],
        "v": [{"node": 1, "npm": 2}],
        "include": [{"os": "linux", "more": "x"}, {"os": "mac"}],
    }
    jobs = {
        "a": job(strategy={"matrix": matrix}),
        "b": job(strategy={"matrix": matrix}, name="Build"),
        "c": job(
            strategy={"matrix": matrix}, name="On ${{ matrix.os }} ${{ matrix.v.node }} ${{ github.ref }}"
        ),
        "d": job(strategy={"matrix": {"x": ["y" * 200]}}),
    }
    found = names(read(workflow(**jobs)))
    assert found[:4] == ["a (linux, 1, 2)", "a (mac)", "Build (linux, 1, 2)", "Build (mac)"]
    assert found[4] == "On linux 1 ${{ github.ref }}"
    assert len(found[6]) == 100 and found[6].endswith("...")


def test_an_expression_alone_keeps_the_type_of_its_value() -> None:
    found = read(workflow(a=job(runs_on="${{ matrix.on }}", strategy={"matrix": {"on": [["self", "arm"]]}})))
    assert found.jobs[0].body["job"]["runs-on"] == ["self", "arm"]  # type: ignore[index, call-overload]


def test_expressions_do_not_look_at_case() -> None:
    matrix = {"OS": ["ubuntu"], "v": [{"Node": 20}]}
    step = {"run": "x ${{ Matrix.V.node }} ${{ matrix['os'] }}"}
    found = read(workflow(a=job(runs_on="${{ matrix.os }}", strategy={"matrix": matrix}, steps=[step])))
    body: Any = found.jobs[0].body["job"]
    assert (body["runs-on"], body["steps"][0]["run"]) == ("ubuntu", "x 20 ubuntu")


@pytest.mark.parametrize(
    "matrix",
    ["${{ fromJSON(needs.a.outputs.m) }}", {"x": "${{ fromJSON(inputs.x) }}"}, {"include": "${{ x }}"}],
)
def test_a_matrix_that_only_the_run_knows_gives_one_job_and_a_warning(matrix: Any) -> None:
    found = read(workflow(a=job(runs_on="${{ matrix.x }}", strategy={"matrix": matrix})))
    assert names(found) == ["a"]
    assert found.jobs[0].body["job"]["runs-on"] == "${{ matrix.x }}"  # type: ignore[index, call-overload]
    assert len(found.warnings) == 1


# --- local workflows and actions --------------------------------

CALLED = "on: workflow_call\nenv: {Q: 1}\njobs:\n  one: &one {runs-on: u, steps: [{run: a}]}\n" + (
    "  two: {needs: one, runs-on: u, steps: [{run: b}]}\n"
)
COMPOSITE = "runs: {using: composite, steps: [{run: echo hi, shell: bash}]}"


@pytest.mark.parametrize("uses", ["./.github/workflows/x.yml", "o/r/.github/workflows/x.yml@main"])
@pytest.mark.parametrize("key", [".github/workflows/x.yml", "./.github/workflows/x.yml"])
def test_a_called_workflow_stands_between_its_callers_neighbours(uses: str, key: str) -> None:
    jobs = workflow(a=job(), call={"uses": uses, "needs": "a", "with": {"n": 1}}, z=job(needs=["call"]))
    found = read(jobs, local_actions={key: CALLED}, repository="o/r")
    assert names(found) == ["a", "call / one", "call / two", "z"]
    assert [each.needs for each in found.jobs] == [
        (),
        ("a",),
        ("call / one",),
        ("call / one", "call / two"),
    ]
    callers: Any = found.jobs[1].body["callers"]
    assert callers[0]["with"] == {"n": "1"} and callers[0]["called"] == {"env": {"Q": "1"}}
    assert found.workflow is not None
    compact: Any = found.workflow.body["jobs"]
    assert list(compact["call"]["called"]["jobs"]) == ["one", "two"]


@pytest.mark.parametrize("uses", ["./act", "./act/", "./act/action.yml"])
@pytest.mark.parametrize("key", ["act/action.yml", "./act/action.yaml", "act", "./act/"])
def test_a_composite_action_stands_under_its_step(uses: str, key: str) -> None:
    found = read(workflow(a=job(steps=[{"uses": uses}])), local_actions={key: COMPOSITE})
    body: Any = found.jobs[0].body["job"]
    assert body["steps"] == [{"uses": uses, "steps": [{"run": "echo hi", "shell": "bash"}]}]
    assert found.warnings == ()


@pytest.mark.parametrize(
    "text", [None, "jobs: [", "", "runs: 3", "jobs: {a: {needs: a, runs-on: u, steps: [{run: x}]}}"]
)
def test_a_missing_or_broken_local_file_is_a_warning(text: str | None) -> None:
    given_files = {} if text is None else {"x.yml": text, "act/action.yml": text}
    found = read(workflow(a=job(steps=[{"uses": "./act"}]), b={"uses": "./x.yml"}), local_actions=given_files)
    assert names(found) == ["a", "b"]
    assert found.warnings


def test_a_called_workflow_knows_what_it_was_called_with() -> None:
    inner = """
on: {workflow_call: {inputs: {
  os: {type: string, default: ubuntu-latest}, n: {type: number}, deep: {type: boolean}, v: {}, token: {}, who: {}}}}
jobs:
  t:
    name: T ${{ inputs.v }}
    runs-on: ${{ inputs.OS }}
    strategy: {matrix: {shard: [1, "${{ inputs.n }}"]}}
    steps: [{run: "x ${{ inputs.deep }} ${{ inputs.token }} ${{ inputs.who }} ${{ matrix.shard }}"}]
  more: {uses: ./inner.yml, with: {v: "${{ inputs.v }}!"}}
"""
    leaf = "on: {workflow_call: {inputs: {v: {}}}}\n"
    leaf += "jobs: {l: {name: 'L ${{ inputs.v }}', runs-on: u, steps: [{run: l}]}}"
    call = {"uses": "./w.yml", "with": {"v": 3, "token": "hunter22", "who": "${{ github.actor }}"}}
    found = read(workflow(call=call), local_actions={"w.yml": inner, "inner.yml": leaf})
    assert names(found) == ["call / more / L 3!", "call / T 3", "call / T 3 #2"]
    body: Any = found.jobs[1].body["job"]
    assert body["runs-on"] == "ubuntu-latest"
    assert body["steps"] == [{"run": "x false ${{ inputs.token }} ${{ inputs.who }} 1"}]
    assert found.jobs[2].body["job"]["matrix"] == {"shard": "0"}  # type: ignore[index,call-overload]
    assert found.workflow is not None  # the run as a whole is read as it is written
    assert "T ${{ inputs.v }}" in str(found.workflow.body)
    assert all("hunter22" not in str(each.body["job"]) for each in found.jobs)


def test_recursion_ends_at_githubs_depth() -> None:
    loop = "jobs: {again: {uses: ./x.yml}}"
    composite = "runs: {steps: [{uses: ./act}]}"
    found = read(
        workflow(a={"uses": "./x.yml"}, b=job(steps=[{"uses": "./act"}])),
        local_actions={"x.yml": loop, "act": composite},
    )
    assert names(found) == [" / ".join(["a", *["again"] * 9]), "b"]
    assert len(found.warnings) == 2


def test_expansion_cannot_multiply_without_bound() -> None:
    files = {f"a{n}": f"runs: {{steps: [{', '.join([f'{{uses: ./a{n + 1}}}'] * 20)}]}}" for n in range(9)}
    with pytest.raises(ConfigTooLarge):
        read(workflow(a=job(steps=[{"uses": "./a0"}])), local_actions=files | {"a9": COMPOSITE})


# --- errors -----------------------------------------------------

SECRET = "hunter2"


def broken() -> Iterator[tuple[object, str]]:
    yield {"name": SECRET}, "jobs"
    yield {"jobs": [SECRET]}, "jobs"
    yield {"jobs": {}}, "jobs"
    yield workflow(a=job(needs=SECRET)), "jobs.a.needs"
    yield workflow(a=job(needs=[{}])), "jobs.a.needs"
    yield workflow(a=job(needs="b"), b=job(needs="a")), "jobs.a.needs"
    yield workflow(a=job(needs="a")), "jobs.a.needs"
    yield {"jobs": {"a": SECRET}}, "jobs.a"
    yield {"jobs": {"a": {"steps": STEPS}}}, "jobs.a.runs-on"
    yield {"jobs": {"a": {"runs-on": SECRET}}}, "jobs.a.steps"
    yield {"jobs": {"a": {"uses": "./x.yml", "steps": STEPS}}}, "jobs.a.uses"
    yield workflow(a=job(steps={"run": SECRET})), "jobs.a.steps"
    yield workflow(a=job(steps=[*STEPS, SECRET])), "jobs.a.steps[1]"
    yield workflow(a=job(steps=[{"name": SECRET}])), "jobs.a.steps[0]"
    yield workflow(a=job(steps=[{"run": SECRET, "uses": "x"}])), "jobs.a.steps[0]"
    yield workflow(a=job(steps=[{"run": [SECRET]}])), "jobs.a.steps[0].run"
    yield workflow(a=job(env=SECRET)), "jobs.a.env"
    yield workflow(a=job(strategy={"matrix": SECRET})), "jobs.a.strategy.matrix"
    yield workflow(a=job(strategy={"matrix": {"x": SECRET}})), "jobs.a.strategy.matrix.x"
    yield (
        workflow(a=job(strategy={"matrix": {"x": [1], "include": [SECRET]}})),
        "jobs.a.strategy.matrix.include[0]",
    )
    yield workflow(a=job(strategy={"matrix": {"x": [1], "exclude": [{"x": 1}]}})), "jobs.a.strategy.matrix"
    yield workflow(a=job(strategy={"matrix": {"x": list(range(257))}})), "jobs.a.strategy.matrix"
    yield (
        workflow(a=job(strategy={"matrix": {axis: list(range(99)) for axis in "abcdefgh"}})),
        "jobs.a.strategy.matrix",
    )


@pytest.mark.parametrize(("config", "path"), list(broken()))
def test_an_error_says_where_and_never_what(config: object, path: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read(config)
    assert caught.value.path == path
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("text", ["", "- a", "jobs: [", "a: 1\na: 2\n", "\x00"])
def test_text_that_is_no_mapping_has_a_line(text: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        read(text)
    assert caught.value.line is not None


def test_a_long_path_is_clipped() -> None:
    with pytest.raises(InvalidConfig) as caught:
        read({"jobs": {"x" * 1000: job(needs="y")}})
    assert caught.value.path is not None and len(caught.value.path) == 200


def test_a_deep_object_is_refused() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ConfigTooDeep):
        read(workflow(a=job(env=deep)))


# --- the corpus -------------------------------------------------


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not part of the repository")
def test_every_workflow_of_the_corpus_reads() -> None:
    with lzma.open(CORPUS, "rt") as records:
        for line in records:
            record = json.loads(line)
            reading = read_github_actions(record["kind"], record["config"], record["context"])
            assert reading.workflow is not None
            known = set(names(reading))
            assert len(known) == len(reading.jobs) > 0
            assert all(known.issuperset(each.needs) for each in reading.jobs)


def test_a_secret_of_a_matrix_is_hidden_in_names_and_still_selects() -> None:
    token = "ghp_" + "a1B2" * 9
    matrix = {"os": ["x" * 80], "token": ["hunter22"], "other": [token]}
    reading = with_masked_names(read(workflow(a=job(strategy={"matrix": matrix}), b=job(needs="a"))))
    first, second = reading.jobs
    assert first.name == f"a ({'x' * 80}, ***, ***)"
    assert second.needs == (first.name,)
    assert first.written_name is not None and first.written_name.startswith(f"a ({'x' * 80}, hunter22")
    for name in (first.name, first.written_name):
        assert select(reading, name) is first


def test_secrets_inside_of_a_matrix_are_filled_in_as_masks() -> None:
    """Where a value is filled in, the name that made it a secret is gone."""
    matrix = {
        "account": [{"name": "bob", "password": "correct horse"}],
        "password": ["hunter22"],
        "include": [{"env": {"DB_PASSWORD": "hunter22", "passwords": {"a": "hunter22", "user": "eve"}}}],
    }
    filled = {
        "A": "hello ${{ matrix.account.password }}",
        "B": "${{ matrix['env'].DB_PASSWORD }} of ${{ matrix.env.passwords.user }}",
        "C": "${{ matrix.account }}",
    }
    step = {"run": "./login ${{ matrix.password }}"}
    named, written = (
        job(strategy={"matrix": matrix}, env=filled, steps=[step], **more)
        for more in ({}, {"name": "Deploy ${{ matrix.account.password }}"})
    )
    reading = read(workflow(a=named, b=written))
    assert names(reading) == ["a (bob, ***, ***)", "Deploy ***"]
    assert [each.written_name for each in reading.jobs] == [
        "a (bob, correct horse, hunter22)",
        "Deploy correct horse",
    ]
    for each in reading.jobs:
        body = each.body["job"]
        assert body["env"]["A"] == "hello ***"
        assert body["env"]["B"] == "*** of eve"
        assert body["env"]["C"] == {"name": "bob", "password": "***"}
        assert body["steps"] == [{"run": "./login ***"}]
        assert "hunter22" not in str(each.body) and "correct horse" not in str(each.body)


def test_a_path_ends_at_the_first_secret() -> None:
    with pytest.raises(InvalidConfig) as caught:
        read({"jobs": {"x" * 150 + " ghp_" + "a1B2" * 9: {"steps": "no"}}})
    assert caught.value.path == f"jobs.{'x' * 150} ***"
