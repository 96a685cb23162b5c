"""What tells a run from others: its input, what answers, and all settings that an answer depends on."""

import hashlib
from pathlib import Path

from app.json import dump
from app.settings import Settings
from model.checkpoint import MANIFEST, Checkpoint

#: Changes where the same run would give other bytes than before.
_VERSION = 1
_ANSWERING = ("engine", "max_batch", "max_batch_tokens", "max_body_bytes", "read_seconds")


def fingerprint(source: Path, settings: Settings, checkpoint: Checkpoint, window: int) -> str:
    """A hexadecimal digest. The calibration is in the manifest alone, not in the checkpoint's version."""
    digest = hashlib.blake2b(digest_size=32)
    chosen = {name: getattr(settings, name) for name in _ANSWERING}
    digest.update(dump([_VERSION, window, checkpoint.version, chosen]))
    digest.update((checkpoint.path / MANIFEST).read_bytes())
    with source.open("rb") as file:
        digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).digest())
    return digest.hexdigest()
