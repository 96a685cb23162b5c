"""Weights read as they lie on the disk are those that transformers reads; what is not plain, it reads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from model import decoder
from model.engines.packed import PackedDecoder
from model.engines.weights import Weights
from model.errors import CheckpointError

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
}
PLAIN = {
    "qwen3": Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "qwen3, another base": Qwen3Config(
        **SIZES, head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 1e6}
    ),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "llama with biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
}
OTHERS = {
    "gemma": Gemma3TextConfig(
        **SIZES, head_dim=8, query_pre_attn_scalar=8, layer_types=["full_attention"] * 2
    ),
    "stretched": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    ),
}


def saved(config: PretrainedConfig, directory: Path, **options: str) -> Path:
    torch.manual_seed(5)
    made: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for parameter in made.parameters():  # norms and biases too differ from what they begin with
        parameter.data += 0.1 * torch.randn_like(parameter)
    made.save_pretrained(directory, **options)
    return directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_decoders_are_read_as_transformers_reads_them(
    tmp_path: Path, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(PLAIN[name], tmp_path)
    expected = Weights.of(decoder.load_decoder(path, dtype))
    monkeypatch.setattr(decoder, "load_decoder", lambda *_: pytest.fail("transformers read it"))
    found = Weights.load(path, dtype)
    names = set(found.tensors) - {"lm_head.weight"}
    assert names == set(expected.tensors)
    for one in names:
        assert found.tensors[one].dtype == dtype
        assert torch.equal(found.tensors[one], expected.tensors[one]), one
    assert torch.equal(found.head.weight, expected.head.weight)
    assert (found.head.bias, found.head.cap) == (None, None) == (expected.head.bias, expected.head.cap)
    for ours, theirs in zip(found.turn(600, None), expected.turn(600, None), strict=True):
        assert torch.equal(ours, theirs)
    packed, reference = PackedDecoder(found), PackedDecoder(expected)
    assert len(packed._layers) == len(reference._layers) == 2
    assert (packed._width, packed._scaling) == (reference._width, reference._scaling)


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_plain_is_left_to_transformers(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_by_transformers(saved(OTHERS[name], tmp_path), monkeypatch)


def test_several_files_of_weights_are_left_to_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_by_transformers(saved(PLAIN["qwen3"], tmp_path, max_shard_size="20KB"), monkeypatch)


def read_by_transformers(path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    asked: list[Path] = []
    load = decoder.load_decoder

    def watched(where: Path, dtype: torch.dtype) -> PreTrainedModel:
        asked.append(where)
        return load(where, dtype)

    monkeypatch.setattr(decoder, "load_decoder", watched)
    PackedDecoder(Weights.load(path, torch.float32))
    return asked == [path]


@pytest.mark.parametrize("what", ["config.json", "model.safetensors"])
def test_files_that_do_not_fit_each_other_are_told(tmp_path: Path, what: str) -> None:
    path = saved(PLAIN["qwen3"], tmp_path)
    if what == "config.json":  # of a larger decoder
        content = (path / what).read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3')
        (path / what).write_text(content)
    else:
        (path / what).write_bytes((path / what).read_bytes()[:-64])
    with pytest.raises(CheckpointError, match="weights"):
        PackedDecoder(Weights.load(path, torch.float32))


def test_an_engine_starts_without_transformers() -> None:
    program = """
import sys
from app.build import engine_builder
from app.settings import Settings
from model.checkpoint import Checkpoint
settings = Settings(engine_threads=1)
engine = engine_builder(settings, Checkpoint.load(settings.checkpoint, lazily=True))()
engine.start()
assert engine.health()
print("transformers" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
