"""The checkpoint that the service starts with: complete, honest, and good for the example of the README."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import typer

from app.settings import Settings
from model.checkpoint import EXPERTS, FILES, MANIFEST, Checkpoint
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine
from model.evaluation import readme
from model.evaluation.scheduling import report as scheduling
from model.evaluation.speed import ways
from model.evaluation.speed.__main__ import main as benchmark
from model.evaluation.speed.goals import GOALS
from model.evidence import storage
from model.evidence.columns import LEVELS
from model.evidence.expert import field_of
from model.jobs import read
from model.jobs.job import Outcome
from tests.model.jobs_fixtures import jobs_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "ci.yml"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint.load(Settings().checkpoint)


@pytest.fixture(scope="module")
def engine(checkpoint: Checkpoint) -> TorchEngine:
    made = TorchEngine(checkpoint.path, checkpoint.encoder)
    made.start()
    return made


def test_it_is_small_and_complete(checkpoint: Checkpoint) -> None:
    sizes = {name: (checkpoint.path / name).stat().st_size for name in (*FILES, MANIFEST)}
    assert sum(sizes.values()) <= 64_000_000
    provenance = checkpoint.manifest.provenance
    for field in ("sources", "records", "settings", "code_version", "trained_at", "parameters"):
        assert provenance[field], field
    assert checkpoint.manifest.evaluation["mean_abs_ln"]
    assert checkpoint.manifest.calibration


def test_the_readme_has_the_figures_of_the_benchmark_of_this_checkpoint(checkpoint: Checkpoint) -> None:
    results = json.loads((ROOT / "docs" / "benchmark.json").read_text())
    assert readme.render(results, scheduling.summary(results["gains"])) in (ROOT / "README.md").read_text()
    assert results["checkpoints"][0].startswith(f"sha256:{checkpoint.version.removeprefix('sha256:')[:12]}")


def test_support_says_what_github_actions_records_hold(checkpoint: Checkpoint) -> None:
    whole_runs = checkpoint.support("github-actions", "workflow")
    assert whole_runs["runtime_seconds"] > 1000
    assert whole_runs["peak_memory_bytes"] == 0
    assert set(checkpoint.support("github-actions", "job").values()) == {0}


def test_every_trained_field_has_an_expert_that_advises(checkpoint: Checkpoint) -> None:
    """The small jobs of the tests, of every kind and scope that enough training records had."""
    experts = storage.from_bytes((checkpoint.path / EXPERTS).read_bytes())
    advised = set()
    for kind, scopes in checkpoint.manifest.support.items():
        for scope, counts in scopes.items():
            trained = {name for name, records in counts.items() if records >= 100}
            if not trained:
                continue
            assert field_of(kind, "workflow" if scope == "workflow" else "job") in experts.by_field
            for job in jobs_of(kind):
                if job.scope == scope:
                    evidence = experts.advise(job)
                    assert evidence is not None
                    # The dialect that the job is taken for may know some of the kind's targets only.
                    assert set(evidence.values) & trained, (kind, scope)
                    assert all(math.isfinite(v) and v > 0 for v in evidence.values.values())
                    assert 0 <= evidence.familiarity <= LEVELS
                    advised.add((kind, scope))
    assert ("github-actions", "workflow") in advised
    assert len(advised) >= 10


def test_the_example_gets_ordered_finite_quantiles(checkpoint: Checkpoint, engine: TorchEngine) -> None:
    reading = read("github-actions", EXAMPLE.read_text(), {"event": "push"})
    assert reading.workflow is not None
    targets = tuple(target.name for target in checkpoint.targets)
    queries = [
        Query(checkpoint.prompt(job).ids, targets, (0.1, 0.5, 0.9))
        for job in (reading.workflow, *reading.jobs)
    ]
    for forecast in engine.predict(queries):
        assert set(forecast.values) == set(targets)
        for values in forecast.values.values():
            assert all(math.isfinite(value) and value > 0 for value in values)
            assert list(values) == sorted(values)
    run_time = engine.predict(queries[:1])[0].values["runtime_seconds"]
    assert 10 < run_time[1] < 20_000


def test_an_unchanged_job_is_told_by_its_history(checkpoint: Checkpoint, engine: TorchEngine) -> None:
    """How much it helps is for docs/benchmark.md to say; here, that the answer follows what the job took."""
    config = "task: basic\narch: k6_frac_N10_mem32K_40nm.xml\ncircuit: ch_intrinsics.v\nstage: vpr_pack\n"
    job = read("eda.vtr", config, {}).jobs[0]
    for truth in (5.0, 600.0):
        past = [Outcome({"runtime_seconds": truth}, 86400.0 * day, same_config=True) for day in (1, 2, 3, 4)]
        query = Query(checkpoint.prompt(job.with_history(past)).ids, ("runtime_seconds",), (0.1, 0.5, 0.9))
        values = engine.predict([query])[0].values["runtime_seconds"]
        assert list(values) == sorted(values)
        assert truth / 3 < values[1] < truth * 3


def test_the_benchmark_measures_every_way_and_draws_its_page(tmp_path: Path) -> None:
    try:
        benchmark(rounds=3, prompt_tokens=16, seconds=0.1, vllm=False, output=tmp_path)
    except typer.Exit as missed:  # sixteen tokens are no benchmark: a missed ratio is fine here
        assert missed.exit_code == 1
    figures = json.loads((tmp_path / "performance.json").read_text())
    ways = {"prefill", "hf prefill", "torch", "samples", "template", "generate", "generate-3"}
    assert set(figures["one prediction"]) == ways
    assert all(one["low"] <= one["median"] <= one["high"] for one in figures["one prediction"].values())
    assert [load["clients"] for load in figures["clients"]["torch"]] == [1, 8, 32, 128]
    assert all(load["answers"] for loads in figures["clients"].values() for load in loads)
    assert set(figures["growth"]) == {"prompt tokens", "targets", "quantiles", "threads", "decoder"}
    assert figures["start"]["torch"]["resident_megabytes"] > 100
    for goal in GOALS:
        told = figures["goals"][goal.name]
        assert told["missed"] == goal.missed(told["measured"])
        assert (told["measured"] is None) == ("vllm" in goal.name or "regress-lm" in goal.name)
    page = (tmp_path / "performance.md").read_text()
    for way in ways:
        assert f"| {way} |" in page
    for image in ("ways", "clients", "growth"):
        assert (tmp_path / "img" / f"performance-{image}.png").stat().st_size > 5000


def test_samples_and_quantiles_are_of_one_distribution(checkpoint: Checkpoint, engine: TorchEngine) -> None:
    """The benchmark's 64 samples must be what they are called: their median lies where the exact one is."""
    prompt = ways.prompts_of(checkpoint)(40, 1)
    draw = np.random.default_rng(0)
    decoder = engine.decoder
    medians = [ways.sample_median(decoder, checkpoint, prompt, draw) for _ in range(40)]
    (exact,) = engine.predict([Query(prompt, ways.targets_of(checkpoint), (0.4, 0.5, 0.6))])
    for column, (low, _, high) in enumerate(exact.values.values()):
        assert low <= float(np.median([row[column] for row in medians])) <= high
