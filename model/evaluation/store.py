"""Predictions on disk: an interrupted run resumes, and a new checkpoint does not refit the baselines."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.evaluation.metrics import FloatArray


class Store:
    """One .npz per method, cell and parameters, with the parameters beside it as JSON."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def directory(self) -> Path:
        """Where everything lies."""
        return self._directory

    def get(self, method: str, cell: str, parameters: Mapping[str, object]) -> FloatArray | None:
        """What was stored under exactly these parameters, else None."""
        path = self._path(method, cell, parameters)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["values"], dtype=np.float64)

    def put(self, method: str, cell: str, parameters: Mapping[str, object], values: FloatArray) -> None:
        """Store values; a reader never sees half a file."""
        path = self._path(method, cell, parameters)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(parameters, indent=1, sort_keys=True) + "\n")
        partial = path.with_suffix(".partial")
        with partial.open("wb") as out:
            np.savez_compressed(out, values=values)
        partial.replace(path)

    def _path(self, method: str, cell: str, parameters: Mapping[str, object]) -> Path:
        key = hashlib.blake2b(json.dumps(parameters, sort_keys=True).encode(), digest_size=10).hexdigest()
        slug = "".join(char if char.isalnum() else "-" for char in cell)
        return self._directory / "".join(c if c.isalnum() else "-" for c in method) / f"{slug}-{key}.npz"
