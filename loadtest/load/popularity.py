"""How often the same job is asked about again: a Zipf law, fitted to the runs of recurring jobs in the corpus.

`python -m loadtest.load.popularity` fits it anew; it needs the corpus (`JOBCAST_DATA`, or ../shared/data).
"""

import json
import lzma
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

#: Exponents of sources whose records are runs of recurring jobs, as of 2026-11-25: 345 workflows with 1,793 runs, 787
#: and 1,908 jobs of chip designs with 3,469 and 32,243 runs.
FITTED = {"gha": 0.73, "openlane": 0.81, "openroad": 0.51}
#: What the scenarios draw with.
EXPONENT = FITTED["gha"]
_ROOT = Path(__file__).resolve().parents[2]


def shares(population: int, exponent: float = EXPONENT) -> np.ndarray:
    """[population], the share of requests that are for the job of each rank."""
    weights = np.arange(1, population + 1) ** -exponent
    return np.asarray(weights / weights.sum())


def draw(random: np.random.Generator, population: int, count: int, exponent: float = EXPONENT) -> np.ndarray:
    """[count], ranks from 0."""
    return random.choice(population, count, p=shares(population, exponent))


def fit(counts: Sequence[int]) -> float:
    """The exponent under which these numbers of runs per job are most likely."""
    ranked = np.sort(np.asarray(counts, dtype=float))[::-1]
    logarithms = np.log(np.arange(1, len(ranked) + 1))

    def surprise(exponent: float) -> float:
        return float(
            exponent * (ranked * logarithms).sum()
            + ranked.sum() * np.log(np.exp(-exponent * logarithms).sum())
        )

    return float(minimize_scalar(surprise, bounds=(0.0, 3.0), method="bounded").x)


def runs_per_job(source: Path) -> list[int]:
    """Records per `key` of one file of the corpus."""
    found: Counter[str] = Counter()
    with lzma.open(source, "rt") as lines:
        for line in lines:
            if key := json.loads(line)["key"]:
                found[json.dumps(key)] += 1
    return list(found.values())


def main() -> None:
    """Print the exponent of every source that is there."""
    data = Path(os.environ.get("JOBCAST_DATA", _ROOT.parent / "shared" / "data"))
    for source in FITTED:
        counts = runs_per_job(data / f"{source}.jsonl.xz")
        print(f"{source}: {len(counts)} jobs, {sum(counts)} runs, exponent {fit(counts):.2f}")


if __name__ == "__main__":
    main()
