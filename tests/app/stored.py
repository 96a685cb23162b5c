"""A checkpoint on the disk, without weights: the real readers, texts and format, for an engine that needs none."""

from pathlib import Path

from model.checkpoint import EXPERTS, SEEN, Manifest, write_manifest
from model.evidence import storage
from model.evidence.expert import Experts
from model.novelty import SeenTrigrams
from model.numbers import NumberCode
from model.prompt import special_tokens
from model.targets import DEFAULT_TARGETS
from model.training.tokenizer import train_tokenizer

WORKFLOW = """
name: CI
on: [push]
jobs:
  lint:
    runs-on: ubuntu-latest
    steps:
      - run: ruff check
  test:
    needs: lint
    runs-on: ubuntu-latest
    strategy:
      matrix:
        python: ['3.11', '3.12']
    steps:
      - uses: actions/checkout@v4
      - run: pytest
"""


def store_checkpoint(directory: Path) -> Path:
    """Write one; the directory."""
    code = NumberCode()
    tokenizer = train_tokenizer([WORKFLOW] * 4, special_tokens(DEFAULT_TARGETS, code), 512)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"")
    (directory / SEEN).write_bytes(SeenTrigrams().to_bytes())
    nobody = Experts([target.name for target in DEFAULT_TARGETS], {})
    (directory / EXPERTS).write_bytes(storage.to_bytes(nobody))
    support = {"github-actions": {"workflow": {"runtime_seconds": 12}}}
    write_manifest(directory, Manifest("tiny", DEFAULT_TARGETS, code, 256, support))
    return directory
