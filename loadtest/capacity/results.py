"""docs/capacity.json: one entry per part, each written as soon as it was measured."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "capacity.json"


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
    path.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
