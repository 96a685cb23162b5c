"""The experts: facts, columns, encodings, trees, history, and the file they are kept in."""

import math
import random
import re
import zipfile
from collections.abc import Mapping
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
from model.evidence.columns import LEVELS, Columns, fit_columns
from model.evidence.encodings import fit_encodings, held_out_rows
from model.evidence.expert import Expert, Experts, field_of
from model.evidence.facts import WORD_BUCKETS, Facts, facts_of, hashed, without_digits
from model.evidence.history import SHAPE, Blend, Past, fit_blend, ln, median_of_three, past_of
from model.evidence.trees import Trees, from_lightgbm
from model.jobs import Outcome, read
from model.jobs.job import Job
from model.novelty import SeenTrigrams
from model.numbers import NumberCode
from model.prompt import special_tokens
from model.targets import DEFAULT_TARGETS
from model.training.tokenizer import train_tokenizer
from tests.model.jobs_fixtures import CONFIGS, jobs_of

TARGETS = tuple(target.name for target in DEFAULT_TARGETS)
RUNTIME, MEMORY, CPUS = TARGETS


def job(config: dict[str, Any], context: dict[str, Any] | None = None) -> Job:
    return read("nextflow", config, context or {}).jobs[0]


# Facts


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
    assert facts.numbers == {
        "cpus": 8.0,
        "context.cores": 3.0,
        "inputs.bytes[]+": 12.0,
        "inputs.bytes[]^": 7.0,
        "inputs.bytes[]*": 3,
        "command#0": 16.0,
        "~b": 22.0,
        "~memory": 12.0,
        "(leaves)": 13,
        "(characters)": sum(map(len, facts.strings.values())),
        "(lines)": 0,
    }
    assert facts.strings["files[]"] == "a1|b 22"
    assert facts.strings["flag"] == "true"
    assert facts.strings["context.machine"] == "n1"
    assert facts.words[hashed("bwa") % WORD_BUCKETS] >= 1
    assert facts.words[hashed("bwa 16") % WORD_BUCKETS] >= 1


def test_what_is_no_usable_number_stays_a_string() -> None:
    strange = ["1e999", "-inf", "-nan", "-", ".", "²", "9" * 30, "-Infinity", "1e31", "--1"]
    facts = facts_of(job({**{f"k{place}": text for place, text in enumerate(strange)}, "list": strange}))
    assert [facts.strings[f"k{place}"] for place in range(len(strange))] == strange
    assert set(facts.numbers) <= {"(leaves)", "(characters)", "(lines)", "k9#0", "~e"}
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
    assert set(columns.strings) == set(columns.few) == {"task", "context.machine"}
    values, keys = columns.values(facts), columns.keys(facts)
    assert values[7, columns.numbers.index("bytes")] == 7001.0
    assert values.dtype == np.float32
    assert keys.shape == (60, columns.keys_per_job)
    task = columns.strings.index("task")
    assert keys[0, task] == keys[3, task] != keys[1, task]
    elsewhere, every = len(columns.strings) + 2, len(columns.strings) + 3
    assert keys[0, every] == keys[6, every] != keys[3, every]  # every third task, every second machine
    assert keys[0, elsewhere] == keys[3, elsewhere] != keys[1, elsewhere]  # whatever the machine
    np.testing.assert_array_equal(columns.values(facts[5:6])[0], values[5])


def test_a_number_that_a_job_lacks_is_missing() -> None:
    columns = fit_columns(some_facts())
    row = columns.values([facts_of(Job("nextflow", "job", "", {}))])[0]
    assert np.isnan(row[columns.numbers.index("bytes")])
    assert np.isfinite(row[len(columns.numbers) :]).all()


@pytest.mark.parametrize(
    "facts", [some_facts(1), some_facts(1) * 50, some_facts(2), [facts_of(jobs_of("text")[0])] * 5]
)
def test_few_or_equal_jobs_give_columns_too(facts: list[Facts]) -> None:
    columns = fit_columns(facts)
    assert columns.strings == ()
    assert np.isfinite(columns.values(facts)[:, len(columns.numbers) :]).all()
    assert columns.keys(facts).shape == (len(facts), LEVELS)


# Encodings


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_held_out_rows_tell_of_other_folds_alone(seed: int, jobs: int, folds: int) -> None:
    draw = np.random.default_rng(seed)
    keys = draw.integers(0, 4, (jobs, LEVELS + 1)).astype(np.uint32)
    truth = np.where(draw.random((jobs, 2)) < 0.3, np.nan, draw.normal(5, 3, (jobs, 2)))
    fold = draw.integers(0, folds, jobs)
    rows, familiarity = held_out_rows(keys, truth, fold)
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
        assert familiarity[own] == sum(count > 0 for count in counts[-LEVELS:])
        if others.any():  # what a job is told in training is what it would be told by tables without its fold
            stored, met = fit_encodings(keys[others], truth[others]).rows(keys[own : own + 1])
            np.testing.assert_allclose(stored[0], rows[own], rtol=2e-3, atol=2e-3)
            assert met[0] == familiarity[own]


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
        rows, familiarity = encodings.rows(np.full((1, LEVELS), strange, dtype=np.uint32))
        assert np.isnan(rows[0, :LEVELS]).all()
        assert (rows[0, LEVELS:] == 0).all()
        assert familiarity[0] == 0
    rows, familiarity = encodings.rows(keys[:1])
    np.testing.assert_allclose(rows[0], [2.0] * LEVELS + [round(math.log(5), 1)] * LEVELS, rtol=1e-6)
    assert familiarity[0] == LEVELS


# Trees


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
    trees = from_lightgbm([(booster, 0, 1.0)]).checked(4, 1)
    found = [trees.predict(row, 1)[0] for row in asked]
    np.testing.assert_allclose(found, booster.predict(asked), rtol=1e-4, atol=1e-4)


def test_outputs_are_weighted_sums_and_some_have_no_trees() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(50, 3)).astype(np.float32)
    one, other = fitted(rows, rows[:, 0] * 2.0), fitted(rows, rows[:, 1] - 7.0, objective="l1")
    trees = from_lightgbm([(one, 0, 0.5), (other, 0, 0.5), (other, 2, 1.0)])
    for row in rows[:5]:
        first, second = one.predict(row[None])[0], other.predict(row[None])[0]
        found = trees.predict(row, 4)
        np.testing.assert_allclose(found[[0, 2]], [(first + second) / 2, second], rtol=1e-5, atol=1e-5)
        assert np.isnan(found[[1, 3]]).all()


def test_a_constant_target_and_no_booster_at_all() -> None:
    rows = np.arange(20, dtype=np.float32)[:, None]
    booster = fitted(rows, np.full(20, 3.5))
    trees = from_lightgbm([(booster, 0, 1.0)]).checked(1, 1)
    assert len(trees.feature) == 0  # single leaves
    assert trees.predict(rows[0], 1)[0] == pytest.approx(booster.predict(rows[:1])[0]) == pytest.approx(3.5)
    assert np.isnan(from_lightgbm([]).checked(1, 2).predict(rows[0], 2)).all()


def test_splits_that_trees_cannot_walk_are_refused() -> None:
    rows = np.random.default_rng(0).integers(0, 3, (60, 1)).astype(np.float32)
    truth = rows[:, 0].astype(np.float64)
    data = lightgbm.Dataset(rows, truth, categorical_feature=[0])
    quiet = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1, "min_data_per_group": 1, "cat_smooth": 0}
    with pytest.raises(ValueError, match="categorical"):
        from_lightgbm([(lightgbm.train(quiet, data, num_boost_round=2), 0, 1.0)])
    with pytest.raises(ValueError, match="zeros"):
        from_lightgbm([(fitted(rows, truth, zero_as_missing=True), 0, 1.0)])


@pytest.mark.parametrize(
    "change",
    [
        {"left": 0},  # its own child
        {"left": 99},
        {"right": -99},
        {"root": 99},
        {"feature": 9},
        {"output": 9},
    ],
)
def test_trees_that_lead_nowhere_are_refused(change: dict[str, int]) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    trees = from_lightgbm([(fitted(rows, rows[:, 0] * 1.0), 0, 1.0)])
    parts = {name: part.copy() for name, part in vars(trees).items()}
    for name, value in change.items():
        parts[name][0] = value
    with pytest.raises(ValueError, match="arrays"):
        Trees(**parts).checked(2, 1)


# History


def test_the_past_is_the_last_value_the_median_of_three_and_their_number() -> None:
    values = (8.0, 2.0, 4.0, 16.0, 1.0, 1000.0)
    runs = [Outcome({RUNTIME: value}, 7200.0 + n, same_config=n > 0) for n, value in enumerate(values)]
    assert past_of(runs, RUNTIME) == Past(math.log(8), math.log(4), 3, 0)
    assert past_of(runs[1:3], RUNTIME) == Past(math.log(2), pytest.approx(math.log(8) / 2), 2, 1)
    assert past_of(runs, MEMORY) is None


def test_cut_runs_and_runs_without_the_target_say_nothing() -> None:
    cut = Outcome({RUNTIME: 9.0}, 60.0, complete=False)
    other = Outcome({MEMORY: 9.0}, 60.0)
    assert past_of([], RUNTIME) is None
    assert past_of([cut, other], RUNTIME) is None
    past = past_of([cut, other, Outcome({RUNTIME: 2.0}, 3600.0)], RUNTIME)
    assert past == Past(math.log(2), math.log(2), 1, 2)


def test_zero_and_huge_values_have_finite_logarithms() -> None:
    assert ln(0.0) == ln(1e-9) == pytest.approx(math.log(1e-3))
    past = past_of([Outcome({RUNTIME: 0.0}, 0.0), Outcome({RUNTIME: 1e300}, 1e12)], RUNTIME)
    assert past is not None
    assert math.isfinite(median_of_three()(past, 3.0, 0))


def test_a_blend_follows_its_weights_and_does_without_an_estimate() -> None:
    weights = np.zeros(SHAPE, dtype=np.float32)
    weights[2, 2, 1] = 0.5, 0.25
    past, blend = Past(1.0, 3.0, 3, 1), Blend(weights)
    assert blend(past, 10.0, 2) == pytest.approx(0.75 * 2.0 + 0.25 * 10.0)
    assert blend(past, math.nan, 2) == pytest.approx(2.0)
    assert blend(past, 10.0, 3) == pytest.approx(3.0)
    assert blend(Past(1.0, 3.0, 2, 1), 10.0, 2) == pytest.approx(3.0)


def test_a_fitted_blend_finds_what_the_truth_follows() -> None:
    """Unchanged jobs repeat their last value; changed ones take what their own estimate says, if familiar."""
    random = np.random.default_rng(0)
    size = 1200
    last, median, own = random.normal(size=(3, size))
    same, familiar = random.integers(0, 2, size), 4 * random.integers(0, 2, size)
    truth = np.where(same == 1, last, np.where(familiar == 4, own, 0.5 * last + 0.5 * median))
    pasts = [Past(*one, 3, int(kept)) for *one, kept in zip(last, median, same, strict=True)]
    blend = fit_blend(pasts, own, familiar, truth)
    np.testing.assert_allclose(blend.weights[0, 2, 1], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[4, 2, 1], (1.0, 0.0))
    np.testing.assert_allclose(blend.weights[4, 2, 0, 1], 1.0)
    np.testing.assert_allclose(blend.weights[0, 2, 0], (0.5, 0.0))
    # Nothing was seen of two values: the weights of everything.
    np.testing.assert_allclose(blend.weights[0, 1, 0], blend.weights[4, 1, 2])


# Experts


def an_expert(*, with_history: bool = True) -> Expert:
    """Runtime from the bytes, memory from the task, nothing about the CPUs; history is followed halfway."""
    facts = some_facts()
    columns = fit_columns(facts, directions=4)
    size = np.arange(60)
    truth = np.stack([np.log(10.0 + size), np.log(1e9 * (1 + size % 3)), np.full(60, np.nan)], axis=1)
    encodings = fit_encodings(columns.keys(facts), truth)
    rows = np.hstack([columns.values(facts), encodings.rows(columns.keys(facts))[0]])
    trees = from_lightgbm([(fitted(rows, truth[:, 0]), 0, 1.0), (fitted(rows, truth[:, 1]), 1, 1.0)])
    if not with_history:
        return Expert(columns, encodings, trees)
    weights = np.zeros(SHAPE, dtype=np.float32)
    weights[..., 1] = 0.5
    return Expert(columns, encodings, trees, {0: Blend(weights)})


@pytest.fixture(scope="module")
def expert() -> Expert:
    return an_expert()


@pytest.fixture(scope="module")
def experts(expert: Expert) -> Experts:
    return Experts(TARGETS, {field_of("nextflow", "job"): expert})


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


def test_history_moves_the_estimate(expert: Expert) -> None:
    past = [Outcome({RUNTIME: 3000.0, CPUS: 2.0}, 86400.0, same_config=True)] * 3
    evidence = expert.advise(asked().with_history(past), TARGETS)
    alone = expert.advise(asked(), TARGETS)
    assert evidence.values[RUNTIME] == pytest.approx(math.sqrt(3000 * alone.values[RUNTIME]))
    assert abs(math.log(evidence.values[RUNTIME] / alone.values[RUNTIME])) > 1
    assert evidence.values[MEMORY] == alone.values[MEMORY]
    # Nothing was learned about the CPUs: the last three runs speak for themselves.
    assert evidence.values[CPUS] == pytest.approx(2.0)


def test_cut_runs_change_nothing_and_extreme_ones_stay_finite(expert: Expert) -> None:
    cut = Outcome({RUNTIME: 1e9}, 60.0, complete=False)
    assert expert.advise(asked().with_history([cut]), TARGETS) == expert.advise(asked(), TARGETS)
    for value in (0.0, 1e-12, 1e15, 1e300):
        evidence = expert.advise(asked().with_history([Outcome(dict.fromkeys(TARGETS, value), 1e9)]), TARGETS)
        assert all(map(math.isfinite, evidence.values.values()))


def test_equal_experts_give_equal_bytes_and_the_same_advice(experts: Experts) -> None:
    content = experts.to_bytes()
    again = Experts.from_bytes(content)
    assert again.to_bytes() == content
    past = [Outcome({RUNTIME: 50.0}, 7200.0, same_config=False)]
    for one in (asked(3), asked(4).with_history(past), job({"x": 1})):
        assert again.advise(one) == experts.advise(one)
    assert Experts.from_bytes(Experts(TARGETS, {}).to_bytes()).advise(asked()) is None


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
    }


def test_malformed_experts_are_refused(experts: Experts) -> None:
    for what, content in malformed(experts.to_bytes()).items():
        with pytest.raises(ValueError, match="malformed experts"):
            pytest.fail(f"{what} was read: {Experts.from_bytes(content)}")


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
    (directory / EXPERTS).write_bytes(experts.to_bytes())
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
    contents = malformed(experts.to_bytes()).values() if name == EXPERTS else [b"", b"{}"]
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
    columns: Columns = expert.columns
    assert columns.idf.shape == (WORD_BUCKETS,)
    assert columns.directions.shape == (WORD_BUCKETS, 4)
