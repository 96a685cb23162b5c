"""docs/evaluation.md from the results. What is missed is said as missed; equal results give equal bytes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from model.evaluation.baselines import KIND_MEDIAN
from model.evaluation.cells import BEFORE_THE_FLOW, TEST_SPLITS
from model.evaluation.results import BARS, JOBCAST, JOBCAST_HISTORY, CellResult, Results, Summary, number

_SCORES = (
    ("mean_abs_ln", "mean abs ln"),
    ("median_abs_ln", "median abs ln"),
    ("spearman", "Spearman"),
    ("coverage", "80 % coverage"),
)


def write(results: Results, directory: Path) -> None:
    """Write evaluation.md and evaluation.json into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, sort_keys=True) + "\n"
    (directory / "evaluation.json").write_text(text, encoding="utf-8")
    (directory / "evaluation.md").write_text(render(results), encoding="utf-8")


def render(results: Results) -> str:
    """The report as Markdown."""
    parts = [
        _introduction(results),
        _verdict(results),
        _summary(results),
        _PLOTS,
        _history(results),
        _all_cells(results),
        _how(results),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _introduction(results: Results) -> str:
    return f"""# Evaluation

How far the predictions of checkpoint `{results["measured"].get("checkpoint")}` are from what was measured,
beside what anyone could predict without it. Written by `make evaluate`; the same numbers for machines:
`evaluation.json`.

The error is |ln predicted median - ln truth|: 0.1 is about 10 %, 0.69 a factor of two. `test_seen` holds
later runs, or other works, of groups that training knows; `test_unseen` holds whole groups that it never
saw. Both were only read to write this page.

- **{JOBCAST}**: the model on the configuration alone. **{JOBCAST_HISTORY}**: with up to five earlier
  outcomes of the same key, where there are any.
- **kind-median**: quantiles of the kind's training records.
- **last-3-of-key**: median of the key's last three outcomes, else kind-median. It gives no interval.
- **LightGBM**: on the same canonical text (TF-IDF and SVD, parsed numbers, kind, stage); its interval is
  split-conformal on `val`. **LightGBM + history**: with the last outcomes, their number and age as well."""


def _verdict(results: Results) -> str:
    lines = ["## In short", ""]
    lines += [_one_verdict(results["summary"], method, bar) for method, bar in BARS]
    return "\n".join(lines)


def _one_verdict(summary: Sequence[Summary], method: str, bar: str) -> str:
    name = f"{method} / {bar}"
    asked = [row for row in summary if name in row["ratios"]]
    beaten = [row for row in asked if _beats(row["ratios"][name])]
    missed = ", ".join(
        f"{row['family']} {row['target']} {row['split']} ({_text(row['ratios'][name])})"
        for row in asked
        if not _beats(row["ratios"][name])
    )
    return (
        f"- {method} beats {bar} in {len(beaten)} of {len(asked)} family x target x split cells; "
        f"missed: {missed or 'none'}."
    )


def _beats(ratio: float | None) -> bool:
    return ratio is not None and ratio < 1.0


def _summary(results: Results) -> str:
    bars = [f"{method} / {bar}" for method, bar in BARS]
    head = ["family", "target", "split", "sources", *results["methods"], *bars]
    rows = [
        [
            row["family"],
            row["target"],
            row["split"],
            str(len(row["sources"])),
            *(_text(row["mean_abs_ln"].get(method)) for method in results["methods"]),
            *(_judged(row["ratios"].get(bar)) for bar in bars),
        ]
        for row in results["summary"]
    ]
    return f"""## By family

Mean abs ln error, averaged over the sources of a family; ratios are geometric means over the sources, below 1
the model is better. **Bold: the bar is missed.**

{_table(head, rows)}

80 % coverage (0.1 to 0.9 quantile; 0.80 is calibrated), averaged over the sources:

{_table(["family", "target", "split", *results["methods"]], _coverage_rows(results))}"""


def _coverage_rows(results: Results) -> list[list[str]]:
    return [
        [row["family"], row["target"], row["split"]]
        + [_text(row["coverage"].get(method), 2) for method in results["methods"]]
        for row in results["summary"]
    ]


_PLOTS = """## Plots

![Predicted median against the truth, by family and target](img/predicted-vs-true.png)

![Observed against nominal quantiles, by family and target](img/calibration.png)"""


def _history(results: Results) -> str:
    cells = [cell for cell in results["cells"] if cell["n_with_history"]]
    rows = [
        [cell["name"], cell["split"], cell["target"], str(cell["n_with_history"])]
        + [_share(cell)]
        + [_text(number(cell, m, "mean_abs_ln", with_history=True)) for m in results["methods"]]
        for cell in cells
    ]
    head = ["source", "split", "target", "n", "share", *results["methods"]]
    return f"""## Where there is a history

Mean abs ln error on the records whose key ran before, and their share of the source's records.

{_table(head, rows) if rows else "No evaluated record has a history."}"""


def _share(cell: CellResult) -> str:
    return f"{cell['n_with_history'] / cell['n']:.0%}"


def _all_cells(results: Results) -> str:
    sections = ["## By source"]
    if any(cell["name"] == BEFORE_THE_FLOW for cell in results["cells"]):
        sections.append(
            f"`{BEFORE_THE_FLOW}` are the same records as `openroad` without the metrics of earlier stages, "
            "which are known mid-flow only. It does not count in the averages above."
        )
    for split in TEST_SPLITS:
        for score, title in _SCORES:
            rows = [
                [cell["name"], cell["target"], str(cell["n"])]
                + [_text(number(cell, method, score)) for method in results["methods"]]
                for cell in results["cells"]
                if cell["split"] == split
            ]
            if rows:
                head = ["source", "target", "n", *results["methods"]]
                sections.append(f"### {split}: {title}\n\n{_table(head, rows)}")
    return "\n\n".join(sections)


def _how(results: Results) -> str:
    facts = "\n".join(_facts(results["measured"]))
    taus = ", ".join(f"{tau:g}" for tau in results["quantiles"])
    return f"""## How it was measured

{facts}
- quantiles: {taus}
- Where a split holds more records than the limit, those with the smallest hash of seed and id were taken:
  the same records for all methods.
- Histories hold any record of the same source and key that is dated strictly earlier, of whichever split, as
  a running service would know it. LightGBM was fitted on histories of train records only.
- {KIND_MEDIAN} and LightGBM were fitted on `train`; `val` ended the boosting and gave its residuals.
- LightGBM saw at most `per_source` train records of each source (above), the model may have seen all.
- An average over a family weighs its sources alike, whatever their number of records."""


def _facts(measured: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(measured):
        value = measured[name]
        if isinstance(value, Mapping):
            inside = "; ".join(f"{key} {value[key]}" for key in sorted(value))
            yield f"- {name.replace('_', ' ')}: {inside}"
        else:
            yield f"- {name.replace('_', ' ')}: {value}"


def _judged(ratio: float | None) -> str:
    text = _text(ratio, 2)
    return text if _beats(ratio) or ratio is None else f"**{text}**"


def _text(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---"] * len(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *rows])
