"""What tuning chose, kept beside the predictions as JSON: the report prints it."""

import json
from collections.abc import Mapping
from pathlib import Path

from model.evaluation.store import Store
from model.training.files import write_whole

#: source -> target -> method -> what was chosen, its error on val, and how many records it was chosen on.
Chosen = dict[str, dict[str, dict[str, dict[str, object]]]]

_DIRECTORY = "chosen"


def keep_chosen(store: Store, source: str, target: str, method: str, facts: Mapping[str, object]) -> None:
    """Replace what is kept for this source, target and method."""
    directory = _directory(store)
    directory.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in f"{source}-{target}-{method}")
    entry = {"source": source, "target": target, "method": method, "chosen": dict(facts)}
    content = json.dumps(entry, indent=1, sort_keys=True) + "\n"
    write_whole(directory / f"{name}.json", content.encode())


def chosen_parameters(store: Store) -> Chosen:
    """Everything kept: source -> target -> method -> facts; empty where nothing was tuned yet."""
    found: Chosen = {}
    for path in sorted(_directory(store).glob("*.json")):
        entry = json.loads(path.read_text())
        by_method = found.setdefault(entry["source"], {}).setdefault(entry["target"], {})
        by_method[entry["method"]] = entry["chosen"]
    return found


def _directory(store: Store) -> Path:
    return store.directory / _DIRECTORY
