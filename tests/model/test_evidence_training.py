"""Fitting the experts: what they learn, and that no held-out estimate knows its own record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.evidence import storage
from model.evidence.expert import MEMBERS, Experts, field_of
from model.evidence.facts import facts_of
from model.evidence.history import ln
from model.evidence.mix import level_of
from model.evidence.namesakes import OWN
from model.jobs.job import Job
from model.targets import DEFAULT_TARGETS
from model.training.corpus import Histories, Record
from model.training.dialect_fit import DialectFit
from model.training.evidence import facts_of_records, fit_experts
from model.training.examples import examples, job_of
from model.training.growing import EvidenceSettings, Layout
from model.training.held_out import HeldOut
from tests.model.jobs_fixtures import encoder

TARGETS = tuple(target.name for target in DEFAULT_TARGETS)
RUNTIME = TARGETS[0]
SETTINGS = EvidenceSettings(
    rounds=40,
    learning_rate=0.2,
    held_out_rounds=40,
    held_out_learning_rate=0.2,
    leaves=8,
    most_leaves=8,
)
FIELD = field_of("nextflow", "job")


def record(
    number: int,
    config: dict[str, object],
    log_runtime: float,
    *,
    machine: int = 0,
    group: str = "g",
    key: str | None = None,
    day: int | None = None,
    split: str = "train",
) -> Record:
    return Record(
        id=f"r{number}",
        source="synthetic",
        family="science",
        kind="nextflow",
        group=group,
        key=key,
        date=None if day is None else f"2026-01-{day + 1:02}",
        config=config,
        context={"machine": f"m{machine}"},
        targets={RUNTIME: math.exp(log_runtime)},
        split=split,
    )


@dataclass(frozen=True)
class Fit:
    """Some records, the experts fitted on them, and what is said of each record."""

    records: Sequence[Record]
    experts: Experts
    held_out: HeldOut

    @property
    def truth(self) -> NDArray[np.float64]:
        return np.array([ln(one.targets[RUNTIME]) for one in self.records])

    def train(self) -> NDArray[np.bool_]:
        return np.array([one.split == "train" for one in self.records])

    def error(self, part: str) -> float:
        """Mean absolute error in ln over the train records that have an estimate."""
        estimates = getattr(self.held_out, part)[:, 0]
        return float(np.nanmean(np.abs(estimates - self.truth)[self.train()]))

    def error_of_the_median(self) -> float:
        truth = self.truth[self.train()]
        return float(np.abs(truth - np.median(truth)).mean())

    def shown_to(self, place: int) -> Job:
        """The job of a record with the runs that its informed estimate saw."""
        past = Histories(self.records).history_of(self.records[place])[: self.held_out.shown[place]]
        return job_of(self.records[place]).with_history(past)


def fit(records: Sequence[Record]) -> Fit:
    experts, held_out = fit_experts(records, facts_of_records(records, 1), TARGETS, SETTINGS)
    return Fit(records, experts, held_out)


@pytest.fixture(scope="module")
def rule() -> Fit:
    """The runtime follows from the task and the bytes; tools belong to groups."""
    noise = np.random.default_rng(0).normal(0, 0.05, 250)
    made = []
    for i in range(250):
        size = 1 + i * 37 % 100
        config: dict[str, object] = {
            "task": f"T{i % 4}",
            "tool": f"tool-{'abcdef'[i % 6]}",
            "bytes": 1000 * size,
        }
        log = math.log((1 + i % 4) * size) + float(noise[i])
        split = "val" if i >= 225 else "train"
        made.append(record(i, config, log, machine=i % 2, group=f"g{i % 6}", split=split))
    return fit(made)


def test_codes_are_put_where_the_codes_are() -> None:
    layout = Layout(numbers=2, meaning=1, encoded=2, codes=2, targets=1, named=True)
    rows = np.arange(20, dtype=np.float32).reshape(2, 10)
    found = layout.with_codes(rows, np.full((2, 2), -1, dtype=np.float32))
    assert np.flatnonzero(found[0] == -1).tolist() == [5, 6]
    assert rows.min() == 0  # the members that see them masked keep theirs
    inside = layout.columns("named", 0)
    assert (inside == layout.columns("worded", 0)).all()
    assert layout.categorical(inside) == [3, 4]


@pytest.fixture(scope="module")
def recurring() -> Fit:
    """Jobs that nothing but their past tells apart, over ten days."""
    draw = np.random.default_rng(1)
    level = draw.normal(5, 1.5, 20)
    made: list[Record] = []
    for key in range(20):
        for day in range(10):
            log = float(level[key] + draw.normal(0, 0.05))
            config: dict[str, object] = {"task": f"T{day % 2}", "bytes": int(draw.integers(1000))}
            split = "val" if day == 9 else "train"
            made.append(record(len(made), config, log, key=f"k{key}", day=day, split=split))
    return fit(made)


@pytest.fixture(scope="module")
def noise() -> Fit:
    """Fifty works with a random runtime each, all of them run on five machines, and later on two more."""
    draw = np.random.default_rng(2)
    made = []
    for work in range(50):
        config: dict[str, object] = {
            "task": f"T{work}",
            "bytes": int(draw.integers(10**6)),
            "n": int(draw.integers(99)),
        }
        log = float(draw.normal(5, 1))
        for m in range(7):
            split = "val" if m >= 5 else "train"
            made.append(record(7 * work + m, config, log, machine=m, group=f"g{work % 7}", split=split))
    return fit(made)


def test_a_rule_is_learned_and_known_of_held_out_records(rule: Fit) -> None:
    assert rule.error("known") < 0.5 * rule.error_of_the_median()
    assert rule.error("unknown") < 0.6 * rule.error_of_the_median()
    assert np.isnan(rule.held_out.known[:, 1:]).all()  # nothing else was measured
    assert np.isnan(rule.held_out.informed).all()  # no job ran before


def test_random_runtimes_are_not_reproduced_for_held_out_records(noise: Fit) -> None:
    advised = [noise.experts.advise(job_of(one)) for one in noise.records]
    fitted = np.array([math.log(one.values[RUNTIME]) for one in advised if one is not None])
    in_sample = float(np.abs(fitted - noise.truth).mean())
    assert in_sample < 0.8 * noise.error_of_the_median()
    for part in ("known", "unknown"):
        assert noise.error(part) > 1.5 * in_sample
        assert noise.error(part) > 0.9 * noise.error_of_the_median()


def test_a_job_of_a_new_group_is_less_familiar(rule: Fit) -> None:
    known, unknown = rule.held_out.known_familiarity, rule.held_out.unknown_familiarity
    train = rule.train()
    assert unknown[train].mean() < known[train].mean() - 1
    assert (unknown[train] <= known[train]).mean() > 0.95


def test_informed_estimates_follow_the_past_runs(recurring: Fit) -> None:
    assert recurring.error("informed") < 0.2
    assert recurring.error("known") > 0.5 * recurring.error_of_the_median()
    have = np.isfinite(recurring.held_out.informed[:, 0])
    days = np.array([int(one.date[-2:]) - 1 if one.date else 0 for one in recurring.records])
    np.testing.assert_array_equal(have, days > 0)
    shown = recurring.held_out.shown
    assert (shown <= np.minimum(days, 5)).all()
    assert (shown[have] >= 1).all()
    assert len(np.unique(shown[days >= 5])) == 5  # any number of runs, not always all of them


@pytest.mark.parametrize("name", ["rule", "recurring"])
def test_what_training_saw_is_what_the_stored_experts_say(name: str, request: pytest.FixtureRequest) -> None:
    """For records that were not fitted on: the same estimate, bare and with the same runs shown."""
    one: Fit = request.getfixturevalue(name)
    stored = storage.from_bytes(storage.to_bytes(one.experts))
    for place in np.flatnonzero(~one.train())[::3]:
        bare = stored.advise(job_of(one.records[place]))
        assert bare is not None
        assert bare.values[RUNTIME] == pytest.approx(math.exp(one.held_out.known[place, 0]), rel=1e-4)
        assert bare.familiarity == one.held_out.known_familiarity[place]
        told = stored.advise(one.shown_to(place))
        assert told is not None
        informed = one.held_out.informed[place, 0]
        expected = informed if np.isfinite(informed) else one.held_out.known[place, 0]
        assert told.values[RUNTIME] == pytest.approx(math.exp(expected), rel=1e-4)


def test_equal_fits_give_equal_experts(recurring: Fit) -> None:
    again = fit(recurring.records)
    assert storage.to_bytes(again.experts) == storage.to_bytes(recurring.experts)
    for part, values in vars(again.held_out).items():
        np.testing.assert_array_equal(values, getattr(recurring.held_out, part))


def test_stored_fits_are_not_made_again_and_are_weighed_alike(
    recurring: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, facts = recurring.records, facts_of_records(recurring.records, 1)
    fit_experts(records, facts, TARGETS, SETTINGS, stored=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nextflow-job-synthetic.pkl"]
    monkeypatch.setattr(DialectFit, "fits", lambda _: pytest.fail("fitted again"))
    again, held_out = fit_experts(records, facts, TARGETS, SETTINGS, stored=tmp_path)
    assert storage.to_bytes(again) == storage.to_bytes(recurring.experts)
    np.testing.assert_array_equal(held_out.informed, recurring.held_out.informed)


def test_later_records_decide_how_far_past_runs_are_followed() -> None:
    """In train every run is as the configuration says, in val as the run before it was."""
    draw = np.random.default_rng(3)
    made: list[Record] = []
    for key in range(60):
        for day in range(6):
            size, split = int(draw.integers(1, 100)), "val" if day >= 3 else "train"
            log = math.log(size) if day < 3 else ln(made[-1].targets[RUNTIME])
            made.append(record(len(made), {"bytes": size}, log, key=f"k{key}", day=day, split=split))
    weights = fit(made).experts.by_field[FIELD].experts["synthetic"].by_history[0].weights
    later = fit([one for one in made if one.split == "train"])
    alone = later.experts.by_field[FIELD].experts["synthetic"].by_history[0].weights
    assert weights[0, 0, 2, :, 1].max() < 0.3  # three past runs, another configuration, a day ago
    assert alone[0, 0, 1, :, 1].min() > 0.7  # two past runs


def test_one_day_of_many_runs_does_not_decide_how_far_past_runs_are_followed() -> None:
    """On nine days all runs are as the configuration says, on the last one 540 are as the runs before them were."""
    draw = np.random.default_rng(4)
    made: list[Record] = []
    for key in range(600):
        first = key % 9 if key < 60 else 10
        for day in (first, first + 1):
            size, split = int(draw.integers(1, 100)), "val" if day == 11 else "train"
            log = math.log(size) if day < 11 else ln(made[-1].targets[RUNTIME])
            made.append(record(len(made), {"bytes": size}, log, key=f"k{key}", day=day, split=split))
    weights = fit(made).experts.by_field[FIELD].experts["synthetic"].by_history[0].weights
    assert weights[0, 0, 0, :, 1].min() > 0.7  # one past run, another configuration


def test_a_new_application_is_told_by_the_namesakes_of_its_tasks() -> None:
    """What a task takes follows from its own name; what else it says belongs to its application."""
    draw = np.random.default_rng(5)
    made = []
    for i in range(400):
        tool, application = i % 20, i // 20 % 8
        name = f"APP{application}:PART{draw.integers(3)}:TOOL_{'abcdefghijklmnopqrst'[tool]}"
        log = 7.0 * math.sin(tool) + float(draw.normal(0, 0.05))
        made.append(record(i, {"task": name, "bytes": i * 31 % 97}, log, group=f"g{application}"))
    found = fit(made)
    expert = found.experts.by_field[FIELD].experts["synthetic"]
    named = level_of(np.array([0]), np.full((1, 1), OWN))[0, 0]
    assert expert.mix.new[named, 0, MEMBERS.index("namesakes")] > 0.2
    assert found.error("unknown") < 0.3 < found.error_of_the_median()
    job = Job("nextflow", "job", "", {"task": "APP99:WHOLE:TOOL_c", "bytes": 5})
    said = found.experts.advise(job)
    assert said is not None
    assert math.log(said.values[RUNTIME]) == pytest.approx(7.0 * math.sin(2), abs=0.3)


def test_examples_carry_what_is_said_of_their_record(recurring: Fit) -> None:
    one, held_out = encoder(), recurring.held_out
    chosen = recurring.records[:15]
    index = Histories(recurring.records)
    for place, example in enumerate(examples(chosen, one, index, held_out=held_out)):
        assert example.prompt(one, None) == example.text
        assert len(example.runs) == held_out.shown[place]
        said = [e for e in (held_out.known, held_out.unknown) if np.isfinite(e[place]).any()]
        for told, estimates in zip(example.evidence, said, strict=True):
            assert example.prompt(one, told) == (*example.text, *told.tokens)
            none = told.tokens[-1]  # nothing is known of the CPUs
            estimate = estimates[place, 0]
            expected = (
                one.value_ids(math.exp(estimate)) if np.isfinite(estimate) else [none] * one.code.length
            )
            assert list(told.tokens[2 : 2 + one.code.length]) == expected
        assert example.informed is not None
        shown = example.prompt(one, example.informed, with_history=bool(example.runs))
        assert shown[-len(example.informed.tokens) :] == example.informed.tokens
        assert shown.count(one.history_token) == bool(example.runs)


def test_a_single_group_tells_nothing_of_new_groups() -> None:
    made = fit([record(i, {"task": f"T{i % 3}", "bytes": i % 5}, float(i % 3)) for i in range(60)])
    assert np.isfinite(made.held_out.known[:, 0]).all()
    assert np.isnan(made.held_out.unknown).all()
    assert (made.held_out.unknown_familiarity == 0).all()


def test_too_few_records_give_no_expert() -> None:
    made = fit([record(i, {"task": "T"}, 1.0) for i in range(39)])
    assert made.experts.by_field == {}
    assert np.isnan(made.held_out.known).all()
    assert made.experts.advise(job_of(made.records[0])) is None


def test_equal_records_and_one_runtime_give_an_expert_too() -> None:
    made = fit([record(i, {"task": "T"}, 2.0, group=f"g{i % 3}") for i in range(50)])
    assert set(made.experts.by_field) == {FIELD}
    advised = made.experts.advise(job_of(made.records[0]))
    assert advised is not None
    assert advised.values[RUNTIME] == pytest.approx(math.exp(2), rel=1e-3)


def test_records_of_one_content_share_their_facts() -> None:
    records = [record(i, {"task": f"T{i % 2}"}, 1.0) for i in range(6)]
    found = facts_of_records(records, 1)
    assert [one.strings["task"] for one in found] == ["T0", "T1"] * 3
    assert len({id(one) for one in found}) == 2
    assert found[0] == facts_of(job_of(records[0]))
