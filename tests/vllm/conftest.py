"""Checkpoints and prompts for the tests that need vLLM; `make test-vllm` installs it and runs them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from app.settings import Settings
from model.checkpoint import Checkpoint, Manifest, write_manifest
from model.decoder import Shape, new_decoder
from model.jobs.job import Job, Outcome
from model.precision import fastest_dtype
from model.targets import DEFAULT_TARGETS
from model.training.corpus import corpus_directory, load
from model.training.examples import job_of
from tests.model.jobs_fixtures import CONFIGS, encoder, jobs_of

collect_ignore_glob: list[str] = []
try:
    import vllm  # noqa: F401
except ImportError:
    collect_ignore_glob = ["test_*.py"]


TARGETS = tuple(target.name for target in DEFAULT_TARGETS)
PROMPTS = 200
#: By so much may a value of one engine differ from another's, or in other company: bf16 rounds with each batch anew.
ROUNDING = 0.02 if fastest_dtype() is torch.float32 else 0.1


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return Checkpoint.load(Settings().checkpoint)


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh weights, large enough that no distribution is flat; the fixtures' tokenizer."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("random")
    one = encoder()
    model = new_decoder(
        Shape(hidden=64, layers=2, heads=2, key_value_heads=1, feed_forward=96), one.vocabulary_size
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 6
    model.save_pretrained(path)
    one._tokenizer.save(str(path / "tokenizer.json"))
    write_manifest(path, Manifest("random", DEFAULT_TARGETS, one.code, 512, {}))
    return path


def jobs() -> list[Job]:
    """The fixtures' jobs, again and again with other histories."""
    draw = np.random.default_rng(0)
    found = []
    while len(found) < PROMPTS:
        for kind in CONFIGS:
            for job in jobs_of(kind):
                history = [
                    Outcome(
                        dict(zip(TARGETS, np.exp(draw.normal((4, 20, 0), 1)).tolist(), strict=True)),
                        float(draw.uniform(60, 1e7)),
                        bool(draw.random() < 0.5),
                    )
                    for _ in range(len(found) // 40)
                ]
                found.append(job.with_history(history))
    return found[:PROMPTS]


@pytest.fixture(scope="session", params=["fixtures", "corpus"])
def prompts(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> list[tuple[int, ...]]:
    """200 prompts of real reading, serializing and tokenizing: of our own small jobs, and of measured ones."""
    if request.param == "fixtures":
        return [checkpoint.prompt(job).ids for job in jobs()]
    directory = corpus_directory()
    if directory is None or not directory.is_dir():
        pytest.skip("no corpus: set JOBCAST_DATA to its directory")
    records = load(directory, ["openlane", "gha", "c3o", "yocto"], ["val"])
    return [checkpoint.prompt(job_of(record)).ids for record in records[:: len(records) // PROMPTS]][:PROMPTS]
