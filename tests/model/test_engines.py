"""The torch engine against plain full-sequence evaluation, and the fake engine's promises."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from model.decoder import Shape, new_decoder, number_logits
from model.decoding import distribution_walk, quantile_walk, run_walk
from model.engines import forest
from model.engines.base import Query
from model.engines.fake import FakeEngine
from model.engines.packed import PackedDecoder, Sequences, Tails
from model.engines.torch_engine import TorchEngine
from model.engines.weights import Weights
from model.errors import CheckpointError, EngineUnavailable
from model.evidence.expert import Evidence
from model.numbers import Prefix
from tests.model.jobs_fixtures import encoder

TARGETS = ("runtime_seconds", "peak_memory_bytes", "cpu_cores")
QUANTILES = (0.1, 0.5, 0.9)


@cache
def model() -> PreTrainedModel:
    """A tiny decoder whose weights are large enough that no distribution is flat."""
    torch.manual_seed(3)
    made = new_decoder(Shape(hidden=64, layers=2, heads=2, key_value_heads=1, feed_forward=96), 512).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            parameter.data *= 6
    return made


def engine() -> TorchEngine:
    made = TorchEngine("unused", encoder(), dtype=torch.float32)
    made.use(model())
    return made


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(60, 500, length).tolist())


def told(estimates: Mapping[str, float]) -> list[int]:
    return encoder().evidence_ids(Evidence(estimates, 3))


def full_sequence_logits(query: Query, target: str, prefix: Prefix) -> np.ndarray:
    """One row by transformers' own causal forward pass over the whole sequence, no cache, no mask."""
    one = encoder()
    ask, _ = one.ask(target, one.estimates(query.prompt))
    ids = [*query.prompt, *one.given_ids(query.given), ask]
    ids += [one.symbol_ids[position][symbol] for position, symbol in enumerate(prefix)]
    with torch.no_grad():
        logits = model()(torch.tensor([ids])).logits[0, -1]
    return logits[list(one.symbol_ids[len(prefix)])].numpy()


QUERIES = [
    Query(prompt(5), TARGETS, QUANTILES),
    Query(prompt(40, 1), ("cpu_cores",), (0.5,)),
    Query(prompt(63, 2), ("peak_memory_bytes", "runtime_seconds"), (0.05, 0.25, 0.95), {"cpu_cores": 2.0}),
    Query(prompt(200, 3), TARGETS, QUANTILES),
    Query((*prompt(30, 4), *told({"runtime_seconds": 31.7, "cpu_cores": 1.5})), TARGETS, QUANTILES),
    Query((*prompt(9, 5), *told({"peak_memory_bytes": 2e9})), TARGETS, (0.5,), {"runtime_seconds": 8.0}),
]


def test_batched_answers_are_the_exact_quantiles_of_the_model() -> None:
    code = encoder().code
    for query, forecast in zip(QUERIES, engine().predict(QUERIES), strict=True):
        assert set(forecast.values) == set(query.targets)
        for target, values in forecast.values.items():
            _, scale = encoder().ask(target, encoder().estimates(query.prompt))
            found = run_walk(
                distribution_walk(code, [value / scale for value in values]),
                lambda prefix, q=query, t=target: full_sequence_logits(q, t, prefix),
            )
            assert found == pytest.approx(query.quantiles, abs=0.001)


def test_estimates_are_read_back_from_the_prompt_and_decide_what_is_asked() -> None:
    one = encoder()
    written = one.estimates(QUERIES[4].prompt)
    assert written == {
        "runtime_seconds": pytest.approx(31.7, rel=2e-3),
        "cpu_cores": pytest.approx(1.5, rel=1e-2),
    }
    for name in TARGETS:
        token, scale = one.ask(name, written)
        assert scale == written.get(name, 1.0)
        assert (token == one.target_ids[name]) == (name not in written)
    assert one.estimates(QUERIES[0].prompt) == one.estimates(()) == {}


def test_targets_do_not_see_each_other() -> None:
    query = QUERIES[0]
    together = engine().predict([query])[0].values
    for target in TARGETS:
        alone = engine().predict([Query(query.prompt, (target,), QUANTILES)])[0].values
        assert alone[target] == pytest.approx(together[target], rel=1e-4)


def test_a_batch_answers_as_each_query_alone() -> None:
    together = engine().predict(QUERIES)
    for query, forecast in zip(QUERIES, together, strict=True):
        alone = engine().predict([query])[0]
        for target in query.targets:
            assert alone.values[target] == pytest.approx(forecast.values[target], rel=1e-3)


def test_given_values_change_the_rest() -> None:
    base = Query(prompt(20), ("runtime_seconds",), (0.5,))
    answers = [
        engine()
        .predict([Query(base.prompt, base.targets, base.quantiles, given)])[0]
        .values["runtime_seconds"]
        for given in ({}, {"cpu_cores": 1.0}, {"cpu_cores": 64.0})
    ]
    assert len(set(answers)) == 3


def test_many_quantiles_are_ordered_and_cost_the_same_steps() -> None:
    taus = tuple(np.linspace(0.01, 0.99, 32).tolist())
    values = engine().predict([Query(prompt(30), TARGETS, taus)])[0].values
    for row in values.values():
        assert list(row) == sorted(row)
        assert np.isfinite(row).all()


def steps_of(made: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every step behind a prefill, as they come."""
    steps: list[int] = []
    step = made.decoder.step

    def counted(tails: Tails, kept: Sequences) -> torch.Tensor:
        steps.append(int(tails.tokens.shape[1]))
        return step(tails, kept)

    monkeypatch.setattr(made.decoder, "step", counted)
    return steps


def test_reading_ahead_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told_queries = [
        QUERIES[4],
        QUERIES[5],
        replace(QUERIES[4], prompt=(*prompt(50, 8), *QUERIES[4].prompt[30:])),
    ]
    for batch in (told_queries[:1], told_queries[:2], told_queries):
        ahead = engine().predict(batch)
        with monkeypatch.context() as without:
            without.setattr(forest, "_LIKELY", ())
            for one, other in zip(ahead, engine().predict(batch), strict=True):
                for target, values in one.values.items():
                    assert other.values[target] == pytest.approx(values, rel=1e-4)


def test_reading_ahead_saves_steps_where_the_answer_begins_as_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, made = encoder(), engine()
    steps = steps_of(made, monkeypatch)
    estimates = dict.fromkeys(TARGETS, 5.0)
    query = Query((*prompt(30, 4), *told(estimates)), TARGETS, QUANTILES)
    wide = one.code.encode(0.5)[0], one.code.encode(1.0)[0]

    def at_estimate(states: torch.Tensor, rows: tuple[int, int]) -> torch.Tensor:
        found = number_logits(model(), states, rows)
        first = rows[0]
        exponents = [identity - first for identity in one.symbol_ids[0]]
        likely = [one.symbol_ids[0][symbol] - first for symbol in wide]
        found[:, [column for column in exponents if column not in likely]] = -50.0
        return found

    monkeypatch.setattr(made.decoder, "number_logits", at_estimate)
    made.predict([query])
    assert len(steps) == one.code.length - 3  # exponents and first digits were there
    steps.clear()
    made.predict([query] * 3)
    assert len(steps) == one.code.length - 2  # in larger batches the exponents alone
    steps.clear()
    made.predict([replace(query, prompt=prompt(30, 4))])
    assert len(steps) == one.code.length - 1  # without an estimate nothing is expected


def test_targets_and_quantiles_cost_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine()
    steps = steps_of(made, monkeypatch)
    for targets in (TARGETS[:1], TARGETS):
        for count in (1, 3, 32):
            steps.clear()
            made.predict([Query(prompt(30), targets, tuple(np.linspace(0.02, 0.98, count).tolist()))] * 2)
            assert len(steps) == encoder().code.length - 1
            assert max(steps) <= len(targets) * count


def test_a_prompt_longer_than_the_model_was_made_for_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Query(prompt(model().config.max_position_embeddings + 40), ("cpu_cores",), (0.5,))
    assert np.isfinite(engine().predict([long])[0].values["cpu_cores"]).all()


def test_decoders_that_our_forward_pass_does_not_know_are_refused() -> None:
    with pytest.raises(CheckpointError, match="model_type"):
        PackedDecoder(Weights.of(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16))))
    stretched = copy.deepcopy(model())
    stretched.base_model.rotary_emb.rope_type = "dynamic"
    with pytest.raises(CheckpointError, match="dynamic"):
        PackedDecoder(Weights.of(stretched))


def test_an_engine_that_is_not_running_says_so() -> None:
    for made in (TorchEngine("unused", encoder()), FakeEngine()):
        assert not made.health()
        with pytest.raises(EngineUnavailable):
            made.predict(QUERIES)
    closed = engine()
    closed.close()
    assert not closed.health()


def test_the_fake_engine_is_deterministic_and_follows_its_own_distribution() -> None:
    fake = FakeEngine()
    fake.start()
    query = Query(prompt(9), TARGETS, (0.1, 0.5, 0.9))
    (one,), (again,) = fake.predict([query]), fake.predict([query])
    assert one == again
    assert one.values != fake.predict([Query(prompt(9, seed=1), TARGETS, query.quantiles)])[0].values
    for target in TARGETS:
        expected = run_walk(
            quantile_walk(fake.code, query.quantiles), lambda p, t=target: fake.logits(query, t, p)
        )
        assert one.values[target] == expected
        assert list(expected) == sorted(expected)
