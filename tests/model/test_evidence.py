"""The experts: facts, columns, encodings, trees, history, and the file they are kept in."""

import math
import random
import re
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.checkpoint import EXPERTS, SEEN, Checkpoint, Manifest, write_manifest
from model.errors import CheckpointError
from model.evidence import storage
from model.evidence.categories import MOST, Categories, fit_categories
from model.evidence.columns import LEVELS, Columns, fit_columns
from model.evidence.dialect import Dialects, fit_dialects
from model.evidence.encodings import centered, familiarity_of, fit_encodings, held_out_rows
from model.evidence.expert import (
    FIRST,
    GROWN,
    MEMBERS,
    Basis,
    Evidence,
    Expert,
    Experts,
    Panel,
    field_of,
    members,
    told,
)
from model.evidence.facts import OWN_NAME, WORD_BUCKETS, Facts, facts_of, hashed, without_digits
from model.evidence.history import (
    SHAPE,
    Blend,
    Past,
    counted,
    fit_blend,
    ln,
    lower_bounds,
    median_of_three,
    past_of,
    telling,
)
from model.evidence.linear import fit_linear, places_of
from model.evidence.mix import MET, Mix, fit_weights, level_of
from model.evidence.names import names_of
from model.evidence.namesakes import BY_TOOL, BY_WORDS, NOBODY, OWN, fit_namesakes
from model.evidence.neighbours import fit_neighbours
from model.evidence.spoken import Spoken, spoken
from model.evidence.strangeness import fit_strangeness
from model.evidence.trees import Fitted, Trees, from_lightgbm
from model.evidence.words import Words, joined, weighed
from model.jobs import Outcome, read
from model.jobs.job import Job
from model.novelty import SeenTrigrams
from model.numbers import NumberCode
from model.prompt import special_tokens
from model.targets import DEFAULT_TARGETS
from model.text import full_text
from model.training.new_groups import NewGroups, drawn, together
from model.training.tokenizer import train_tokenizer
from tests.model.jobs_fixtures import CONFIGS, jobs_of

TARGETS = tuple(target.name for target in DEFAULT_TARGETS)
RUNTIME, MEMORY, CPUS = TARGETS


def job(config: dict[str, Any], context: dict[str, Any] | None = None) -> Job:
    return read("nextflow", config, context or {}).jobs[0]


# Facts


def without_graph(facts: Facts) -> dict[str, float]:
    return {name: value for name, value in facts.numbers.items() if not name.startswith("graph: ")}


def test_facts_are_numbers_strings_and_words_by_their_path() -> None:
    facts = facts_of(
        job(
            {
                "task": "ALIGN",
                "cpus": 8.0,
                "flag": True,
                "inputs": {"bytes": [4.0, "7", 1]},
                "command": "bwa -t 16 chr1",
                "files": ["a1", "b 22"],
                "script": "x" * 80 + " --memory=12 ok",
            },
            {"machine": "n1", "cores": 3},
        )
    )
    assert without_graph(facts) == {
        "cpus": 8.0,
        "context.cores": 3.0,
        "inputs.bytes[]+": 12.0,
        "inputs.bytes[]^": 7.0,
        "inputs.bytes[]*": 3,
        "command#0": 16.0,
        "files[]#0": 22.0,
        "~b": 22.0,
        "~memory": 12.0,
        "(leaves)": 13,
        "(characters)": sum(len(text) for path, text in facts.strings.items() if path != OWN_NAME),
        "(lines)": 0,
    }
    assert facts.strings["files[]"] == "a1|b 22"
    assert facts.strings["flag"] == "true"
    assert facts.strings["context.machine"] == "n1"
    assert facts.words[hashed("bwa") % WORD_BUCKETS] >= 1
    assert facts.words[hashed("t 16") % WORD_BUCKETS] >= 1
    assert facts.words[hashed("command bwa") % WORD_BUCKETS] >= 1
    assert facts.words[hashed("cpus=8") % WORD_BUCKETS] >= 1  # a short value as a whole, with its path


def test_a_workflow_is_read_whatever_its_jobs_are_called() -> None:
    text = """on: {schedule: [{cron: 30 4 * * *}]}
jobs:
  %s: {runs-on: ubuntu-latest, timeout-minutes: 20, steps: [{run: make}, {run: make test}]}
  %s: {runs-on: ubuntu-latest, needs: %s, timeout-minutes: 10, steps: [{run: make docs}]}
"""
    first, second = (
        facts_of(read("github-actions", text % names, {}).workflow or pytest.fail("no workflow"))
        for names in (("build", "docs", "build"), ("first", "last", "first"))
    )
    assert first.numbers == second.numbers
    assert first.numbers["jobs[].timeout-minutes+"] == 30
    assert (first.numbers["on.schedule[].cron#0"], first.numbers["on.schedule[].cron#1"]) == (30, 4)
    assert first.numbers["graph: longest chain of steps"] == 3
    assert first.numbers["graph: edges"] == 1
    assert first.strings["jobs[].steps[].run"] == "make|make test|make docs"


def test_what_is_no_usable_number_stays_a_string() -> None:
    strange = ["1e999", "-inf", "-nan", "-", ".", "²", "9" * 30, "-Infinity", "1e31", "--1"]
    facts = facts_of(job({**{f"k{place}": text for place, text in enumerate(strange)}, "list": strange}))
    assert [facts.strings[f"k{place}"] for place in range(len(strange))] == strange
    assert set(without_graph(facts)) <= {"(leaves)", "(characters)", "(lines)", "k9#0", "list[]#0", "~e"}
    inside = facts_of(job({"short": "x 1e99 7", "long": "y " * 60 + "key = 999999999999999999e99"}))
    assert inside.numbers["short#1"] == 7.0
    assert "short#0" not in inside.numbers
    assert "~key" not in inside.numbers


def test_a_job_without_a_body_has_facts() -> None:
    facts = facts_of(Job("text", "job", "", {}))
    assert facts.strings == {"kind": "text job"}
    assert facts.numbers["(leaves)"] == 1


def test_huge_strings_and_lists_are_read_in_bounds() -> None:
    facts = facts_of(
        job({"long": "word 1234 " * 20_000, "list": ["ab c"] * 5_000, "many": list(range(5_000))})
    )
    assert len(facts.strings["list[]"]) < 7_000
    assert facts.numbers["many[]+"] == sum(range(5_000))
    assert facts.numbers["~word"] == 1234.0


leaf = (
    st.text(max_size=30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.text("0123456789.eE_+-²٣", max_size=12)
)
bodies = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner)
    ),
    max_size=5,
)


@settings(max_examples=40)
@given(bodies)
def test_any_body_gives_finite_numbers_that_fit_a_row(body: dict[str, Any]) -> None:
    facts = facts_of(Job("nextflow", "job", "x", body))
    numbers = np.array(list(facts.numbers.values()))
    assert np.isfinite(numbers.astype(np.float32)).all()
    assert all(count > 0 and 0 <= bucket < WORD_BUCKETS for bucket, count in facts.words.items())
    assert all(facts.strings.values())


def test_text_that_no_encoding_can_write_has_facts() -> None:
    facts = facts_of(read("text", "\ud800 make -j8", {}).jobs[0])
    assert facts.words[hashed("make") % WORD_BUCKETS] == 1


def shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, order)) for key, inner in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffled(inner, order) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", [kind for kind, config in CONFIGS.items() if isinstance(config, dict)])
@pytest.mark.parametrize("seed", range(3))
def test_facts_do_not_depend_on_the_order_of_keys(kind: str, seed: int) -> None:
    config = CONFIGS[kind]
    assert isinstance(config, dict)
    context = {"machine": "m", "cores": 4, "nested": {"b": 1, "a": "x"}}
    order = random.Random(seed)
    one = read(kind, config, context).jobs[0]
    other = read(kind, shuffled(config, order), shuffled(context, order)).jobs[0]
    ours, theirs = facts_of(one), facts_of(other)
    # The joint keys and the sums over words follow the order as well.
    for part in ("numbers", "strings", "words"):
        assert list(getattr(ours, part).items()) == list(getattr(theirs, part).items())


def test_jobs_of_one_text_have_the_same_facts() -> None:
    """However numbers are spelled, and whatever is masked or empty."""
    one = {
        "task": "a",
        "n": 4,
        "script": "export API_TOKEN=abcd1234efgh\nrun /home/al/x on 2024-01-01",
        "p": {},
    }
    other = {
        "task": "a",
        "n": 4.0,
        "script": "export API_TOKEN=abcd1234efghabcd1234efgh\nrun /home/alexandria/x on 2024-01-01T00:00:00Z",
        "container": "",
    }
    ours, theirs = (read("nextflow", config, {}).jobs[0] for config in (one, other))
    assert full_text(ours) == full_text(theirs)
    assert facts_of(ours) == facts_of(theirs)


def test_digits_are_masked_by_their_runs() -> None:
    assert without_digits("sample12_v3 100") == without_digits("sample7_v45 9") == "sample#_v# #"


# Columns


def some_facts(count: int = 60) -> list[Facts]:
    return [
        facts_of(
            job(
                {"task": f"T{i % 3}", "tool": "bwa", "bytes": 1000 * i + 1, "threads": 4},
                {"machine": f"m{i % 2}"},
            )
        )
        for i in range(count)
    ]


def test_columns_are_the_numbers_that_vary_and_the_strings_that_recur() -> None:
    facts = some_facts()
    columns = fit_columns(facts)
    assert "bytes" in columns.numbers
    assert "threads" not in columns.numbers
    assert set(columns.strings) == set(columns.few) == {"task", "context.machine", OWN_NAME}
    values, keys = columns.values(facts, columns.words(facts)), columns.keys(facts)
    assert values[7, columns.numbers.index("bytes")] == 7001.0
    assert values.dtype == np.float32
    assert keys.shape == (60, columns.keys_per_job)
    task = columns.strings.index("task")
    assert keys[0, task] == keys[3, task] != keys[1, task]
    elsewhere, every = len(columns.strings) + 2, len(columns.strings) + 3
    assert keys[0, every] == keys[6, every] != keys[3, every]  # every third task, every second machine
    assert keys[0, elsewhere] == keys[3, elsewhere] != keys[1, elsewhere]  # whatever the machine
    one = facts[5:6]
    np.testing.assert_array_equal(columns.values(one, columns.words(one))[0], values[5])


def test_a_number_that_a_job_lacks_is_missing() -> None:
    columns = fit_columns(some_facts())
    bare = [facts_of(Job("nextflow", "job", "", {}))]
    row = columns.values(bare, columns.words(bare))[0]
    assert np.isnan(row[columns.numbers.index("bytes")])
    assert np.isfinite(row[len(columns.numbers) :]).all()


@pytest.mark.parametrize(
    "facts", [some_facts(1), some_facts(1) * 50, some_facts(2), [facts_of(jobs_of("text")[0])] * 5]
)
def test_few_or_equal_jobs_give_columns_too(facts: list[Facts]) -> None:
    columns = fit_columns(facts)
    assert columns.strings == ()
    values = columns.values(facts, columns.words(facts))
    assert np.isfinite(values[:, len(columns.numbers) :]).all()
    assert columns.keys(facts).shape == (len(facts), LEVELS)


# Words, categories, linear models, neighbours


def words_of(*texts: str) -> Words:
    """Each word a bucket of its own: a, b, c ..."""
    entries = []
    for text in texts:
        buckets = np.array([ord(letter) - ord("a") for letter in text], dtype=np.int64)
        entries.append((buckets, np.full(len(text), 1 / math.sqrt(max(len(text), 1)), dtype=np.float32)))
    return joined(entries)


def test_words_have_one_length_and_unknown_ones_none() -> None:
    idf = np.zeros(WORD_BUCKETS, dtype=np.float32)
    idf[:2] = 1.0, 3.0
    buckets, weights = weighed({0: 1, 1: 2, 5: 9}, idf)
    assert buckets.tolist() == [0, 1]
    np.testing.assert_allclose(weights[1] / weights[0], 3 * (1 + math.log(2)), rtol=1e-6)
    assert np.linalg.norm(weights) == pytest.approx(1.0)
    assert weighed({5: 9}, idf)[0].size == weighed({}, idf)[1].size == 0


def test_words_are_rows_of_a_matrix() -> None:
    words = words_of("ab", "", "c")
    directions = np.arange(6, dtype=np.float32).reshape(3, 2)
    expected = [[(0 + 2) / math.sqrt(2), (1 + 3) / math.sqrt(2)], [0, 0], [4, 5]]
    np.testing.assert_allclose(words.times(directions), expected, rtol=1e-6)
    again = words.rows(np.array([2, 0]))
    np.testing.assert_allclose(again.times(directions), [expected[2], expected[0]], rtol=1e-6)
    assert len(joined([])) == 0


def test_recurring_keys_are_categories_and_rare_ones_are_not() -> None:
    keys = np.array([[7, 1], [7, 2], [7, 3], [7, 4], [7, 5], [3, 6], [9, 7]] + [[3, 8]] * 4, dtype=np.uint32)
    categories = fit_categories(keys, 2)
    assert [known.tolist() for known in categories.keys] == [[3, 7], []]
    codes = categories.codes(np.array([[3, 0], [7, 0], [9, 0]], dtype=np.uint32))
    np.testing.assert_array_equal(codes, [[0, np.nan], [1, np.nan], [np.nan, np.nan]])
    many = np.repeat(np.arange(MOST + 50, dtype=np.uint32), 5)[:, None]
    assert len(fit_categories(np.vstack([many, many[:500]]), 1).keys[0]) == MOST


def test_places_count_the_categories_of_all_columns() -> None:
    categories = Categories((np.array([3, 7], np.uint32), np.empty(0, np.uint32), np.array([5], np.uint32)))
    codes = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(places_of(codes, categories), [[1, -1, 2], [-1, -1, -1]])


def test_a_linear_model_adds_up_parts_and_stays_within_what_it_saw() -> None:
    draw = np.random.default_rng(0)
    size = np.exp(draw.uniform(0, 10, (400, 1))).astype(np.float32)
    places = draw.integers(0, 3, (400, 1))
    words = words_of(*("ab"[i % 2] for i in range(400)))
    truth = np.log(size) * 0.8 + places * 2.0 + (np.arange(400)[:, None] % 2) * 1.5
    model = fit_linear(words, 4, size, places, 3, np.hstack([truth, np.full((400, 1), np.nan)]), 0.01)
    said = model.predict(words, size, places)
    assert np.abs(said[:, 0] - truth[:, 0]).mean() < 0.15
    assert np.isnan(said[:, 1]).all()
    far = model.predict(words_of("a", "a"), np.array([[1e30], [0.0]], np.float32), np.array([[2], [0]]))
    assert far[0, 0] == pytest.approx(truth.max(), rel=1e-5)
    assert far[1, 0] >= truth.min() - 1e-5
    missing = model.predict(words_of(""), np.array([[np.nan]], np.float32), np.array([[-1]]))
    assert truth.min() < missing[0, 0] < truth.max()


def test_neighbours_answer_with_the_closest_that_were_measured() -> None:
    words = words_of("abc", "abd", "xyz", "abc")
    truth = np.array([[1.0, np.nan], [2.0, 5.0], [9.0, 9.0], [1.0, np.nan]])
    model = fit_neighbours(words, truth, 26)
    said = model.predict(words_of("abc", "xyz", "xy"))
    assert said[0].tolist() == [1.0, 5.0]  # who has no such value says nothing of it
    assert said[1].tolist() == said[2].tolist() == [9.0, 9.0]
    assert np.isfinite(model.predict(words_of("q", ""))).all()  # nothing in common with anyone
    nobody = fit_neighbours(words, np.full((4, 1), np.nan), 26)
    assert np.isnan(nobody.predict(words)).all()


# Namesakes


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("NFCORE_CHIPSEQ:CHIPSEQ:FASTQC_TRIMGALORE:FASTQC", "fastqc"),
        ("NFCORE_RNASEQ.RNASEQ.ALIGN_STAR.SAMTOOLS_SORT", "samtools_sort"),
        ("toolshed.example/repos/devteam/bowtie2/bowtie2/2.3.4.2+galaxy0", "bowtie2"),
        ("collect.py", "collect.py"),
        ("FastQC", "fastqc"),
        ("2.3", None),
        ("", None),
    ],
)
def test_a_job_is_called_what_it_is_called_in_another_workflow(task: str, name: str | None) -> None:
    facts = facts_of(job({"workflow": "w", "task": task}))
    assert facts.strings.get(OWN_NAME) == name


def test_names_in_lists_are_of_parts_and_a_task_names_a_job_before_its_program() -> None:
    facts = facts_of(job({"inputs": [{"tool": "cut"}], "command": {"program": "/bin/sort"}}))
    assert facts.strings[OWN_NAME] == "sort"
    assert facts_of(job({"command": {"program": "sort"}, "task": "merge"})).strings[OWN_NAME] == "merge"
    assert OWN_NAME not in facts_of(job({"inputs": [{"tool": "cut"}]})).strings


def named(*names: str) -> NDArray[np.uint32]:
    return names_of([Facts({}, {OWN_NAME: name} if name else {}, {}) for name in names])


def test_namesakes_are_the_median_of_groups_and_each_group_counts_once() -> None:
    names = named(*["sort"] * 5, "cut", "", "cut")
    truth = np.array([[1.0], [2.0], [9.0], [4.0], [5.0], [np.nan], [3.0], [np.nan]])
    groups = ["a", "a", "a", "b", "c", "c", "c", "d"]
    namesakes = fit_namesakes(spoken(names, truth, groups), [])
    said, known = namesakes.predict(named("sort", "cut", "tail", ""))
    assert said[0, 0] == 4.0  # of 2, 4 and 5
    assert np.isnan(said[1:]).all()
    assert known[:, 0].tolist() == [OWN, NOBODY, NOBODY, NOBODY]
    nobody = fit_namesakes(spoken(names[:0], truth[:0], []), [])
    assert np.isnan(nobody.predict(names)[0]).all() and nobody.predict(names)[0].shape == (8, 1)


def test_a_name_that_nobody_had_is_told_by_its_words() -> None:
    """Both the tool and what it does tell; memory was measured of one step alone."""
    tools, steps = {f"tool{i}": float(3 * i) for i in range(5)}, {f"step{i}": float(i) for i in range(5)}
    pairs = [(tool, step) for tool in tools for step in steps if (tool, step) != ("tool4", "step0")]
    truth = np.array([[tools[tool] + steps[step], np.nan] for tool, step in pairs])
    truth[0, 1] = 7.0
    own = spoken(named(*map("_".join, pairs)), truth, ["a"] * len(pairs))
    names = named("tool4_step0", "tool0-step0", "tool4.run", "run_tool4", "seqkit")
    said, known = fit_namesakes(own, []).predict(names)
    assert said[0, 0] == pytest.approx(12.0, abs=0.8)
    assert known[:, 0].tolist() == [BY_TOOL, BY_TOOL, BY_TOOL, BY_WORDS, NOBODY]
    assert np.isnan(said[4]).all()
    assert known[:, 1].tolist() == [BY_WORDS, BY_TOOL, NOBODY, NOBODY, NOBODY]
    assert said[1, 1] == pytest.approx(7.0)


def test_what_another_system_says_is_translated_by_the_names_both_have() -> None:
    """Its machine takes the square of what ours takes, in seconds; memory was never measured on ours."""
    every = [f"tool{i}" for i in range(40)]
    theirs = np.linspace(0.0, 8.0, 40)
    other = spoken(named(*every), np.stack([theirs, theirs], axis=1), ["b"] * 40)
    ours = np.stack([theirs / 2 + 1, np.full(40, np.nan)], axis=1)
    shared = np.arange(0, 40, 2)

    def predicted(
        few: NDArray[np.int64], others: list[Spoken]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        own = spoken(named(*every)[few], ours[few], ["a"] * len(few))
        return fit_namesakes(own, others).predict(named(*every))

    said, how = predicted(shared, [other])
    # A name of another system counts less than one of the same and is drawn to the center of all.
    assert np.abs(said[1::2, 0] - ours[1::2, 0]).mean() < 0.5
    assert np.corrcoef(said[1::2, 0], ours[1::2, 0])[0, 1] > 0.99
    assert np.isnan(said[:, 1]).all()
    assert how[:, 0].tolist() == [OWN, BY_TOOL] * 20
    # With two names in common, or none of its own, nothing tells what the other's values mean here.
    for few in (shared[:2], shared[:0]):
        assert np.isfinite(predicted(few, [other])[0]).sum() == len(few)
    # What is new to us is left out of what they say.
    assert not len(other.without(["b"]).names) and len(other.without(["a"]).names) == 40
    assert np.isfinite(predicted(shared, [other.without(["b"])])[0]).sum() == 20


def test_jobs_are_met_on_levels_by_how_their_names_are_known() -> None:
    known = np.array([[NOBODY, BY_WORDS], [OWN, OWN]])
    levels = level_of(np.array([LEVELS, LEVELS]), known)
    assert levels.tolist() == [[LEVELS, 2 * LEVELS + 1], [MET - 1, MET - 1]]
    # Without namesakes the second member is right, with them the third, which then answers.
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(400, 1))
    own = np.arange(400) >= 200
    right, wrong = truth + 0.01, draw.normal(size=truth.shape)
    answers = np.stack([wrong, np.where(own[:, None], wrong, right), right], axis=2)
    answers[~own, :, 2] = np.nan
    levels = level_of(np.zeros(400, dtype=np.int64), np.where(own, OWN, NOBODY)[:, None])
    weights = fit_weights(answers, truth, levels, np.ones((400, 1)))
    assert weights[0, 0].tolist() == weights[3, 0].tolist() == pytest.approx([0, 1, 0])
    first = OWN * (LEVELS + 1)
    assert weights[first, 0].tolist() == weights[first + 3, 0].tolist() == pytest.approx([0, 0, 1])


# The mix


def test_a_mix_prefers_who_errs_less_and_does_without_who_is_silent() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(600, 1))
    met = np.repeat([[0], [6]], 300, axis=0)
    strange = met[:, 0] == 6
    good, bad = truth + 0.01 * draw.normal(size=truth.shape), draw.normal(size=truth.shape)
    # The first is right about familiar jobs, the second about strange ones, the third never answers.
    first, second = np.where(strange[:, None], good, bad), np.where(strange[:, None], bad, good)
    answers = np.stack([first, second, np.full_like(first, np.nan)], axis=2)
    weights = fit_weights(answers, truth, met, np.ones((600, 1)))
    assert weights[6, 0].tolist() == pytest.approx([1, 0, 0])
    assert weights[0, 0].tolist() == pytest.approx([0, 1, 0])
    assert weights[3, 0].sum() == pytest.approx(1)  # nothing was seen of these: the weights of everything
    mix, known = Mix(weights, weights), np.zeros(600)
    np.testing.assert_allclose(mix(answers, met, known), good, atol=1e-6)
    silent = answers.copy()
    silent[:, :, 0] = np.nan
    assert np.isnan(mix(silent, met, known)[strange]).all()
    np.testing.assert_allclose(mix(silent, met, known)[~strange], good[~strange], atol=1e-6)


def test_the_more_likely_a_group_is_new_the_more_the_weights_of_new_groups_count() -> None:
    weights = np.zeros((2, MET, 1, 2), dtype=np.float32)
    weights[0, ..., 0] = weights[1, ..., 1] = 1
    mix = Mix(*weights)
    answers = np.array([[[1.0, 3.0]]] * 3)
    said = mix(answers, np.zeros((3, 1), dtype=np.int64), np.array([0.0, 0.25, 1.0]))
    assert said[:, 0].tolist() == pytest.approx([1.0, 1.5, 3.0])
    assert mix.used.tolist() == [[True, True]]


def test_keys_tell_how_likely_a_group_is_new() -> None:
    draw = np.random.default_rng(0)
    known, new = draw.random((2, 200, 5)) < 0.5
    known[:, 2], new[:, 2] = True, False  # only the third key tells
    strangeness = fit_strangeness(known, new)
    said = strangeness(np.concatenate([known, new]))
    assert said[:200].max() < 0.1 < 0.9 < said[200:].min()
    assert fit_strangeness(known, new[:0])(new).tolist() == [0.0] * 200
    # Told of the last five keys only: the two before them do not count.
    wider = np.concatenate([draw.random((200, 2)) < 0.5, new], axis=1)
    np.testing.assert_allclose(fit_strangeness(known, new, columns=7)(wider), strangeness(new))


def test_two_members_that_err_to_either_side_share_the_weight() -> None:
    truth = np.random.default_rng(0).normal(size=(200, 1))
    answers = np.stack([truth - 1, truth + 1], axis=2)
    nobody = np.zeros((200, 1), dtype=np.int64)
    np.testing.assert_allclose(fit_weights(answers, truth, nobody, np.ones((200, 1)))[0, 0], [0.5, 0.5])
    nothing = fit_weights(answers, np.full_like(truth, np.nan), nobody, np.ones((200, 1)))
    assert np.isnan(Mix(nothing, nothing)(answers, nobody, np.zeros(200))).all()


def test_the_residual_member_adds_to_the_plain_one_and_the_last_is_the_median() -> None:
    first, grown = np.zeros((1, 1, len(FIRST))), np.zeros((1, 1, len(GROWN)))
    first[0, 0, FIRST.index("plain")] = 20
    grown[0, 0, GROWN.index("residual")] = 4
    answers = members(first, grown, np.array([7.0]))[0, 0]
    assert answers[MEMBERS.index("residual")] == 24
    assert answers[MEMBERS.index("median")] == 7


# Dialects


def likeliest(dialects: Dialects, facts: Facts) -> str:
    return next(iter(dialects.of(facts)))


def test_fields_tell_the_dialect() -> None:
    seen = {
        "a": {"g": [facts_of(job({"task": f"T{i}", "bytes": i, "machine": "m"})) for i in range(30)]},
        "b": {"g": [facts_of(job({"task": f"T{i}", "reads": i, "queue": "q"})) for i in range(5)]},
    }
    dialects = fit_dialects(seen)
    assert dialects.names == ("a", "b")
    assert likeliest(dialects, facts_of(job({"task": "new", "bytes": 9}))) == "a"
    assert likeliest(dialects, facts_of(job({"task": "new", "queue": "other"}))) == "b"
    assert fit_dialects({"b": seen["b"]}).of(seen["a"]["g"][0]) == {"b": 1.0}
    assert set(dialects.of(facts_of(Job("nextflow", "job", "", {})))) <= set(dialects.names)


def test_a_dialect_that_leaves_fields_out_is_not_taken_for_one_that_never_has_them() -> None:
    whole = [facts_of(job({"system": "x", "task": f"T{i}", "script": f"do {i}"})) for i in range(60)]
    bare = [facts_of(job({"system": "x", "task": f"T{i}"})) for i in range(40)]
    other = [facts_of(job({"system": "y", "task": f"T{i}"})) for i in range(100)]
    dialects = fit_dialects({"sometimes": {"g": whole, "h": bare}, "never": {"g": other}})
    assert {likeliest(dialects, one) for one in whole + bare} == {"sometimes"}
    assert {likeliest(dialects, one) for one in other} == {"never"}


def test_a_job_that_two_dialects_could_have_written_is_both_of_theirs() -> None:
    same = [facts_of(job({"system": "x", "task": f"T{i}"})) for i in range(40)]
    told = [facts_of(job({"system": "y", "task": f"T{i}"})) for i in range(40)]
    dialects = fit_dialects({"mixed": {"g": same + told}, "plain": {"g": same}})
    shares = dialects.of(same[0])
    assert set(shares) == {"mixed", "plain"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert set(dialects.of(told[0])) == {"mixed"}


def test_a_field_of_one_large_group_is_no_mark_of_its_dialect() -> None:
    """Nine small groups of a dialect have its queue; a large one has a host, which one group of the other has too."""

    def group(size: int, **fields: object) -> list[Facts]:
        return [facts_of(job({"task": f"T{i}", **fields})) for i in range(size)]

    large = group(500, host="h")
    ours = {f"g{i}": group(5, queue="q") for i in range(9)} | {"large": large}
    theirs = {f"g{i}": group(50) for i in range(4)} | {"host": group(50, host="h")}
    dialects = fit_dialects({"ours": ours, "theirs": theirs})
    assert likeliest(dialects, group(1, queue="q")[0]) == "ours"
    assert likeliest(dialects, large[0]) == "theirs"


# Encodings


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_held_out_rows_tell_of_other_folds_alone(seed: int, jobs: int, folds: int) -> None:
    draw = np.random.default_rng(seed)
    keys = draw.integers(0, 4, (jobs, LEVELS + 1)).astype(np.uint32)
    truth = np.where(draw.random((jobs, 2)) < 0.3, np.nan, draw.normal(5, 3, (jobs, 2)))
    fold = draw.integers(0, folds, jobs)
    rows, met = held_out_rows(keys, truth, fold)
    assert met.shape == keys.shape
    for own in range(jobs):
        others = fold != fold[own]
        expected: list[float] = []
        counts = []
        for column in range(LEVELS + 1):
            alike = others & (keys[:, column] == keys[own, column])
            for target in range(2):
                values = truth[alike, target]
                values = values[np.isfinite(values)]
                expected.append(float(np.float16(values.mean())) if len(values) else math.nan)
            counts.append(int(alike.sum()))
        expected += [round(math.log1p(count), 1) for count in counts[-LEVELS:]]
        np.testing.assert_allclose(rows[own], expected, rtol=2e-3, atol=2e-3)
        assert met[own].tolist() == [count > 0 for count in counts]
        assert familiarity_of(met)[own] == sum(count > 0 for count in counts[-LEVELS:])
        if others.any():  # what a job is told in training is what it would be told by tables without its fold
            stored, told = fit_encodings(keys[others], truth[others]).rows(keys[own : own + 1])
            np.testing.assert_allclose(stored[0], rows[own], rtol=2e-3, atol=2e-3)
            assert told[0].tolist() == met[own].tolist()


def test_an_own_value_never_changes_what_a_job_is_told() -> None:
    draw = np.random.default_rng(3)
    keys, truth = draw.integers(0, 3, (20, LEVELS)).astype(np.uint32), draw.normal(size=(20, 1))
    folds = np.arange(20) % 3
    before, _ = held_out_rows(keys, truth, folds)
    truth[folds == 1] += 100
    after, _ = held_out_rows(keys, truth, folds)
    np.testing.assert_allclose(after[folds == 1], before[folds == 1], atol=1e-3)
    assert np.abs(after[folds == 0] - before[folds == 0]).max() > 10


def test_unknown_keys_are_missing_and_unfamiliar() -> None:
    keys = np.full((4, LEVELS), 5, dtype=np.uint32)
    encodings = fit_encodings(keys, np.array([[1.0], [3.0], [np.nan], [2.0]]))
    for strange in (0, 6, 2**32 - 1):
        rows, met = encodings.rows(np.full((1, LEVELS), strange, dtype=np.uint32))
        assert np.isnan(rows[0, :LEVELS]).all()
        assert (rows[0, LEVELS:] == 0).all()
        assert familiarity_of(met).tolist() == [0]
    rows, met = encodings.rows(keys[:1])
    np.testing.assert_allclose(rows[0], [2.0] * LEVELS + [round(math.log(5), 1)] * LEVELS, rtol=1e-6)
    assert familiarity_of(met).tolist() == [LEVELS]


# Trees


def grown(booster: lightgbm.Booster, output: int = 0) -> Fitted:
    """On all its columns, as they are."""
    return Fitted(booster, output, np.arange(booster.num_feature()))


def fitted(
    rows: NDArray[np.float32], truth: NDArray[np.floating[Any]], **changes: object
) -> lightgbm.Booster:
    parameters = {
        "num_leaves": 8,
        "min_data_in_leaf": 3,
        "num_threads": 1,
        "verbose": -1,
        "learning_rate": 0.3,
    }
    return lightgbm.train({**parameters, **changes}, lightgbm.Dataset(rows, truth), num_boost_round=12)


@settings(max_examples=20)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["regression", "l1"]),
    st.booleans(),
    st.sampled_from([1.0, 1e-30, 1e9, 1e30]),
)
def test_trees_agree_with_lightgbm(seed: int, objective: str, missing: bool, scale: float) -> None:
    draw = np.random.default_rng(seed)
    # Few distinct neighbouring values: thresholds lie between two adjacent 32-bit floats.
    rows = (draw.integers(-3, 4, (60, 4)) + draw.random((60, 4)) * (seed % 2)).astype(np.float32)
    rows[:, 1] = np.nextafter(np.float32(1), np.float32(2)) * (rows[:, 1] > 0) + (rows[:, 1] <= 0)
    rows *= np.float32(scale)
    if missing:
        rows[draw.random(rows.shape) < 0.2] = np.nan
    truth = np.nansum(rows / scale, axis=1) + draw.normal(size=60)
    booster = fitted(rows, truth, objective=objective)
    asked = np.vstack([rows, np.full((1, 4), np.nan), np.zeros((1, 4)), draw.normal(size=(20, 4)) * scale])
    asked = asked.astype(np.float32)
    asked[-10:, 2] = np.nan  # missing where training may have seen none
    trees = from_lightgbm([grown(booster)]).checked(4, 1)
    found = [trees.predict(row, 1)[0] for row in asked]
    # Leaves are kept in half precision: twelve times one part in 2,000 of what a leaf adds.
    expected = booster.predict(asked)
    np.testing.assert_allclose(found, expected, atol=6e-3 * np.abs(expected).max())


def test_outputs_are_sums_over_columns_of_their_own_and_some_have_no_trees() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(50, 3)).astype(np.float32)
    one, other = fitted(rows[:, [2, 0]], rows[:, 0] * 2.0), fitted(rows, rows[:, 1] - 7.0, objective="l1")
    trees = from_lightgbm([Fitted(one, 0, np.array([2, 0])), grown(other), grown(other, 2)])
    for row in rows[:5]:
        first, second = one.predict(row[None, [2, 0]])[0], other.predict(row[None])[0]
        found = trees.predict(row, 4)
        np.testing.assert_allclose(found[[0, 2]], [first + second, second], atol=5e-3)
        assert np.isnan(found[[1, 3]]).all()
        np.testing.assert_array_equal(trees.only([2, 3]).checked(3, 4).predict(row, 4)[2], found[2])
        assert np.isnan(trees.only([2]).predict(row, 4)[[0, 1, 3]]).all()


def test_a_constant_target_and_no_booster_at_all() -> None:
    rows = np.arange(20, dtype=np.float32)[:, None]
    booster = fitted(rows, np.full(20, 3.5))
    trees = from_lightgbm([grown(booster)]).checked(1, 1)
    assert len(trees.feature) == 0  # single leaves
    assert trees.predict(rows[0], 1)[0] == pytest.approx(booster.predict(rows[:1])[0]) == pytest.approx(3.5)
    assert np.isnan(from_lightgbm([]).checked(1, 2).predict(rows[0], 2)).all()


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([3, 40, 256]), st.booleans())
def test_trees_split_categories_as_lightgbm_does(seed: int, categories: int, missing: bool) -> None:
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(1500, 3)).astype(np.float32)
    rows[:, 1:] = draw.integers(0, categories, (1500, 2))
    effect = draw.normal(size=categories)
    truth = effect[rows[:, 1].astype(int)] * 3 + rows[:, 0] + effect[rows[:, 2].astype(int)]
    if missing:
        rows[draw.random(1500) < 0.2, 1] = np.nan
    data = lightgbm.Dataset(rows, truth, categorical_feature=[1, 2])
    quiet = {"verbose": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    two = [lightgbm.train({**quiet, "seed": s}, data, num_boost_round=6) for s in (0, 1)]
    trees = from_lightgbm([grown(two[0]), grown(two[1], 1)]).checked(3, 2)
    second = trees.only([1]).checked(3, 2)
    assert (second.chosen >= 0).any()
    assert len(second.sets) < len(trees.sets)
    asked = np.vstack([rows[:40], np.full((1, 3), np.nan), [[0, categories, -1]], [[0, 1e9, 300]]])
    for row in asked.astype(np.float32):
        expected = [booster.predict(row[None])[0] for booster in two]
        found = trees.predict(row, 2)
        np.testing.assert_allclose(found, expected, atol=5e-3)
        np.testing.assert_array_equal(second.predict(row, 2)[1], found[1])


def test_splits_that_trees_cannot_walk_are_refused() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (60, 1)).astype(np.float32)
    truth = rows[:, 0].astype(np.float64)
    quiet = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "min_data_per_group": 1, "cat_smooth": 0}
    data = lightgbm.Dataset(rows + 300, truth, categorical_feature=[0])
    with pytest.raises(ValueError, match="categories"):
        from_lightgbm([grown(lightgbm.train(quiet, data, num_boost_round=2))])
    with pytest.raises(ValueError, match="zeros"):
        from_lightgbm([grown(fitted(rows, truth, zero_as_missing=True))])


@pytest.mark.parametrize(
    "change",
    [
        {"left": 0},  # its own child
        {"left": 99},
        {"right": -99},
        {"leaves": 99},
        {"leaves": 0},
        {"feature": 9},
        {"output": 9},
        {"chosen": 0},
    ],
)
def test_trees_that_lead_nowhere_are_refused(change: dict[str, int]) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    trees = from_lightgbm([grown(fitted(rows, rows[:, 0] * 1.0))])
    parts = {name: part.copy() for name, part in vars(trees).items()}
    for name, value in change.items():
        parts[name][0] = value
    with pytest.raises(ValueError, match="arrays"):
        Trees(**parts).checked(2, 1)


# History


def test_the_past_is_the_last_value_the_median_of_three_and_their_number() -> None:
    values = (8.0, 2.0, 4.0, 16.0, 1.0, 1000.0)
    runs = [Outcome({RUNTIME: value}, 7200.0 + n, same_config=n > 0) for n, value in enumerate(values)]
    assert past_of(runs, RUNTIME) == Past(math.log(8), math.log(4), 3, 0, 0)
    assert past_of(runs[1:3], RUNTIME) == Past(math.log(2), pytest.approx(math.log(8) / 2), 2, 1, 0)
    assert past_of(runs, MEMORY) is None


def test_cut_runs_and_runs_without_the_target_say_nothing() -> None:
    cut = Outcome({RUNTIME: 9.0}, 60.0, complete=False)
    other = Outcome({MEMORY: 9.0}, 60.0)
    assert past_of([], RUNTIME) is None
    assert past_of([cut, other], RUNTIME) is None
    past = past_of([cut, other, Outcome({RUNTIME: 2.0}, 3600.0)], RUNTIME)
    assert past == Past(math.log(2), math.log(2), 1, 2, 0)
    aged = [past_of([Outcome({RUNTIME: 2.0}, days * 86400.0)], RUNTIME) for days in (6, 8, 40, 100, 400)]
    assert [one.age for one in aged if one] == [0, 1, 2, 3, 4]


def test_zero_and_huge_values_have_finite_logarithms() -> None:
    assert ln(0.0) == ln(1e-9) == pytest.approx(math.log(1e-3))
    past = past_of([Outcome({RUNTIME: 0.0}, 0.0), Outcome({RUNTIME: 1e300}, 1e12)], RUNTIME)
    assert past is not None
    assert math.isfinite(median_of_three()(past, 3.0, 0))


def test_a_blend_follows_its_weights_and_does_without_an_estimate() -> None:
    weights = np.zeros(SHAPE, dtype=np.float32)
    weights[3, 1, 2, 2] = 0.5, 0.25, np.inf
    weights[3, 1, 2, 4] = 0.5, 0.25, 4.0
    past, blend = Past(1.0, 3.0, 3, 1, 3), Blend(weights)
    assert blend(past, 10.0, 2) == pytest.approx(0.75 * 2.0 + 0.25 * 10.0)
    assert blend(past, 10.0, 4) == pytest.approx(2.0 + 0.25 * 4.0)  # farther away than it counts
    assert blend(past, -10.0, 4) == pytest.approx(2.0 - 0.25 * 4.0)
    assert blend(past, 3.0, 4) == pytest.approx(2.0 + 0.25 * 1.0)
    assert blend(past, math.nan, 2) == pytest.approx(2.0)
    assert blend(past, 10.0, 3) == pytest.approx(3.0)
    assert blend(Past(1.0, 3.0, 2, 1, 3), 10.0, 2) == pytest.approx(3.0)


def test_a_fitted_blend_finds_what_the_truth_follows() -> None:
    """Unchanged jobs repeat their last value; changed ones take what their own estimate says, if familiar."""
    random = np.random.default_rng(0)
    size = 12_000
    last, median, own = random.normal(size=(3, size))
    same, familiar = random.integers(0, 2, size), 4 * random.integers(0, 2, size)
    truth = np.where(same == 1, last, np.where(familiar == 4, own, 0.5 * last + 0.5 * median))
    pasts = [Past(*one, 3, int(kept), 2) for *one, kept in zip(last, median, same, strict=True)]
    blend = fit_blend(pasts, own, familiar, truth, np.ones(size), np.arange(size))
    np.testing.assert_allclose(blend.weights[2, 1, 2, 0, :2], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[2, 1, 2, 4, :2], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[2, 0, 2, 4, 1], 1.0)
    np.testing.assert_allclose(blend.weights[2, 0, 2, 0, :2], (0.5, 0.0))
    # Nothing was seen of two values, or of another age: the weights of what is most like it.
    np.testing.assert_allclose(blend.weights[2, 1, 1, 0, :2], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[4, 1, 0, 3, :2], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[2, 2, 2, 0], blend.weights[4, 2, 1, 4])


def test_a_blend_follows_the_jobs_that_weigh_more() -> None:
    random = np.random.default_rng(1)
    last, own = random.normal(5, 1, (2, 400))
    recent = np.arange(400) >= 300
    truth = np.where(recent, last, own)
    pasts = [Past(value, value, 1, 1, 0) for value in last]
    for weight, expected in ((1.0, 1.0), (10.0, 0.0)):
        nobody, weights = np.zeros(400, dtype=np.int64), np.where(recent, weight, 1.0)
        blend = fit_blend(pasts, own, nobody, truth, weights, np.arange(400))
        assert blend.weights[0, 1, 0, 0, 1] == expected


@pytest.mark.parametrize(("occasions", "followed"), [(1, 0.0), (4000, 1.0)])
def test_many_runs_of_one_occasion_say_no_more_than_one(occasions: int, followed: float) -> None:
    """Old runs say that past values are right, four thousand new ones that the estimate is: on one day, or on many."""
    random = np.random.default_rng(2)
    last, own = random.normal(5, 1, (2, 8000))
    new = np.arange(8000) >= 4000
    truth = np.where(new, own, last)
    pasts = [Past(value, value, 1, 1, int(one)) for value, one in zip(last, new, strict=True)]
    occasion = np.where(new, 4000 + np.arange(8000) % occasions, np.arange(8000))
    # All new runs together weigh as much as one old run where they are of one day.
    weight = np.where(new, occasions / 4000, 1.0)
    blend = fit_blend(pasts, own, np.zeros(8000, dtype=np.int64), truth, weight, occasion)
    assert blend.weights[1, 1, 0, 0, 1] == followed
    assert blend.weights[0, 1, 0, 0, 1] == 0.0


# Experts


def an_expert(*, with_history: bool = True, with_neighbours: bool = True) -> Expert:
    """Runtime from the bytes, memory from the task, nothing about the CPUs; history is followed halfway."""
    facts = some_facts()
    columns = fit_columns(facts, directions=4)
    size = np.arange(60)
    truth = np.stack([np.log(10.0 + size), np.log(1e9 * (1 + size % 3)), np.full(60, np.nan)], axis=1)
    words, keys = columns.words(facts), columns.keys(facts)
    values = columns.values(facts, words)
    categories = fit_categories(keys, len(columns.strings))
    codes = categories.codes(keys)
    places, numbers = places_of(codes, categories), values[:, : len(columns.numbers)]
    known = sum(map(len, categories.keys))
    linear, plain = (
        fit_linear(given, WORD_BUCKETS, numbers, places, known, truth, 0.1) for given in (words, None)
    )
    neighbours = fit_neighbours(words, truth, WORD_BUCKETS) if with_neighbours else None
    medians = np.array([np.median(truth[:, 0]), np.median(truth[:, 1]), np.nan])
    names = names_of(facts)
    namesakes = fit_namesakes(spoken(names, truth, ["one group"] * 60), [])
    basis = Basis(columns, categories, linear, plain, neighbours, namesakes, medians)
    encodings = fit_encodings(keys, centered(truth))
    rows = np.hstack(
        [values, encodings.rows(keys)[0], codes, told(basis.first(words, numbers, codes, names)[0])]
    )
    general = GROWN.index("general") * len(TARGETS)
    trees = from_lightgbm([grown(fitted(rows, truth[:, target]), general + target) for target in (0, 1)])
    weights = np.zeros((MET, len(TARGETS), len(MEMBERS)), dtype=np.float32)
    weights[..., MEMBERS.index("general")] = 0.9
    weights[..., MEMBERS.index("linear")] = weights[..., MEMBERS.index("neighbours")] = 0.05
    followed = np.zeros(SHAPE, dtype=np.float32)
    followed[..., 1:] = 0.5, np.inf
    by_history = {0: Blend(followed)} if with_history else {}
    strangeness = fit_strangeness(encodings.rows(keys)[1], np.empty((0, keys.shape[1]), dtype=bool))
    return Expert(basis, encodings, trees, strangeness, Mix(weights, weights), by_history)


def panel_of(*experts: Expert) -> Panel:
    by_name = {f"dialect {place}": expert for place, expert in enumerate(experts)}
    return Panel(fit_dialects({name: {"g": some_facts()} for name in by_name}), by_name)


def advice(expert: Expert, one: Job) -> Evidence:
    return expert.advise(one, facts_of(one), TARGETS)


@pytest.fixture(scope="module")
def expert() -> Expert:
    return an_expert()


@pytest.fixture(scope="module")
def experts(expert: Expert) -> Experts:
    other = an_expert(with_history=False, with_neighbours=False)
    return Experts(TARGETS, {field_of("nextflow", "job"): panel_of(expert, other)})


def asked(size: int = 20) -> Job:
    config = {"task": f"T{size % 3}", "tool": "bwa", "bytes": 1000 * size + 1, "threads": 4}
    return job(config, {"machine": f"m{size % 2}"})


def test_a_known_job_is_told_from_its_facts(experts: Experts) -> None:
    evidence = experts.advise(asked(20))
    assert evidence is not None
    assert set(evidence.values) == {RUNTIME, MEMORY}  # no trees for the CPUs
    assert evidence.values[RUNTIME] == pytest.approx(30, rel=0.3)
    assert evidence.values[MEMORY] == pytest.approx(3e9, rel=0.3)
    assert evidence.familiarity == LEVELS


def test_an_unknown_job_is_less_familiar_and_an_unknown_kind_has_no_evidence(experts: Experts) -> None:
    strange = experts.advise(job({"task": "other", "image": "x"}, {"machine": "m9"}))
    assert strange is not None
    assert strange.familiarity == 0
    assert all(map(math.isfinite, strange.values.values()))
    assert experts.advise(jobs_of("text")[0]) is None
    workflow = Job("nextflow", "workflow", "w", {"a": 1})
    assert experts.advise(workflow) is None


def test_where_two_dialects_are_likely_both_experts_are_heard() -> None:
    expert = an_expert(with_history=False)
    base = expert.trees.base.copy()
    base[0] += 1.0
    panel = panel_of(expert, replace(expert, trees=replace(expert.trees, base=base)))
    one = asked()
    facts = facts_of(one)
    shares = panel.dialects.of(facts)
    assert len(shares) == 2  # both were fitted on the same jobs
    alone = [panel.experts[name].advise(one, facts, TARGETS) for name in shares]
    both = panel.advise(one, TARGETS)
    for target in both.values:
        logs = sum(p * math.log(said.values[target]) for p, said in zip(shares.values(), alone, strict=True))
        assert both.values[target] == pytest.approx(math.exp(logs))
    assert both.familiarity == alone[0].familiarity


def test_history_moves_the_estimate(expert: Expert) -> None:
    past = [Outcome({RUNTIME: 3000.0, CPUS: 2.0}, 86400.0, same_config=True)] * 3
    evidence = advice(expert, asked().with_history(past))
    alone = advice(expert, asked())
    assert evidence.values[RUNTIME] == pytest.approx(math.sqrt(3000 * alone.values[RUNTIME]))
    assert abs(math.log(evidence.values[RUNTIME] / alone.values[RUNTIME])) > 1
    assert evidence.values[MEMORY] == alone.values[MEMORY]
    # Nothing was learned about the CPUs: the last three runs speak for themselves.
    assert evidence.values[CPUS] == pytest.approx(2.0)


def test_cut_runs_change_nothing_and_extreme_ones_stay_finite(expert: Expert) -> None:
    cut = Outcome({RUNTIME: 1e9}, 60.0, complete=False)
    assert advice(expert, asked().with_history([cut])) == advice(expert, asked())
    for value in (0.0, 1e-12, 1e15, 1e300):
        evidence = advice(expert, asked().with_history([Outcome(dict.fromkeys(TARGETS, value), 1e9)]))
        assert all(map(math.isfinite, evidence.values.values()))


def test_equal_experts_give_equal_bytes_and_the_same_advice(experts: Experts) -> None:
    content = storage.to_bytes(experts)
    again = storage.from_bytes(content)
    assert storage.to_bytes(again) == content
    past = [Outcome({RUNTIME: 50.0}, 7200.0, same_config=False)]
    for one in (asked(3), asked(4).with_history(past), job({"x": 1})):
        assert again.advise(one) == experts.advise(one)
    assert storage.from_bytes(storage.to_bytes(Experts(TARGETS, {}))).advise(asked()) is None


def test_runs_that_were_cut_off_are_bounds_until_one_ends() -> None:
    def run(complete: bool, **values: float) -> Outcome:
        return Outcome(values, 60.0, complete=complete)

    history = [
        run(False, runtime_seconds=50.0, cpu_cores=0.0),
        run(False, runtime_seconds=80.0),
        run(True, peak_memory_bytes=3e9, cpu_cores=0.0),
        run(False, runtime_seconds=90.0, peak_memory_bytes=9e9),
        run(True, runtime_seconds=70.0),
        run(False, runtime_seconds=1e6),
    ]
    assert lower_bounds(history) == {"runtime_seconds": 90.0}
    assert [run.values for run in telling(history)] == [{"peak_memory_bytes": 3e9}, {"runtime_seconds": 70.0}]
    assert counted(history) == 4
    assert (counted([]), counted(history[:2]), counted([history[4]] * 20)) == (0, 2, 5)
    assert telling([run(True, runtime_seconds=0.0)]) == ()


def test_past_runs_speak_for_themselves_where_there_is_no_expert() -> None:
    nobody = Experts(TARGETS, {})
    past = [Outcome({RUNTIME: value}, 3600.0) for value in (50.0, 70.0, 60.0, 900.0)]
    cut_off = Outcome({RUNTIME: 5.0, MEMORY: 1e9}, 60.0, complete=False)
    evidence = nobody.advise(asked().with_history([cut_off, *past]))
    assert evidence is not None
    assert evidence.values == {RUNTIME: pytest.approx(60.0)}  # of the last three; nobody knows the memory
    assert evidence.familiarity == 0
    assert nobody.advise(asked().with_history([cut_off])) is None


def rewritten(content: bytes, drop: str = "", **changes: NDArray[Any]) -> bytes:
    with np.load(BytesIO(content)) as stored:
        arrays = {name: stored[name] for name in stored.files if not (drop and re.search(drop, name))}
    for pattern, part in changes.items():
        arrays[next(name for name in arrays if name.endswith(pattern))] = part
    out = BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def malformed(content: bytes) -> Mapping[str, bytes]:
    empty, array = BytesIO(), BytesIO()
    zipfile.ZipFile(empty, "w").close()
    np.save(array, np.zeros(3))
    damaged = bytearray(content)
    for place in range(200, len(damaged) - 200, 97):
        damaged[place] ^= 0xFF
    few = np.zeros(3, dtype=np.int32)
    return {
        "nothing": b"",
        "text": b"not an archive",
        "an empty archive": empty.getvalue(),
        "one array": array.getvalue(),
        "half of it": content[: len(content) // 2],
        "damage": bytes(damaged),
        "no header": rewritten(content, drop="^header$"),
        "a strange header": rewritten(content, header=np.frombuffer(b"[1]", dtype=np.uint8)),
        "no keys": rewritten(content, drop="encodings/keys"),
        "fewer keys": rewritten(content, keys=few),
        "no trees": rewritten(content, drop="trees/left"),
        "fewer nodes": rewritten(content, left=few),
        "leaves that are not there": rewritten(content, leaf=few),
        "weights of another shape": rewritten(content, **{"history/0": np.zeros((2, 2), dtype=np.float32)}),
        "another mix": rewritten(content, **{"mix/known": np.zeros((2, 2), dtype=np.float32)}),
        "another mix for new groups": rewritten(content, **{"mix/new": np.zeros((2, 2), dtype=np.float32)}),
        "strangeness of other keys": rewritten(content, **{"strangeness/weights": few}),
        "no dialects": rewritten(content, drop="dialects/base"),
        "other dialects": rewritten(content, **{"dialects/evidence": np.zeros((1, 4), dtype=np.float16)}),
        "fewer categories": rewritten(content, categories=few),
        "a linear model of other numbers": rewritten(content, **{"plain/numbers": np.zeros((9, 3))}),
        "neighbours that are not there": rewritten(content, **{"neighbours/values": np.zeros((1, 3))}),
        "buckets that are not there": rewritten(content, **{"neighbours/start": few}),
    }


def test_malformed_experts_are_refused(experts: Experts) -> None:
    for what, content in malformed(storage.to_bytes(experts)).items():
        for lazily in (False, True):  # found when a job asks, at the latest
            with pytest.raises(ValueError, match="malformed experts"):
                pytest.fail(f"{what}: {storage.from_bytes(content, lazily=lazily).advise(asked())}")


def test_experts_are_unpacked_when_a_job_of_theirs_is_read(
    experts: Experts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    whole = storage._array
    monkeypatch.setattr(storage, "_array", lambda content: read.append("") or whole(content))
    stored = storage.from_bytes(storage.to_bytes(experts), lazily=True)
    assert len(read) == 1  # what there is
    assert stored.advise(jobs_of("text")[0]) is None
    assert len(read) == 1
    with ThreadPoolExecutor(4) as threads:  # each of them asks first
        said = list(threads.map(lambda _: stored.advise(asked()), range(4)))
    assert said == [experts.advise(asked())] * 4
    everything = len(read)
    assert everything > 10
    assert stored.advise(asked()) == said[0]
    assert len(read) == everything


# In a checkpoint


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, experts: Experts) -> Path:
    """A checkpoint directory with experts and without real weights."""
    directory = tmp_path_factory.mktemp("checkpoint")
    code = NumberCode()
    train_tokenizer(["task bwa threads"] * 4, special_tokens(DEFAULT_TARGETS, code), 400).save(
        str(directory / "tokenizer.json")
    )
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"")
    (directory / SEEN).write_bytes(SeenTrigrams().to_bytes())
    (directory / EXPERTS).write_bytes(storage.to_bytes(experts))
    write_manifest(directory, Manifest("tiny", DEFAULT_TARGETS, code, 512, {}))
    return directory


def test_a_prompt_ends_with_the_evidence(stored: Path, experts: Experts) -> None:
    checkpoint = Checkpoint.load(stored)
    ids = checkpoint.prompt(asked()).ids
    expected = checkpoint.encoder.evidence_ids(experts.advise(asked()))
    assert list(ids[-len(expected) :]) == expected
    unknown = jobs_of("text")[0]
    assert checkpoint.prompt(unknown) == checkpoint.encoder.prompt(unknown)


def test_equal_requests_a_minute_apart_give_equal_prompts(stored: Path) -> None:
    checkpoint = Checkpoint.load(stored)
    values = {RUNTIME: 50.0, MEMORY: 2e9}
    now, later = (
        asked().with_history([Outcome(values, 86400.0 + wait, True), Outcome(values, 9e5 + wait)])
        for wait in (0.0, 60.0)
    )
    assert checkpoint.prompt(now) == checkpoint.prompt(later)
    assert checkpoint.prompt(now) != checkpoint.prompt(asked())


@pytest.mark.parametrize("name", [EXPERTS, SEEN, "tokenizer.json"])
def test_a_malformed_file_stops_the_start(stored: Path, tmp_path: Path, experts: Experts, name: str) -> None:
    """Its hash may well be right: whoever wrote the file wrote the manifest too."""
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = Checkpoint.load(stored).manifest
    contents = malformed(storage.to_bytes(experts)).values() if name == EXPERTS else [b"", b"{}"]
    for content in contents:
        (tmp_path / name).write_bytes(content)
        write_manifest(tmp_path, manifest)
        with pytest.raises(CheckpointError) as stopped:
            Checkpoint.load(tmp_path)
        assert stopped.value.code == "checkpoint_invalid"


@pytest.mark.parametrize("content", ["[]", "3", '{"files": []}'])
def test_a_manifest_that_is_no_object_stops_the_start(stored: Path, tmp_path: Path, content: str) -> None:
    for file in stored.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "jobcast.json").write_text(content)
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path)


def test_columns_name_all_they_need(expert: Expert) -> None:
    columns: Columns = expert.basis.columns
    assert columns.idf.shape == (WORD_BUCKETS,)
    assert columns.directions.shape == (WORD_BUCKETS, 4)


# Groups that nobody knows


def held_out_groups(draw: np.random.Generator, groups: int, right: int, error: float) -> NewGroups:
    """Two members answer for groups of 40 records; the one called right errs a tenth of the other."""
    truth = draw.normal(size=(40 * groups, 1))
    answers = np.stack([truth + error * draw.normal(size=truth.shape)] * 2, axis=2)
    answers[..., 1 - right] = truth + 10 * error * draw.normal(size=truth.shape)
    met = np.zeros((len(truth), LEVELS), dtype=bool)
    names = [str(row % groups) for row in range(len(truth))]
    nobody = np.full(truth.shape, NOBODY)
    found = drawn(answers, truth, names, nobody, ~met, met, seed=0)
    assert found is not None
    return found


def test_every_group_and_every_dialect_counts_alike() -> None:
    draw = np.random.default_rng(0)
    few, many = held_out_groups(draw, 2, 0, 0.1), held_out_groups(draw, 40, 0, 5.0)
    both = together([few, many])
    assert both is not None
    errors = np.abs(np.median(both.answers, axis=2) - both.truth)
    parts = [float((both.weight * errors)[rows].sum()) for rows in (slice(80), slice(80, None))]
    assert parts[0] == pytest.approx(parts[1])
    assert familiarity_of(both.met).max() == 0
    assert both.known_met.all()
    assert together([]) is None


def test_a_large_group_is_drawn_from_and_a_single_one_tells_nothing() -> None:
    truth = np.zeros((1000, 1))
    met = np.zeros((1000, LEVELS), dtype=bool)
    named, groups = np.arange(1000)[:, None], ["a"] * 990 + ["b"] * 10
    found = drawn(np.ones((1000, 1, 2)), truth, groups, named, met, met, seed=0)
    assert found is not None
    assert len(found.truth) == 160
    assert found.weight[:150].sum() == pytest.approx(found.weight[150:].sum())
    assert found.named[150:].min() >= 990 > found.named[:150].max()
    silent = np.full((1000, 1, 2), np.nan)
    assert drawn(silent, truth, ["a"] * 1000, named, met, met, seed=0) is None
