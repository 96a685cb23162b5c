"""Trees, batches, and a smoke run of the whole training: corpus to a checkpoint that serves."""

import json
import lzma
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from model.calibration import BOUND_QUANTILES, Calibration, above_bound, calibration_for
from model.checkpoint import EXPERTS, MANIFEST, SEEN, Checkpoint, record_evaluation
from model.decoder import Shape, new_decoder
from model.engines.base import Forecast, Query
from model.engines.fake import FakeEngine
from model.engines.torch_engine import TorchEngine
from model.errors import CheckpointError
from model.evidence.expert import Evidence
from model.jobs import read
from model.numbers import NumberCode
from model.prompt import Standing
from model.training import run as pipeline
from model.training.batches import Bundles, Mixture, batches, collate, position_weights
from model.training.calibration import calibration_of, fit_calibration
from model.training.corpus import Record
from model.training.examples import Example, Told
from model.training.reserved import reserved_groups
from model.training.run import RunSettings, run
from model.training.train import TrainSettings, batch_loss, learning_rate, train
from model.training.tree import Path as TreePath
from model.training.tree import build, visible
from tests.model.jobs_fixtures import encoder

sequences = st.lists(st.integers(0, 3), min_size=2, max_size=8).map(tuple)


@settings(deadline=None)
@given(st.lists(sequences, min_size=1, max_size=8))
def test_a_tree_holds_every_path_and_each_node_sees_its_own_prefix_only(
    tokens: list[tuple[int, ...]],
) -> None:
    tree = build(TreePath(t, (1.0,)) for t in tokens)
    assert len(tree) == len({t[:i] for t in tokens for i in range(1, len(t))})
    seen = visible(tree)
    reached = {}
    for node in range(len(tree)):
        line = np.flatnonzero(seen[node])
        assert tree.positions[line].tolist() == list(range(len(line)))
        reached[tuple(tree.tokens[line].tolist())] = node
    expected: dict[tuple[int, int], float] = {}
    for t in tokens:
        key = (reached[t[:-1]], t[-1])
        expected[key] = expected.get(key, 0.0) + 1.0
    found = dict(
        zip(zip(tree.sources.tolist(), tree.labels.tolist(), strict=True), tree.weights.tolist(), strict=True)
    )
    assert found == expected


def some_examples(count: int = 60) -> list[Example]:
    """Prompts of two sources; the answer follows from one token of the prompt."""
    one, made = encoder(), []
    for i in range(count):
        fast = i % 2
        value = float(10 if fast else 1000)
        answers = {"runtime_seconds": tuple(one.value_ids(value)), "cpu_cores": tuple(one.value_ids(2.0))}
        text = (*one.text_ids("workflow: rnaseq\n task: "), 100 + fast, 110 + i % 7)
        made.append(Example("even" if i % 3 else "odd", text, (), answers))
    return made


def test_the_stream_of_bundles_resumes_where_it_was() -> None:
    bundles = Bundles(some_examples(), encoder(), Mixture(nodes_per_tree=64), seed=4)
    stream = bundles.stream()
    all_of_them = [next(stream) for _ in range(30)]
    resumed = bundles.stream(skip=11)
    assert [next(resumed) for _ in range(19)] == all_of_them[11:]


def test_batches_resume_where_they_were() -> None:
    bundles = Bundles(some_examples(), encoder(), Mixture(nodes_per_tree=64), seed=4)
    whole = batches(bundles, encoder(), trees_per_batch=2)
    expected = [next(whole) for _ in range(14)]
    resumed = batches(bundles, encoder(), trees_per_batch=2, skip_batches=8)
    for batch in expected[8:]:
        again = next(resumed)
        assert torch.equal(batch.tokens, again.tokens)
        assert torch.equal(batch.labels, again.labels)


def test_one_round_shows_every_example_once() -> None:
    examples = some_examples()
    mixture = Mixture(nodes_per_tree=64, joint_share=0.0)
    bundles = list(Bundles(examples, encoder(), mixture, seed=0).one_round())
    assert sum(len(paths) for paths in bundles) == sum(len(e.answers) for e in examples)
    assert max(len(build(paths)) for paths in bundles) <= 64


def test_history_and_joint_chains_are_shown_as_often_as_asked() -> None:
    one = encoder()
    run_of = (one.history_token + 1, 5, 6)
    examples = [replace(e, runs=(run_of, run_of)) for e in some_examples(400)]
    mixture = Mixture(nodes_per_tree=400, history_share=0.5, joint_share=0.25)
    paths = [p for bundle in Bundles(examples, one, mixture, seed=0).one_round() for p in bundle]
    with_history = sum(one.history_token in p.tokens for p in paths) / len(paths)
    assert 0.2 < with_history < 0.45
    both = {one.target_ids["runtime_seconds"], one.target_ids["cpu_cores"]}
    chains = sum(both <= set(p.tokens) for p in paths) / len(paths)
    assert 0.05 < chains < 0.2


def test_the_tree_loss_equals_the_loss_of_each_path_alone() -> None:
    one = encoder()
    torch.manual_seed(0)
    model = new_decoder(Shape(hidden=64, layers=2, heads=2, key_value_heads=1, feed_forward=96), 512)
    paths = [p for bundle in Bundles(some_examples(12), one, Mixture(), seed=0).one_round() for p in bundle]
    first, end = one.number_rows
    tree_loss = batch_loss(model, collate([build(paths)], first), one, torch.device("cpu"), "fp32").item()
    total = weight = 0.0
    for path in paths:
        with torch.no_grad():
            logits = model(torch.tensor([path.tokens])).logits[0, :, first:end].log_softmax(-1)
        for offset, w in enumerate(path.weights):
            index = len(path.tokens) - len(path.weights) + offset
            total -= w * float(logits[index - 1, path.tokens[index] - first])
            weight += w
    assert tree_loss == pytest.approx(total / weight, rel=1e-4)


def settings_for(steps: int) -> TrainSettings:
    return TrainSettings(
        steps=steps,
        trees_per_batch=2,
        peak_learning_rate=1e-2,
        warm_up_steps=2,
        log_every=5,
        validate_every=10,
        precision="fp32",
        shape=Shape(hidden=64, layers=1, heads=2, key_value_heads=1, feed_forward=96),
        mixture=Mixture(nodes_per_tree=128),
    )


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(progress: object) -> None:
        if progress.step == 15:  # type: ignore[attr-defined]
            raise Interrupted

    def fresh() -> torch.nn.Module:
        torch.manual_seed(1)
        return new_decoder(settings_for(30).shape, 512)

    examples = some_examples()
    whole = train(fresh(), encoder(), examples, examples[:20], settings_for(30), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(fresh(), encoder(), examples, examples[:20], settings_for(30), tmp_path / "parts", stop)
    resumed = train(fresh(), encoder(), examples, examples[:20], settings_for(30), tmp_path / "parts")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 10, 15, 20, 25, 30]
    assert (tmp_path / "whole" / "loss.png").stat().st_size > 1000


def test_the_learning_rate_warms_up_holds_and_falls_to_zero() -> None:
    schedule = TrainSettings(steps=1000, warm_up_steps=100, decay_share=0.4, peak_learning_rate=1.0)
    rates = [learning_rate(step, schedule) for step in (0, 99, 500, 800, 999)]
    assert rates == pytest.approx([0.01, 1.0, 1.0, 0.5, 0.0025])


def write_corpus(directory: Path) -> None:
    """A small corpus in the format of the real one: run time follows from the task and the input size."""
    random = np.random.default_rng(0)
    directory.mkdir()
    lines = []
    for i in range(400):
        task = ("ALIGN", "SORT", "REPORT")[i % 3]
        size = int(10 ** random.uniform(6, 10))
        runtime = {"ALIGN": 3000.0, "SORT": 200.0, "REPORT": 5.0}[task] * float(random.uniform(0.9, 1.1))
        record = {
            "id": f"r{i}", "source": "toy", "family": "workflow", "kind": "nextflow", "group": task,
            "key": f"{task}{i % 9}", "date": f"2024-01-{i % 28 + 1:02}",
            "config": {"workflow": "toy", "task": task, "input_bytes": size}, "context": {"host": "n1"},
            "targets": {"runtime_seconds": runtime, "peak_memory_bytes": size * 2.0, "cpu_cores": None},
            "split": "val" if i % 5 == 0 else "train",
        }  # fmt: skip
        lines.append(json.dumps(record))
    with lzma.open(directory / "toy.jsonl.xz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    (directory / "sources.md").write_text(
        "| source | repository |\n|---|---|\n| toy | octo/toy @ 1234abcd |\n"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint made by the whole pipeline from a toy corpus."""
    base = tmp_path_factory.mktemp("training")
    write_corpus(base / "corpus")
    training = replace(
        settings_for(160),
        peak_learning_rate=3e-3,
        warm_up_steps=10,
        trees_per_batch=4,
        shape=Shape(hidden=96, layers=2, heads=2, key_value_heads=1, feed_forward=128),
    )
    options = RunSettings(name="toy", vocabulary_size=420, processes=1, training=training)
    return run(base / "corpus", base / "run", options, Console(quiet=True))


def test_the_pipeline_makes_a_checkpoint_that_learned_the_rule(trained: Path) -> None:
    checkpoint = Checkpoint.load(trained)
    engine = TorchEngine(trained, checkpoint.encoder)
    engine.start()
    medians = {}
    for task in ("ALIGN", "SORT", "REPORT"):
        job = read(
            "nextflow", {"workflow": "toy", "task": task, "input_bytes": 123_456_789}, {"host": "n1"}
        ).jobs[0]
        (forecast,) = engine.predict(
            [Query(checkpoint.prompt(job).ids, ("runtime_seconds",), (0.1, 0.5, 0.9))]
        )
        medians[task] = forecast.values["runtime_seconds"][1]
    assert medians["REPORT"] < medians["SORT"] < medians["ALIGN"]
    assert medians["ALIGN"] == pytest.approx(3000, rel=0.5)


def test_the_manifest_tells_what_the_checkpoint_was_trained_on(trained: Path) -> None:
    checkpoint = Checkpoint.load(trained)
    assert checkpoint.support("nextflow", "job") == {
        "runtime_seconds": 320,
        "peak_memory_bytes": 320,
        "cpu_cores": 0,
    }
    assert checkpoint.support("github-actions", "workflow") == dict.fromkeys(checkpoint.encoder.target_ids, 0)
    provenance = checkpoint.manifest.provenance
    assert provenance["records"] == {"toy": 320}
    assert provenance["sources"] == {"toy": "octo/toy @ 1234abcd"}
    places = {f"nextflow/job/{t}" for t in ("runtime_seconds", "peak_memory_bytes")}
    assert places < set(checkpoint.manifest.calibration)
    assert all(key.startswith(tuple(places)) for key in checkpoint.manifest.calibration)
    assert checkpoint.version.startswith("sha256:")
    json.dumps(checkpoint.summary)


def test_another_training_takes_over_what_was_prepared(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("fit_experts", "examples", "train_tokenizer"):
        monkeypatch.setattr(pipeline, stage, lambda *_, **__: pytest.fail("made again"))
    training = TrainSettings(steps=1, trees_per_batch=1, shape=Shape(64, 1, 2, 1, 96), seed=2)
    options = RunSettings(name="other", processes=1, training=training, prepared=trained.parent)
    corpus = trained.parents[1] / "corpus"
    found = Checkpoint.load(run(corpus, tmp_path, options, Console(quiet=True)))
    for name in ("tokenizer.json", EXPERTS, SEEN):
        assert (found.path / name).read_bytes() == (trained / name).read_bytes()
    assert found.version != Checkpoint.load(trained).version


def test_familiar_input_is_less_novel_than_strange_input(trained: Path) -> None:
    checkpoint = Checkpoint.load(trained)
    familiar = read(
        "nextflow", {"workflow": "toy", "task": "SORT", "input_bytes": 5_000_000}, {"host": "n1"}
    ).jobs[0]
    strange = read("text", "quantum flux capacitor overhaul, please", {}).jobs[0]
    assert (
        checkpoint.novelty(checkpoint.prompt(familiar)) < 0.3 < checkpoint.novelty(checkpoint.prompt(strange))
    )


def test_an_evaluation_goes_into_the_manifest_and_leaves_the_version(trained: Path, tmp_path: Path) -> None:
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    record_evaluation(tmp_path, {"mean_abs_ln": {"workflow/test_seen/runtime_seconds": 0.4}})
    again = Checkpoint.load(tmp_path)
    assert again.version == Checkpoint.load(trained).version
    assert again.manifest.evaluation["mean_abs_ln"] == {"workflow/test_seen/runtime_seconds": 0.4}
    assert again.manifest.calibration == Checkpoint.load(trained).manifest.calibration


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "seen.bin"])
def test_a_changed_file_stops_the_start(trained: Path, tmp_path: Path, name: str) -> None:
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    Checkpoint.load(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=name):
        Checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"format_version": 99}, {"text_version": -1}, {"number_code": {}}, {"targets": None}]
)
def test_a_manifest_of_another_format_stops_the_start(
    trained: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    for file in trained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**content, **change}))
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path / "nowhere")


NORMAL = NormalDist()
ASKED = (0.1, 0.5, 0.9)


def lognormal(quantiles: Sequence[float]) -> list[float]:
    return [math.exp(5.0 + NORMAL.inv_cdf(tau)) for tau in quantiles]


@pytest.mark.parametrize("bound", [1e-6, 10.0, 100.0, math.exp(5.0), 300.0, 500.0])
def test_above_a_bound_is_what_is_left_of_the_distribution(bound: float) -> None:
    grid = sorted({*BOUND_QUANTILES, *ASKED})
    below = NORMAL.cdf(math.log(bound) - 5.0)
    expected = lognormal([below + tau * (1 - below) for tau in ASKED])
    assert above_bound(grid, lognormal(grid), bound, ASKED) == pytest.approx(expected, rel=0.02)


def test_far_above_all_quantiles_the_rest_begins_at_the_bound() -> None:
    grid = sorted({*BOUND_QUANTILES, *ASKED})
    for bound in (1e4, 1e9):
        found = above_bound(grid, lognormal(grid), bound, ASKED)
        assert bound <= found[0] < 1.1 * bound
        assert found == tuple(sorted(found)) and found[2] < 4 * bound
    # Values that are all one, as of a job that never varied.
    assert above_bound(grid, [5.0] * len(grid), 7.0, ASKED) == pytest.approx([7.0] * 3)
    assert above_bound(grid, [5.0] * len(grid), 3.0, ASKED) == pytest.approx([5.0] * 3)


def test_calibration_scales_the_spread_around_the_median() -> None:
    scaled = Calibration(2.0, 0.5)
    assert scaled((0.1, 0.5, 0.9), (10.0, 100.0, 1000.0)) == pytest.approx((1.0, 100.0, 100 * 10**0.5))
    assert scaled((0.5, 0.9), (0.0, 1.0)) == (0.0, 1.0)


def test_calibration_follows_the_median_part_of_the_way_from_the_estimate() -> None:
    halfway = Calibration(departure=0.5)
    assert halfway((0.1, 0.5, 0.9), (50.0, 100.0, 200.0), 25.0) == pytest.approx((25.0, 50.0, 100.0))
    assert halfway((0.5, 0.9), (100.0, 200.0)) == pytest.approx((100.0, 200.0))  # nothing was estimated
    assert halfway((0.5, 0.9), (100.0, 200.0), 0.0) == pytest.approx((100.0, 200.0))


def test_strange_jobs_are_not_calibrated_by_familiar_ones() -> None:
    usual, familiar, past = Calibration(0.6, 0.6, 0.2), Calibration(0.7, 0.7, 0.3), Calibration(0.8, 0.8, 0.4)
    table = {"k/job/t": usual, "k/job/t/met:5": familiar, "k/job/t/history": past}
    assert calibration_for(table, "k/job/t", Standing({}, 5, history=False)) == familiar
    assert calibration_for(table, "k/job/t", Standing({}, 1, history=False)) == Calibration(departure=0.2)
    assert calibration_for(table, "k/job/t", Standing({}, 1, history=True)) == past
    assert calibration_for(table, "k/job/t", Standing({}, None, history=False)) == usual
    assert calibration_for(table, "other/job/t", Standing({}, 5, history=False)) == Calibration()


def test_calibration_finds_how_far_to_depart_and_how_wide_to_be() -> None:
    draw = np.random.default_rng(0)
    estimate, median = draw.normal(0, 1, (2, 4000))
    truth = estimate + 0.3 * (median - estimate) + draw.normal(0, 0.5, 4000)
    logs = np.stack([truth, estimate, median - 0.2, median, median + 0.4], axis=1)
    found = calibration_of(logs)
    assert found.departure == pytest.approx(0.3)
    outer = 1.2816 * 0.5  # of a normal distribution
    assert (0.2 * found.below, 0.4 * found.above) == pytest.approx((outer, outer), rel=0.1)


def test_settings_are_plain_data() -> None:
    json.dumps(asdict(TrainSettings()))


def test_small_groups_are_reserved_and_never_most_of_a_source() -> None:
    def records(source: str, sizes: dict[str, int]) -> list[Record]:
        return [
            Record(f"{g}{i}", source, "ci", "text", g, None, None, "x", {}, {}, "train")
            for g, size in sizes.items()
            for i in range(size)
        ]

    many = records("many", {"a": 500, "b": 300, "c": 30, "d": 31, "e": 100, "f": 3})
    two = records("two", {"a": 90, "b": 10})
    level = records("level", {"a": 40, "b": 30, "c": 30})
    assert reserved_groups([*many, *two, *level]) == {("many", "c"), ("many", "d")}
    assert reserved_groups(records("few", {"a": 450, "b": 450, "c": 120})) == {("few", "c")}


class Contrary(FakeEngine):
    """Says 100, give or take, whatever it is asked."""

    def predict(self, queries: Sequence[Query]) -> list[Forecast]:
        noise = np.random.default_rng(0).normal(0, 0.01, len(queries))
        medians = (100 * np.exp(noise)).tolist()
        return [
            Forecast(dict.fromkeys(q.targets, (m / 2, m, m * 2)))
            for q, m in zip(queries, medians, strict=True)
        ]


def test_it_is_seen_on_strange_groups_whether_to_follow_the_decoder_there() -> None:
    """Experts are right about what they know and ten times too low about what is new; the decoder never moves."""
    one = encoder()
    draw = np.random.default_rng(1)

    def pair(truth: float, estimate: float, familiarity: int) -> tuple[Record, Example]:
        record = Record("r", "s", "ci", "text", "g", None, None, "x", {}, {"runtime_seconds": truth}, "val")
        evidence = Evidence({"runtime_seconds": estimate}, familiarity)
        told = Told(tuple(one.evidence_ids(evidence)), {})
        return record, Example("s", (100,), (), {"runtime_seconds": ()}, (told,))

    around = np.exp(draw.normal(0, 0.1, (2, 80))).tolist()
    known = [pair(10 * spread, 10.0, 5) for spread in around[0]]
    strange = [pair(100 * spread, 10.0, 1) for spread in around[1]]
    table = fit_calibration(Contrary(), one, known, strange)
    assert table["text/job/runtime_seconds/met:5"].departure == 0.0
    assert table["text/job/runtime_seconds/met:1"].departure == 1.0
    assert table["text/job/runtime_seconds/met:1"].above == 0.6  # 2 was far too wide


@pytest.mark.parametrize(
    ("code", "weights"),
    [
        (NumberCode(), (1.0, 1.0, 0.6)),
        (NumberCode(widths=(1, 1, 1)), (1.0, 1.0, 0.8, 0.4)),
        (NumberCode(widths=(2, 1, 1), signed=True), (1.0, 1.0, 0.9, 0.4, 0.4)),
    ],
)
def test_a_token_counts_as_its_digits_do(code: NumberCode, weights: tuple[float, ...]) -> None:
    assert position_weights(code, (1.0, 0.8, 0.4)) == pytest.approx(weights)
    assert len(weights) == code.length
