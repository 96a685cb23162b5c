"""docs/capacity.json: one entry per part, each written as soon as it was measured."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
RESULTS = _ROOT / "docs" / "capacity.json"
#: How the machine's pace went during each run: what the simulation is told, too long for the page's figures.
PACES = _ROOT / "build" / "capacity-paces.json"


def load(path: Path = RESULTS) -> dict[str, Any]:
    """Everything that was measured; empty where nothing was."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(part: str, figures: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Write one part beside the others."""
    content = load(path)
    content[part] = {
        **figures,
        "measured_on": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")


def busy_share(run: Mapping[str, Any]) -> float:
    """For how much of a run the service kept its core busy, from what was saved of it."""
    return float(sum(run["busy"]) / run["seconds"])
