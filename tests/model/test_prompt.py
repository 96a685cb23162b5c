"""Prompts: numbers in the number code, history, and no special token from text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evidence.columns import LEVELS
from model.evidence.expert import Evidence
from model.jobs import Outcome, read
from model.jobs.job import AGE_STEPS
from model.novelty import SeenTrigrams
from model.prompt import HISTORY_SHOWN, special_tokens
from model.targets import DEFAULT_TARGETS
from tests.model.jobs_fixtures import CONFIGS, encoder, jobs_of

SPECIAL = special_tokens(DEFAULT_TARGETS, encoder().code)


@given(st.lists(st.sampled_from([*SPECIAL, "a ", "<", ">", "e+3", "1"]), max_size=12).map("".join))
def test_text_never_becomes_a_special_token(text: str) -> None:
    assert all(identity >= len(SPECIAL) for identity in encoder().text_ids(text))


def test_special_tokens_come_first_and_number_rows_are_contiguous() -> None:
    one = encoder()
    first, end = one.number_rows
    assert end == len(SPECIAL)
    used = {identity for position in one.symbol_ids for identity in position}
    assert used == set(range(first, end))
    assert set(one.target_ids.values()).isdisjoint(used)


@pytest.mark.parametrize("number", ["1475930673", "53687091200", "12345.678", "0.33333", "4.41861e9"])
def test_long_numbers_are_written_in_the_number_code(number: str) -> None:
    one = encoder()
    assert one.text_ids(number) == one.value_ids(float(number))
    assert one.text_ids(f"size: {number}\n")[-1 - one.code.length : -1] == one.value_ids(float(number))


@pytest.mark.parametrize(
    "text", ["4096", "3.11", "v123456", "a_12345", "2.0-23181", "10.0.0.12345", "1" * 40]
)
def test_short_numbers_names_and_versions_stay_text(text: str) -> None:
    assert all(identity >= len(SPECIAL) for identity in encoder().text_ids(text))


def test_the_history_follows_the_text_newest_first() -> None:
    one = encoder()
    job = jobs_of("nextflow")[0]
    bare = one.prompt(job).ids
    past = [
        Outcome({"runtime_seconds": 318.0, "unknown_target": 1.0}, 86400.0, same_config=True),
        Outcome({"peak_memory_bytes": 1e9, "runtime_seconds": 2.0}, 10.0, same_config=None, complete=False),
    ]
    shown = one.prompt(job.with_history(past)).ids
    assert shown[: len(bare)] == bare
    expected = [
        one.history_token,
        *one.history_ids(past[:1])[1:],
        *one.history_ids(past[1:])[1:],
    ]
    assert list(shown[len(bare) :]) == expected
    assert one.value_ids(318.0) == expected[5 : 5 + one.code.length]
    assert one.text_part(shown) == one.text_part(bare) == bare
    assert one.history_ids([]) == []


def test_only_the_newest_outcomes_are_shown() -> None:
    one = encoder()
    past = [Outcome({"cpu_cores": float(i)}, 3600.0 * i) for i in range(20)]
    assert one.history_ids(past) == one.history_ids(past[:HISTORY_SHOWN])


@given(st.floats(0, 1e10), st.floats(0, 1e10))
def test_ages_go_in_logarithmic_steps(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= Outcome({}, low).age_step <= Outcome({}, high).age_step < AGE_STEPS
    assert Outcome({}, 86400.0).age_step == Outcome({}, 86460.0).age_step


def test_the_evidence_stands_last_with_one_code_per_target() -> None:
    one = encoder()
    job = jobs_of("nextflow")[0].with_history([Outcome({"runtime_seconds": 318.0}, 3600.0)])
    values = {"runtime_seconds": 60.0, "cpu_cores": 2.0, "unknown_target": 1.0}
    bare, shown = one.prompt(job).ids, one.prompt(job, Evidence(values, 3)).ids
    assert shown[: len(bare)] == bare
    found = list(shown[len(bare) :])
    length = one.code.length
    assert found[2 : 2 + length] == one.value_ids(60.0)
    assert len(set(found[2 + length : 2 + 2 * length])) == 1  # no estimate of the memory
    assert found[2 + 2 * length :] == one.value_ids(2.0)
    assert one.text_part(shown) == one.text_part(bare)
    assert one.text_part(one.prompt(job.with_history([]), Evidence(values, 3)).ids) == one.text_part(bare)


def test_evidence_always_has_the_same_length_and_tells_how_familiar_the_job_is() -> None:
    one = encoder()
    assert one.evidence_ids(None) == []
    levels = [one.evidence_ids(Evidence({}, level)) for level in range(LEVELS + 1)]
    assert len({ids[1] for ids in levels}) == LEVELS + 1
    # What the number code cannot write counts as no estimate.
    for value in (1e300, -1.0):
        assert one.evidence_ids(Evidence({"runtime_seconds": value}, 0)) == levels[0]
    assert len(one.evidence_ids(Evidence({"cpu_cores": 0.0}, 0))) == len(levels[0])
    first, end = one.number_rows
    assert not any(first <= identity < end for identity in levels[0])


def test_given_values_are_written_in_the_order_of_the_targets() -> None:
    one = encoder()
    ids = one.given_ids({"cpu_cores": 2.0, "runtime_seconds": 60.0})
    assert ids[0] == one.target_ids["runtime_seconds"]
    assert ids[1 + one.code.length] == one.target_ids["cpu_cores"]
    assert len(ids) == 2 * (1 + one.code.length)


def test_reordered_keys_and_comments_give_the_same_prompt() -> None:
    config = CONFIGS["nextflow"]
    assert isinstance(config, dict)
    reordered = dict(reversed(config.items()))
    one = encoder()
    assert one.prompt(read("nextflow", config, {}).jobs[0]) == one.prompt(
        read("nextflow", reordered, {}).jobs[0]
    )


def test_novelty_is_the_share_of_trigrams_never_seen() -> None:
    seen = SeenTrigrams()
    assert seen.novelty([1, 2, 3, 4]) == 1.0
    seen.add([1, 2, 3, 4])
    assert seen.novelty([1, 2, 3, 4]) == 0.0
    assert seen.novelty([1, 2, 3, 9]) == 0.5
    assert seen.novelty([1]) == 1.0
    again = SeenTrigrams.from_bytes(seen.to_bytes())
    assert again.novelty([0, 1, 2, 3, 4]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="size"):
        SeenTrigrams.from_bytes(b"short")
