"""Canonical text: equal jobs give equal bytes, nothing is cut blindly, nothing secret stays."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.jobs import KINDS, read
from model.jobs.job import Job
from model.text import canonical_text, full_text
from tests.model.jobs_fixtures import CONFIGS, WORKFLOW, encoder, jobs_of

words = st.text("abcdefgh /._-:é≥", min_size=1, max_size=30).filter(str.strip)
leaves = words | st.integers(-10, 10**12) | st.floats(0, 1e12) | st.booleans() | st.none()
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(words, inner, max_size=12),
    max_leaves=60,
)
mappings = st.dictionaries(words, trees, min_size=1, max_size=12)


def shuffled(value: Any, order: random.Random) -> Any:
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(inner, order)) for key, inner in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffled(inner, order) for inner in value] if isinstance(value, list) else value


def count(text: str) -> int:
    return len(encoder().text_ids(text))


@settings(max_examples=150, deadline=None)
@given(mappings, st.randoms(use_true_random=False))
def test_key_order_never_changes_the_text(config: dict[str, Any], order: random.Random) -> None:
    one = full_text(read("nextflow", config, {}).jobs[0])
    other = full_text(read("nextflow", shuffled(config, order), {}).jobs[0])
    assert one == other


@settings(max_examples=100, deadline=None)
@given(mappings)
def test_json_text_and_object_give_the_same_text(config: dict[str, Any]) -> None:
    from_object = full_text(read("nextflow", config, {}).jobs[0])
    for layout in ({"indent": 3}, {"separators": (",", ":")}):
        assert full_text(read("nextflow", json.dumps(config, **layout), {}).jobs[0]) == from_object


def test_comments_and_blank_lines_never_change_a_workflow() -> None:
    commented = WORKFLOW.replace("jobs:", "# the jobs\n\njobs:   # here").replace(
        "pytest", "# all\n          pytest"
    )
    reordered = WORKFLOW.replace("    needs: lint\n", "").replace(
        "    timeout-minutes: 30\n", "    timeout-minutes: 30\n    needs: [lint]\n"
    )
    texts = [
        [full_text(job) for job in jobs_of("github-actions", text)]
        for text in (WORKFLOW, commented, reordered)
    ]
    assert texts[0] == texts[1] == texts[2]


@settings(max_examples=150, deadline=None)
@given(mappings, st.sampled_from([512, 600, 1500]))
def test_every_job_fits_its_budget(config: dict[str, Any], budget: int) -> None:
    job = read("nextflow", config, {}).jobs[0]
    fitted = canonical_text(job, budget, count)
    assert count(fitted.text) <= budget
    if fitted.left_out_characters == 0:
        assert fitted.text == full_text(job)
    else:
        assert "…" in fitted.text


def big_job(**body: Any) -> Job:
    return read("nextflow", {"task": "align", **body}, {}).jobs[0]


def test_the_longest_leaf_is_shortened_first_and_short_facts_stay() -> None:
    body = {f"fact_{i}": f"value {i}" for i in range(20)} | {"script": "step of the script\n" * 2000}
    fitted = canonical_text(big_job(**body), 512, count)
    for i in range(20):
        assert f"fact_{i}: value {i}" in fitted.text
    assert fitted.left_out_characters > 20_000
    assert "step of the script" in fitted.text


def test_the_amount_left_out_is_written_in_the_gap() -> None:
    script = "x" * 500 + " " + "y" * 500
    fitted = canonical_text(big_job(script=script), 512, lambda text: len(text))
    gap = fitted.text.split("…")[1]
    kept = sum(fitted.text.count(c) for c in "xy") - fitted.text.replace("script: ", "").split("…")[0].count(
        "ignored"
    )
    assert int(gap) == pytest.approx(1001 - (kept - "kind: nextflow job\ntask: align\n".count("x")), abs=3)


def test_long_lists_and_mappings_keep_both_ends() -> None:
    fitted = canonical_text(big_job(files=[f"file{i}.v" for i in range(5000)]), 512, count)
    assert "file0.v" in fitted.text
    assert "file4999.v" in fitted.text
    wide = canonical_text(big_job(options={f"option{i:04}": i for i in range(5000)}), 512, count)
    assert "option0000: 0" in wide.text
    assert "option4999: 4999" in wide.text


def test_even_the_deepest_and_widest_jobs_fit() -> None:
    deep: Any = "x"
    for level in range(30):
        deep = {f"{side}{level}é": deep for side in "ab"} if level < 9 else {f"level{level}": [deep, "y"]}
    assert count(canonical_text(big_job(deep=deep), 512, count).text) <= 512


def test_a_hopeless_budget_is_an_error_not_a_cut() -> None:
    with pytest.raises(ValueError, match="budget"):
        canonical_text(big_job(script="long words " * 1000), 10, count)


def test_numbers_have_one_spelling() -> None:
    texts = {full_text(big_job(size=size)) for size in (4418618948, 4418618948.0)}
    assert texts == {"kind: nextflow job\ntask: align\nsize: 4418618948"}
    assert "ratio: 0.333333" in full_text(big_job(ratio=1 / 3))
    assert "flag: true" in full_text(big_job(flag=True))


def test_secret_values_are_masked_by_the_name_of_their_key() -> None:
    text = full_text(big_job(env={"DB_PASSWORD": "swordfish", "TOKEN": "${{ secrets.T }}", "USER": "ann"}))
    assert "swordfish" not in text
    assert "TOKEN: ${{ secrets.T }}" in text
    assert "USER: ann" in text


def test_what_is_inside_of_a_mapping_with_a_secret_name_is_masked_but_for_what_stands_beside_it() -> None:
    inside = {"a": "hunter22", "user": "eve", "file": "/etc/x", "more": {"deep": ["hunter22"]}}
    text = full_text(Job("nextflow", "job", "a", {"db_passwords": inside}))
    assert "hunter22" not in text
    assert "user: eve" in text and "file: /etc/x" in text
    # A job's name is its author's choice, and promises nothing of its keys.
    jobs = {"jobs": {"rotate-secrets": {"runs-on": "ubuntu-latest", "env": {"TOKEN": "hunter22"}}}}
    text = full_text(Job("github-actions", "workflow", "a", jobs))
    assert "runs-on: ubuntu-latest" in text and "hunter22" not in text


def test_nothing_empty_is_written() -> None:
    assert full_text(big_job(a="", b=None, c=[], d={"e": ""})) == "kind: nextflow job\ntask: align"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_text_that_names_it(kind: str) -> None:
    for job in jobs_of(kind):
        text = full_text(job)
        assert text.startswith(f"kind: {kind} {job.scope}\n")
        assert len(text.splitlines()) > 1
    assert set(CONFIGS) == set(KINDS)


def test_half_a_surrogate_pair_is_replaced_before_the_tokenizer_sees_it() -> None:
    job = read("nextflow", {"task": "a\ud800b", "\udfff": 1}, {}).jobs[0]
    assert full_text(job).encode()
    assert encoder().prompt(job).ids


@pytest.mark.parametrize(
    "config",
    [
        {"password": "hunter22"},
        {"passwords": ["hunter22", "hunter22"]},
        {"DB_PASSWORD": 22222222, "hunter22": ""},
        {"secret": {"value": "hunter22"}},
        {"env": [{"name": "DB_PASSWORD", "value": "hunter22"}]},
        {"command": ["tool", "--password", "hunter22", "go"]},
        {"command": "tool --password hunter22 go"},
        {"apiToken": "hunter22 and $more"},
    ],
)
def test_a_secret_is_masked_wherever_its_name_stands(config: dict[str, Any]) -> None:
    text = full_text(Job("nextflow", "job", "x", config))
    assert "***" in text
    assert "hunter22" not in text and "22222222" not in text


def test_what_follows_a_secret_or_refers_to_one_stays() -> None:
    body = {
        "command": ["tool", "--password", "hunter22", "go", "--token=x2345678", "on"],
        "token": "$TOKEN",
        "key": "k",
    }
    text = full_text(Job("nextflow", "job", "x", body))
    assert text.splitlines()[1:] == [
        "command: [tool, --password, ***, go, --token=***, on]",
        "token: $TOKEN",
        "key: k",
    ]
