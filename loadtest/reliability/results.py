"""docs/reliability.json: one entry per experiment, each written as soon as it was measured."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"


@dataclass(frozen=True)
class Bound:
    """What must hold of one figure: at most, or at least."""

    what: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        # What is not a number keeps no bound.
        within = self.at_most is None or self.measured <= self.at_most
        return within and (self.at_least is None or self.measured >= self.at_least)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with whether it holds."""
        return {
            "what": self.what,
            "measured": self.measured,
            "at_most": self.at_most,
            "at_least": self.at_least,
            "unit": self.unit,
            "holds": self.holds,
        }


def save(experiment: str, how: str, bounds: Sequence[Bound], more: Mapping[str, Any] | None = None) -> bool:
    """Write one experiment's figures; whether all bounds hold. how: one or two sentences for the page."""
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    content[experiment] = {
        "how": how,
        "bounds": [bound.to_json() for bound in bounds],
        "more": dict(more or {}),
        "measured_on": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {_cores()} cores",
    }
    RESULTS.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")
    return all(bound.holds for bound in bounds)


def _cores() -> int:
    import os

    return os.cpu_count() or 1
