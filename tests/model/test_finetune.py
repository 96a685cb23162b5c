"""Fine-tuning a pretrained decoder of each architecture, from a directory on disk to a checkpoint that serves."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, BertConfig, PreTrainedModel

from model.decoder import hidden_states, number_logits
from model.decoding import distribution_walk, run_walk
from model.engines.base import Query
from model.engines.torch_engine import TorchEngine
from model.errors import CheckpointError
from model.numbers import NumberCode
from model.prompt import PromptEncoder, special_tokens
from model.targets import DEFAULT_TARGETS
from model.training.base import base_tokenizer, open_base
from model.training.batches import collate
from model.training.examples import Example
from model.training.start import finished_model, starting_model
from model.training.train import TrainSettings, train
from model.training.tree import Path as TreePath
from model.training.tree import build
from tests.model.tiny_bases import BASES, WINDOW, toy_example, write_base

CODE = NumberCode()
SPECIAL = special_tokens(DEFAULT_TARGETS, CODE)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: write_base(root / name, name) for name in BASES}


def encoder_of(tokenizer: Tokenizer) -> PromptEncoder:
    return PromptEncoder(tokenizer, DEFAULT_TARGETS, CODE, 512)


def opened(directory: Path, *, keep_rotations: bool = False) -> tuple[PreTrainedModel, PromptEncoder]:
    torch.manual_seed(0)
    model, tokenizer = open_base(directory, DEFAULT_TARGETS, CODE, keep_rotations=keep_rotations)
    return model.eval(), encoder_of(tokenizer)


def plain_model(directory: Path) -> PreTrainedModel:
    """As anyone else would load the directory."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@cache
def prompts() -> list[tuple[int, ...]]:
    random = np.random.default_rng(7)
    shared = random.integers(3, 300, 20).tolist()
    return [tuple(shared + random.integers(3, 300, length).tolist()) for length in (1, 9, 30)]


@pytest.mark.parametrize("name", BASES)
def test_a_tree_gives_each_path_the_logits_of_a_plain_causal_forward(
    bases: dict[str, Path], name: str
) -> None:
    model, encoder = opened(bases[name])
    rows = encoder.number_rows
    ends = [(encoder.target_ids[t], *encoder.value_ids(v)) for t in encoder.target_ids for v in (2.5, 3e9)]
    paths = [TreePath((*prompt, *end), (1.0,) * CODE.length) for prompt in prompts() for end in ends]
    assert len(prompts()[0]) > WINDOW
    trees = [build(paths), build(paths[:4])]  # the second is padded
    batch = collate(trees, rows[0])
    with torch.no_grad():
        states = hidden_states(model, batch.tokens, batch.positions, batch.mask).flatten(0, 1)
        found = number_logits(model, states[batch.sources], rows)
        expected = {}
        for path in paths:
            logits = model(torch.tensor([path.tokens])).logits[0, :, rows[0] : rows[1]]
            for index in range(len(path.tokens) - CODE.length, len(path.tokens)):
                expected[path.tokens[:index]] = logits[index - 1]
    flat = states.reshape(len(trees), -1, states.shape[-1])
    for source, row in zip(batch.sources.tolist(), found, strict=True):
        tree, node = divmod(source, flat.shape[1])
        line = np.flatnonzero((batch.mask[tree, 0, node] == 0).numpy())
        key = tuple(batch.tokens[tree, line].tolist())
        torch.testing.assert_close(row, expected[key], atol=1e-5, rtol=1e-5)
    assert found.std() > 0.1


@pytest.mark.parametrize("name", BASES)
def test_a_checkpoint_of_each_architecture_serves_the_quantiles_of_its_plain_model(
    bases: dict[str, Path], tmp_path: Path, name: str
) -> None:
    model, encoder = opened(bases[name])
    model.save_pretrained(tmp_path)
    engine = TorchEngine(tmp_path, encoder, dtype=torch.float32)
    engine.start()
    reference = plain_model(tmp_path)
    queries = [
        Query(prompts()[2], tuple(encoder.target_ids), (0.1, 0.5, 0.9)),
        Query(prompts()[0], ("runtime_seconds",), (0.5,), {"cpu_cores": 2.0}),
    ]
    for query, forecast in zip(queries, engine.predict(queries), strict=True):
        for target, values in forecast.values.items():

            def logits(prefix: tuple[int, ...], query: Query = query, target: str = target) -> np.ndarray:
                ids = [*query.prompt, *encoder.given_ids(query.given), encoder.target_ids[target]]
                ids += [encoder.symbol_ids[position][symbol] for position, symbol in enumerate(prefix)]
                with torch.no_grad():
                    row = reference(torch.tensor([ids])).logits[0, -1]
                return row[list(encoder.symbol_ids[len(prefix)])].numpy()

            found = run_walk(distribution_walk(CODE, values), logits)
            assert found == pytest.approx(query.quantiles, abs=0.001)


@pytest.mark.parametrize("name", BASES)
def test_the_special_tokens_are_added_at_the_end_and_start_from_what_they_mean(
    bases: dict[str, Path], name: str
) -> None:
    plain = Tokenizer.from_file(str(bases[name] / "tokenizer.json"))
    known = plain.get_vocab_size()
    before = plain_model(bases[name])
    model, encoder = opened(bases[name])
    tokenizer = base_tokenizer(bases[name], DEFAULT_TARGETS, CODE)
    ids = [tokenizer.token_to_id(token) for token in SPECIAL]
    assert ids[0] == plain.token_to_id("<pad>")  # the base has that one
    assert ids[1:] == list(range(known, known + len(SPECIAL) - 1))
    assert encoder.number_rows == (ids[SPECIAL.index("<e0>")], ids[-1] + 1)
    for embeddings, old in (
        (model.get_input_embeddings(), before.get_input_embeddings()),
        (model.get_output_embeddings(), before.get_output_embeddings()),
    ):
        assert embeddings.weight.shape[0] % 64 == 0
        assert torch.equal(embeddings.weight[:known], old.weight[:known])
        digit, seven = embeddings.weight[tokenizer.token_to_id("<7>")], old.weight[plain.token_to_id("7")]
        assert not torch.equal(digit, seven)
        assert torch.cosine_similarity(digit, seven, dim=0) > 0.95
    # The base cuts inputs to 16 tokens; prompts have a budget of their own. Text cannot spell the new tokens.
    assert len(encoder.text_ids("word " * 40)) > 16
    assert not set(encoder.text_ids("<runtime_seconds><7><e+3>")) & set(ids)


def test_gemma_attends_everywhere_in_memory_and_on_disk(bases: dict[str, Path], tmp_path: Path) -> None:
    model, _ = opened(bases["gemma3"])
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config["layer_types"]) == {"full_attention"}
    assert str(bases["gemma3"]) not in (tmp_path / "config.json").read_text()
    ids = torch.tensor([prompts()[1]])
    changed = ids.clone()
    changed[0, 0] += 1  # more than a window before the end
    again = plain_model(tmp_path)
    first_layer = [
        again.base_model(i, output_hidden_states=True).hidden_states[1][0, -1] for i in (ids, changed)
    ]
    assert not torch.equal(*first_layer)
    sliding = plain_model(bases["gemma3"])
    blind = [sliding.base_model(i, output_hidden_states=True).hidden_states[1][0, -1] for i in (ids, changed)]
    assert torch.equal(*blind)


def test_gemma_keeps_its_rotations_where_asked(bases: dict[str, Path], tmp_path: Path) -> None:
    """Within a window the base's own function is then untouched; as full layers it is another one."""
    short = torch.tensor([prompts()[0][: WINDOW - 1]])
    known = plain_model(bases["gemma3"])
    logits = {}
    for kept in (False, True):
        model, _ = opened(bases["gemma3"], keep_rotations=kept)
        model.save_pretrained(tmp_path / str(kept))
        with torch.no_grad():
            logits[kept] = plain_model(tmp_path / str(kept))(short).logits[..., :300]
            expected = known(short).logits[..., :300]
    torch.testing.assert_close(logits[True], expected, atol=1e-5, rtol=1e-5)
    assert (logits[False] - expected).abs().max() > 0.1
    long = torch.tensor([prompts()[2]])
    changed = long.clone()
    changed[0, 0] += 1
    wide = plain_model(tmp_path / "True")
    seen = [wide.base_model(i, output_hidden_states=True).hidden_states[1][0, -1] for i in (long, changed)]
    assert not torch.equal(*seen)


def test_a_checkpoint_of_our_own_is_a_base_that_has_everything(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    model, encoder = opened(bases["llama"])
    model.save_pretrained(tmp_path)
    base_tokenizer(bases["llama"], DEFAULT_TARGETS, CODE).save(str(tmp_path / "tokenizer.json"))
    again, encoder_again = opened(tmp_path)
    assert encoder_again.number_rows == encoder.number_rows
    assert encoder_again.vocabulary_size == encoder.vocabulary_size
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_no_base_says_why(bases: dict[str, Path], tmp_path: Path) -> None:
    def refused(directory: Path, match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            open_base(directory, DEFAULT_TARGETS, CODE)

    refused(tmp_path, r"tokenizer\.json")
    for file in ("tokenizer.json", "config.json"):
        refused(tmp_path, file)
        (tmp_path / file).write_bytes((bases["llama"] / file).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "safetensors")
    BertConfig().save_pretrained(tmp_path)
    refused(tmp_path, "bert")
    tokenizer = Tokenizer.from_file(str(bases["llama"] / "tokenizer.json"))
    tokenizer.add_tokens(["<7>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    refused(tmp_path, "contiguous|one run")
    pieces = json.loads((bases["llama"] / "tokenizer.json").read_text())
    pieces["model"]["vocab"]["<run>"] = len(pieces["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(pieces))
    refused(tmp_path, "<run>")


def examples_for(encoder: PromptEncoder) -> list[Example]:
    before = encoder.text_ids("task: ")
    return [toy_example(encoder, number, before) for number in range(40)]


def settings_for(directory: Path, **changes: object) -> TrainSettings:
    base = TrainSettings(
        steps=20,
        trees_per_batch=2,
        peak_learning_rate=3e-3,
        warm_up_steps=2,
        log_every=5,
        validate_every=10,
        base=str(directory),
    )
    mixture = replace(base.mixture, nodes_per_tree=64)
    return replace(base, mixture=mixture, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma3"])
def test_low_rank_training_touches_adapters_and_new_rows_only_and_merges_into_a_plain_decoder(
    bases: dict[str, Path], tmp_path: Path, name: str
) -> None:
    settings = settings_for(bases[name], lora_rank=4)
    encoder = encoder_of(base_tokenizer(bases[name], DEFAULT_TARGETS, CODE))
    known = Tokenizer.from_file(str(bases[name] / "tokenizer.json")).get_vocab_size()
    examples = examples_for(encoder)
    model = starting_model(settings, encoder, DEFAULT_TARGETS, CODE)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    trained = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) < sum(p.numel() for p in frozen.values())
    train(model, encoder, examples, examples[:8], settings, tmp_path / "run")
    now = dict(model.named_parameters())
    assert all(torch.equal(now[n], p) for n, p in frozen.items())
    assert all(not torch.equal(now[n], p) for n, p in trained.items())
    losses = losses_of(tmp_path / "run")
    assert losses[-1] < losses[0] - 0.5
    state = torch.load(tmp_path / "run" / "state.pt")
    assert set(state["model"]) == set(trained)

    # A run that is taken up again starts from the base and its own small state.
    resumed = starting_model(settings, encoder, DEFAULT_TARGETS, CODE)
    train(resumed, encoder, examples, examples[:8], settings, tmp_path / "run")
    for n, p in resumed.named_parameters():
        assert torch.equal(p, now[n]), n

    ids = torch.tensor([prompts()[1] + (encoder.target_ids["runtime_seconds"],)])
    with torch.no_grad():
        expected = model.eval()(ids).logits
        states = hidden_states(model, ids, torch.arange(ids.shape[1])[None], causal(ids.shape[1]))
        rows = number_logits(model, states, encoder.number_rows)
    merged = finished_model(model, settings)
    merged.save_pretrained(tmp_path / "merged")
    saved = load_file(tmp_path / "merged" / "model.safetensors")
    assert set(saved) == set(load_file(bases[name] / "model.safetensors"))
    again = plain_model(tmp_path / "merged")
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, expected, atol=1e-4, rtol=1e-4)
    first, end = encoder.number_rows
    torch.testing.assert_close(rows, expected[..., first:end], atol=1e-5, rtol=1e-5)
    tied = again.get_input_embeddings().weight is again.get_output_embeddings().weight
    assert tied == (name != "llama")
    before = plain_model(bases[name])
    for old, new in (
        (before.get_input_embeddings(), again.get_input_embeddings()),
        (before.get_output_embeddings(), again.get_output_embeddings()),
    ):
        assert torch.equal(old.weight[:known], new.weight[:known])


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def causal(length: int) -> torch.Tensor:
    return torch.full((1, 1, length, length), torch.finfo(torch.float32).min).triu(1)


def test_full_fine_tuning_of_a_base_learns_and_trains_every_weight(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    settings = settings_for(bases["gemma3"], steps=30)
    encoder = encoder_of(base_tokenizer(bases["gemma3"], DEFAULT_TARGETS, CODE))
    examples = examples_for(encoder)
    model = starting_model(settings, encoder, DEFAULT_TARGETS, CODE)
    before = {n: p.clone() for n, p in model.named_parameters()}
    train(model, encoder, examples, examples[:8], settings, tmp_path)
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    losses = losses_of(tmp_path)
    assert losses[-1] < losses[0] / 2
