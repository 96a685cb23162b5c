"""The README's figures: a table between two marks, so that they are those of the last benchmark."""

import re
from collections.abc import Iterator
from pathlib import Path

from model.evaluation.cells import TEST_SPLITS
from model.evaluation.markdown import NOTHING, table, text
from model.evaluation.methods import KIND_MEDIAN, LIGHTGBM
from model.evaluation.results import BAR_WITH, BAR_WITHOUT, JOBCAST, WITH, WITHOUT, Results
from model.evaluation.verdict import tally

_BEGIN, _END = "<!-- benchmark -->", "<!-- end of benchmark -->"
_SHOWN = {JOBCAST: "Jobcast", KIND_MEDIAN: KIND_MEDIAN, LIGHTGBM: LIGHTGBM}


def write(results: Results, page: Path, gains: str = "") -> None:
    """Replace what is between the marks; a page without them stays as it is. gains: what a scheduler gains."""
    written = page.read_text(encoding="utf-8")
    between = re.compile(f"(?<={_BEGIN}\n).*?(?={_END})", re.DOTALL)
    page.write_text(between.sub(lambda _: render(results, gains), written), encoding="utf-8")


def render(results: Results, gains: str = "") -> str:
    """What stands between the marks."""
    parts = [_errors(results), _judged(results), f"What a scheduler gains:\n\n{gains}" if gains else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def _errors(results: Results) -> str:
    head = ["family, target"]
    for split in TEST_SPLITS:
        first, *others = _SHOWN.values()
        head += [f"{split.removeprefix('test_')}: {first}", *others, "against the best"]
    places = list(dict.fromkeys((one["family"], one["target"]) for one in results["summary"]))
    return table(
        head, [[f"{family}, `{target}`", *_row(results, family, target)] for family, target in places]
    )


def _row(results: Results, family: str, target: str) -> Iterator[str]:
    for split in TEST_SPLITS:
        place = {"family": family, "target": target, "split": split}
        errors = [one["mean_abs_ln"] for one in results["summary"] if place.items() <= one.items()]
        verdicts = results["answers"][WITHOUT]["verdicts"]
        ratios = [one["figure"] for one in verdicts if place.items() <= one.items()]
        yield from (text(errors[0].get(method), 2) if errors else NOTHING for method in _SHOWN)
        yield text(ratios[0], 2) if ratios else NOTHING


def _judged(results: Results) -> str:
    judged, met, within = tally(results["answers"][WITHOUT]["verdicts"])
    ratios = {
        row["split"]: text(row["ratio"][0], 2)
        for row in results["headlines"]
        if row["history"] and row["ratio"][0] is not None
    }
    told = ", ".join(
        f"{ratios[split]} {split.removeprefix('test_')}" for split in TEST_SPLITS if split in ratios
    )
    bars = " and ".join(results["answers"][WITH]["baselines"])
    return (
        f"Our own bar, {BAR_WITHOUT:.2f} in every cell and no source above 1, is met in {met} of {len(judged)} cells "
        f"(run time and memory); {within} are within {BAR_WITHOUT:.2f}. On jobs that ran before, with their history, "
        f"the error is {told or NOTHING} of the better of {bars} (our bar: {BAR_WITH:.2f})."
    )
