"""docs/benchmark.md from the results. What is missed is said as missed; equal results give equal bytes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from model.evaluation.forecast import JOBCAST, JOBCAST_HISTORY
from model.evaluation.markdown import section
from model.evaluation.report_tables import (
    all_scores,
    before_the_flow,
    families,
    few_groups,
    history,
    left_out,
)
from model.evaluation.report_verdict import by_source, headline, noise_floor, statistics, verdict
from model.evaluation.results import REQUESTS, WITH, WITHOUT, Results

PAGE, DATA, NOTES = "benchmark.md", "benchmark.json", "benchmark-notes.md"


def write(results: Results, directory: Path, gains: str = "") -> None:
    """Write benchmark.md and benchmark.json into the directory.

    gains: the section on what a scheduler gains, as Markdown. A file benchmark-notes.md that lies there, written
    by hand, is taken into the page.
    """
    directory.mkdir(parents=True, exist_ok=True)
    data = json.dumps(results, indent=1, sort_keys=True) + "\n"
    (directory / DATA).write_text(data, encoding="utf-8")
    notes = directory / NOTES
    said = notes.read_text(encoding="utf-8") if notes.exists() else ""
    frontier = (directory / "img" / "frontier.png").exists()
    (directory / PAGE).write_text(render(results, gains, said, frontier=frontier), encoding="utf-8")


def render(results: Results, gains: str = "", notes: str = "", *, frontier: bool = False) -> str:
    """The report as Markdown; `frontier` where the plot of error over latency was drawn."""
    parts = [
        _introduction(results),
        verdict(results),
        section("What was missed, why, and what was tried", notes) if notes.strip() else "",
        headline(results),
        statistics(),
        _plots(frontier),
        noise_floor(results),
        families(results),
        by_source(
            results["answers"][WITHOUT],
            "By source",
            "Without history. **Bold: the best baseline is better.**",
        ),
        few_groups(results),
        left_out(results),
        by_source(
            results["answers"][WITH],
            "With history, by source",
            f"{JOBCAST_HISTORY} on the records whose key ran before.",
        ),
        history(results),
        before_the_flow(results),
        by_source(
            results["answers"][REQUESTS],
            "Against what the author asked for",
            "Where the configuration asks for an amount (a time limit, memory, cores), on those records alone. A "
            "request is meant as a limit, so it lies above what is used.",
        ),
        gains,
        all_scores(results),
        _how(results),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def _introduction(results: Results) -> str:
    return f"""# Benchmark

How far the predictions of checkpoint `{results["measured"].get("checkpoint")}` are from what was measured,
beside what a user would otherwise build. Written by `make benchmark`; the same numbers for machines:
[{DATA}]({DATA}).

The error is |ln predicted median - ln truth|: 0.1 is about 10 %, 0.69 a factor of two. It is averaged over the
records of a group, then over the groups of a source, then over sources, so that no design or package
dominates. `test_seen` holds later runs, or other works, of groups that training knows; `test_unseen` holds
whole groups that it never saw. Both were only read to write this page.

**{JOBCAST}** is the model on the configuration alone, **{JOBCAST_HISTORY}** with up to five earlier outcomes of the
same key, where there are any."""


def _plots(frontier: bool) -> str:
    images = [
        "![Ratio to the best baseline per source, with its interval](img/ratios.png)",
        "![Predicted median against the truth, by family and target](img/predicted-vs-true.png)",
        "![Observed against nominal quantiles, by family and target](img/calibration.png)",
    ]
    if frontier:
        images.append("![Error against latency of the checkpoints tried](img/frontier.png)")
    return section("Plots", *images)


def _how(results: Results) -> str:
    taus = ", ".join(f"{tau:g}" for tau in results["quantiles"])
    facts = "\n".join(_facts(results["measured"]))
    return f"""## How it was measured

{facts}
- quantiles: {taus}
- Where a split holds more records than the limit, those with the smallest hash of seed and id were taken:
  the same records for all methods.
- Histories hold any record of the same source and key that is dated strictly earlier, of whichever split, as
  a running service would know it. Baselines were fitted on histories of train records only.
- Baselines were fitted on `train` and chosen on `val`, per source; what was chosen is in `chosen` of
  [{DATA}]({DATA}).
- A method is scored where it answers at least 99 % of a source's records, on those it answers.
- Spearman within groups: the mean over groups with at least five different inputs.
- CRPS: twice the pinball loss, averaged over a hundred levels; quantiles between those above are interpolated
  linearly in ln value, beyond the outermost they stay constant.
- An average over a family weighs its sources alike, whatever their number of records."""


def _facts(measured: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(measured):
        yield f"- {name.replace('_', ' ')}: {_fact(measured[name])}"


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_fact(value[key])}" for key in sorted(value))
    # A tuple comes back from JSON as a list.
    return ", ".join(map(_fact, value)) if isinstance(value, list | tuple) else str(value)
