"""The study as one JSON value, as a section of the report, and as plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from model.evaluation.cells import Cell
from model.evaluation.metrics import FloatArray
from model.evaluation.scheduling import plots
from model.evaluation.scheduling.demand import sources_of
from model.evaluation.scheduling.facts import SourceFacts, facts_of
from model.evaluation.scheduling.frontier import FrontierPoint, frontier
from model.evaluation.scheduling.how import how
from model.evaluation.scheduling.options import Options
from model.evaluation.scheduling.queues import QueueRow, QueueSummary, queues
from model.evaluation.scheduling.sections import (
    by_source,
    in_short,
    in_two_sentences,
    memory_section,
    queue_section,
)
from model.evaluation.scheduling.sizing import MemoryRow, MemorySummary, sizing
from model.training.corpus import Record


class Gains(TypedDict):
    """All that the section says; plain JSON. options: see `Options`."""

    options: dict[str, object]
    sources: list[SourceFacts]
    memory: list[MemoryRow]
    memory_summary: list[MemorySummary]
    frontier: list[FrontierPoint]
    queue: list[QueueRow]
    queue_summary: list[QueueSummary]


def gains(
    cells: Sequence[Cell],
    predictions: Mapping[str, Sequence[FloatArray]],
    records: Sequence[Record],
    options: Options | None = None,
) -> Gains:
    """Size every job's memory and replay every source's queue with the predictions.

    predictions: method -> per cell an array [cases, targets, quantiles] in the targets' units, NaN where it has no
    answer; the median of "requested" is what the author asked for. Without "requested" the configurations are
    read for it. records: the corpus; only its train records are used, for the site defaults.
    The same input and options give the same result.
    """
    chosen = options or Options()
    sources = sources_of(cells, predictions, records)
    memory, memory_summary = sizing(sources, predictions, chosen)
    queue, queue_summary = queues(sources, predictions, chosen)
    return {
        "options": chosen.parameters(),
        "sources": facts_of(sources, predictions, chosen),
        "memory": memory,
        "memory_summary": memory_summary,
        "frontier": frontier(sources, predictions, chosen),
        "queue": queue,
        "queue_summary": queue_summary,
    }


def render(gains: Gains) -> str:
    """A Markdown section, tables first, then how. Its pictures are those of `plot`, expected under img/."""
    parts = [
        in_short(gains["memory_summary"], gains["queue_summary"]),
        memory_section(gains["memory_summary"]),
        queue_section(gains["queue_summary"]),
        by_source(gains["memory"], gains["queue"]),
        how(gains["options"], gains["sources"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(gains: Gains) -> str:
    """What the model saves over all jobs, in two sentences."""
    return in_two_sentences(gains["memory_summary"], gains["queue_summary"])


def plot(gains: Gains, directory: Path) -> list[Path]:
    """Write the pictures of the section (PNG) and name them; none for a part without measurements."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    if gains["queue_summary"]:
        written.append(plots.waits(gains["queue_summary"], directory / plots.WAITS))
    if gains["frontier"]:
        written.append(plots.frontier(gains["frontier"], directory / plots.FRONTIER))
    return written
