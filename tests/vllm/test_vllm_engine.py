"""The vLLM engine beside the torch engine and plain transformers: the same quantiles, whatever vLLM does inside."""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from model.checkpoint import Checkpoint
from model.decoder import load_decoder
from model.decoding import distribution_walk, run_walk
from model.engines.base import Engine, Forecast, Query
from model.engines.torch_engine import TorchEngine
from model.engines.vllm.engine import VllmEngine, VllmSettings
from model.errors import EngineUnavailable
from model.precision import has_bf16
from model.prompt import PromptEncoder
from tests.model.jobs_fixtures import encoder
from tests.vllm.conftest import ROUNDING, TARGETS

QUANTILES = (0.1, 0.5, 0.9)
FP32 = VllmSettings(dtype=torch.float32)


def queries_of(prompts: Sequence[tuple[int, ...]]) -> list[Query]:
    """All targets of each; every fifth with a known value."""
    return [
        Query(prompt, TARGETS[:2], QUANTILES, {"cpu_cores": 2.0})
        if place % 5 == 4
        else Query(prompt, TARGETS, QUANTILES)
        for place, prompt in enumerate(prompts)
    ]


@torch.inference_mode()
def probabilities(
    model: PreTrainedModel, one: PromptEncoder, query: Query, forecast: Forecast
) -> Iterator[tuple[float, float]]:
    """(tau, the model's own probability of a smaller value) of every answer, by plain causal forward passes."""
    estimates = one.estimates(query.prompt)
    for target in query.targets:
        ask, scale = one.ask(target, estimates)
        values = [value / scale for value in forecast.values[target]]
        codes = [one.code.encode(value) for value in values]
        paths = [
            [*query.prompt, *one.given_ids(query.given), ask]
            + [one.symbol_ids[p][symbol] for p, symbol in enumerate(code[:-1])]
            for code in codes
        ]
        logits = model(torch.tensor(paths)).logits[:, -one.code.length :].float()
        for tau, value, code, rows in zip(query.quantiles, values, codes, logits, strict=True):
            (found,) = run_walk(
                distribution_walk(one.code, [value]),
                lambda prefix, r=rows, c=code: (
                    r[len(prefix)][list(one.symbol_ids[len(prefix)])].numpy()
                    if prefix == c[: len(prefix)]
                    else pytest.fail("another path")
                ),
            )
            yield tau, found


def furthest(
    model: PreTrainedModel, one: PromptEncoder, queries: Sequence[Query], forecasts: Sequence[Forecast]
) -> float:
    return max(
        abs(tau - found)
        for query, forecast in zip(queries, forecasts, strict=True)
        for tau, found in probabilities(model, one, query, forecast)
    )


def agree(one: Engine, other: Engine, queries: Sequence[Query], rel: float = 1e-3) -> None:
    for a, b in zip(one.predict(queries), other.predict(queries), strict=True):
        for target, values in a.values.items():
            assert b.values[target] == pytest.approx(values, rel=rel)


@pytest.fixture(scope="module")
def vllm_engine(checkpoint: Checkpoint) -> Iterator[VllmEngine]:
    made = VllmEngine(checkpoint.path, checkpoint.encoder, FP32)
    assert not made.health()
    with pytest.raises(EngineUnavailable):
        made.predict([])
    made.start()
    yield made
    made.close()
    assert not made.health()


def test_both_engines_give_the_quantiles_of_the_plain_model(
    checkpoint: Checkpoint, vllm_engine: VllmEngine, prompts: list[tuple[int, ...]]
) -> None:
    """To 0.0005 in probability each, so that they are within 0.001 of each other."""
    one = checkpoint.encoder
    embedded = TorchEngine(checkpoint.path, one, dtype=torch.float32)
    embedded.start()
    plain = load_decoder(checkpoint.path, torch.float32).eval()
    queries = queries_of(prompts)
    assert len(queries) == 200
    for engine in (embedded, vllm_engine):
        forecasts = [f for start in range(0, 200, 40) for f in engine.predict(queries[start : start + 40])]
        assert furthest(plain, one, queries, forecasts) <= 0.0005
        for query, forecast in zip(queries, forecasts, strict=True):
            assert set(forecast.values) == set(query.targets)
            for values in forecast.values.values():
                assert list(values) == sorted(values)


@pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor does not multiply bf16")
def test_in_bf16_both_are_close_to_the_plain_model(
    checkpoint: Checkpoint, prompts: list[tuple[int, ...]]
) -> None:
    plain = load_decoder(checkpoint.path, torch.float32).eval()
    queries = queries_of(prompts)[:50]
    for engine in (
        TorchEngine(checkpoint.path, checkpoint.encoder, dtype=torch.bfloat16),
        # In a process of its own: closing one would take vLLM's state away from the other engine of this process.
        VllmEngine(checkpoint.path, checkpoint.encoder, VllmSettings(own_process=True, dtype=torch.bfloat16)),
    ):
        engine.start()
        assert furthest(plain, checkpoint.encoder, queries, engine.predict(queries)) <= 0.02
        engine.close()


def test_callers_on_several_threads_join_one_batch_and_get_their_own(
    checkpoint: Checkpoint, vllm_engine: VllmEngine, prompts: list[tuple[int, ...]]
) -> None:
    queries = queries_of(prompts[:24])
    alone = [vllm_engine.predict([query])[0] for query in queries]
    together: dict[int, Forecast] = {}

    def ask(place: int) -> None:
        (together[place],) = vllm_engine.predict([queries[place]])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, forecast in enumerate(alone):
        for target, values in forecast.values.items():
            assert together[place].values[target] == pytest.approx(values, rel=ROUNDING)


def test_a_request_that_vllm_refuses_fails_alone(vllm_engine: VllmEngine) -> None:
    with pytest.raises(EngineUnavailable, match="refused"):
        vllm_engine.predict([Query((5,) * 5000, TARGETS, QUANTILES)])
    assert vllm_engine.health()
    assert vllm_engine.predict([Query((5,) * 50, TARGETS, QUANTILES)])


def random_prompt(seed: int, length: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(60, 480, length).tolist())


CHUNKS = {"max_num_batched_tokens": 64, "max_num_seqs": 32}
NO_CACHE = {"enable_prefix_caching": False}
#: Blocks of 32 tokens for less than what all sequences need at once.
TIGHT = {"num_gpu_blocks_override": 24, "block_size": 32, "max_model_len": 640}


@pytest.mark.parametrize("more", [CHUNKS, NO_CACHE, TIGHT], ids=["chunks", "no-cache", "preemption"])
def test_whatever_vllm_does_inside_the_answers_stay(
    random_checkpoint: Path, more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm.v1.core.sched.scheduler import Scheduler

    preempted = []
    preempt = Scheduler._preempt_request
    monkeypatch.setattr(
        Scheduler, "_preempt_request", lambda *given, **named: preempted.append(1) or preempt(*given, **named)
    )
    embedded = TorchEngine(random_checkpoint, encoder(), dtype=torch.float32)
    embedded.start()
    made = VllmEngine(random_checkpoint, encoder(), VllmSettings(dtype=torch.float32, more=more))
    made.start()
    # With the token that asks, prompts end just before a block does: all sequences want another block at once.
    queries = [Query(random_prompt(i, 30 + 32 * (i % 5)), TARGETS, QUANTILES) for i in range(24)]
    agree(embedded, made, queries)
    agree(embedded, made, queries)  # again, from the cache where there is one
    made.close()
    assert bool(preempted) == (more is TIGHT)


def test_ten_thousand_answers_of_random_weights_are_valid_numbers(random_checkpoint: Path) -> None:
    made = VllmEngine(random_checkpoint, encoder(), FP32)
    made.start()
    code, count = encoder().code, 0
    draw = np.random.default_rng(0)
    while count < 10_000:
        taus = tuple(draw.uniform(0.001, 0.999, 10).tolist())
        queries = [Query(random_prompt(count + i, 8), TARGETS, taus) for i in range(32)]
        for forecast in made.predict(queries):
            for values in forecast.values.values():
                assert len(values) == 10
                for value in values:
                    assert math.isfinite(value) and code.encode(value)
                count += len(values)
    made.close()


def test_a_core_in_a_process_of_its_own_answers_alike(random_checkpoint: Path) -> None:
    embedded = TorchEngine(random_checkpoint, encoder(), dtype=torch.float32)
    embedded.start()
    made = VllmEngine(random_checkpoint, encoder(), VllmSettings(dtype=torch.float32, own_process=True))
    made.start()
    queries = [Query(random_prompt(i, 30 + 11 * i), TARGETS, QUANTILES) for i in range(8)]
    agree(embedded, made, queries)
    assert made.health()
    made.close()
