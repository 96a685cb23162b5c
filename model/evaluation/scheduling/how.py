"""How the study was made: every convention, and what stands behind the tables."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from model.evaluation.markdown import table, text
from model.evaluation.scheduling.facts import SourceFacts


def how(options: Mapping[str, object], sources: Sequence[SourceFacts]) -> str:
    """Conventions, requests and defaults by source, and how often the methods have an answer."""
    return "\n\n".join(
        ["### How the gains were measured", _conventions(options), _requests(sources), _answered(sources)]
    )


def _conventions(options: Mapping[str, object]) -> str:
    loads = " and ".join(f"{float(str(load)):.0%}" for load in _listed(options["loads"]))
    return f"""\
- **Requests.** What the author of the configuration asked for. Where the author asked for nothing, a site's default
  stands in: a limit for the kind that covers 99 % of its train records, rounded up to whole hours or to a power of
  two GiB (GitHub Actions: its documented six hours). The same stands in where a method has no answer, and for the
  other of the two where the author asked for time or memory only.
- **Memory.** The first allocation is the method's 0.95 quantile. A job that needs more is killed; the second attempt
  gets twice as much, the third a whole node, which is dear where jobs are small beside nodes. Waste is what attempts
  reserve and do not use, over time, as in Tovar et al. (A Job Sizing Strategy for High-Throughput Scientific
  Workflows, TPDS 2018) and Sizey (arXiv 2407.16353): all of a killed attempt, allocation less peak of one that
  succeeds. A killed attempt lasts half the run time (kills uniform over the run). The corpus has peaks only, so the
  peak counts as used throughout; with curves over time (KS+, arXiv 2408.12290) all strategies, perfect knowledge
  included, would waste more. Jobs without a measured run time are left out; a source that has none at all counts an
  hour a job.
- **Rules.** ×1 and ×2 are the plain value times a factor, `max of past` the largest of up to five past outcomes of the
  key. No factor was tuned. Names without a factor have the interval that their residuals on `val` give, and twice the
  point where those were too few.
- **Cluster.** {options["nodes"]} nodes of {options["cores"]} cores for each source by itself; a node's memory is the
  power of two GiB that holds every peak and request of the source, at least 32 GiB. A job runs on one node and holds
  the cores its author asked for, else its measured cores rounded up, at most a node's: the same for all predictors.
- **Trace.** {options["jobs"]} jobs drawn from the source's test jobs with replacement, arriving as a Poisson process
  at {loads} of the capacity (cores or memory, whichever is scarcer) that they would use if memory were known
  perfectly; {options["draws"]} draws, seed {options["seed"]}. The same traces for all policies and predictors. Few
  sources have reliable times of submission; a real queue has bursts and nights, so these waits are no real site's.
  Where allocations overload the memory the queue grows to the end of the trace, and with the trace so do the waits.
- **Policies.** FCFS; SJF: shortest median first; both stop at the first job that does not fit. EASY: FCFS with
  backfilling that may not delay the head's reservation, made from 0.9 quantiles (requests: as they are). A job that
  outlives its estimate is not killed, its estimate doubles until it lies ahead. A job killed for its memory, at a
  uniformly drawn share of its run, goes back to its place in the queue.
- **Wait** lasts until the attempt that succeeds starts. Waits under a second count as a second in ratios.
- **Memory was not measured** for some sources: their jobs take none in the replay, and where each takes one core EASY
  is FCFS.
- **All jobs**: the yardstick rests on the site defaults, which are our convention; the figure to quote is that of jobs
  whose author asked."""


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _requests(sources: Sequence[SourceFacts]) -> str:
    head = ["source", "family", "jobs", "with run time", "with memory", "asked for time", "asked for memory"]
    rows = [
        [
            one["source"],
            one["family"],
            str(one["jobs"]),
            str(one["timed"]),
            str(one["sized"]),
            f"{one['asked_runtime']:.0%}",
            f"{one['asked_memory']:.0%}",
            _several(one["defaults_hours"]),
            _several(one["defaults_gib"]),
            f"{one['node_gib']:g}",
        ]
        for one in sources
    ]
    return table([*head, "default, hours", "default, GiB", "node, GiB"], rows)


def _several(values: Sequence[float]) -> str:
    return " / ".join(f"{value:g}" for value in values)


def _answered(sources: Sequence[SourceFacts]) -> str:
    methods = sources[0]["answered"] if sources else {}
    rows = [[method, *(text(_mean(sources, method, column), 2) for column in (0, 1))] for method in methods]
    return "Share of the jobs that a method has an answer for, mean over sources:\n\n" + table(
        ["method", "run time", "memory"], rows
    )


def _mean(sources: Sequence[SourceFacts], method: str, column: int) -> float | None:
    said = [one["answered"][method][column] for one in sources]
    known = [share for share in said if share is not None]
    return fmean(known) if known else None
