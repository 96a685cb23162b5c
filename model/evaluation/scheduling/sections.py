"""The section of the report: sentences from the figures, then tables."""

from collections.abc import Iterator, Mapping, Sequence

from model.evaluation.forecast import JOBCAST, JOBCAST_HISTORY
from model.evaluation.markdown import NOTHING, bounds, section, table, text
from model.evaluation.scheduling.estimates import PREDICTORS
from model.evaluation.scheduling.memory import AUTHORS, PERFECT, scaled
from model.evaluation.scheduling.plots import FRONTIER, WAITS
from model.evaluation.scheduling.queues import QueueRow, QueueSummary
from model.evaluation.scheduling.replay import POLICIES
from model.evaluation.scheduling.scopes import ALL, ASKED
from model.evaluation.scheduling.sizing import BOTH, MemoryRow, MemorySummary

_OURS = (JOBCAST, JOBCAST_HISTORY)
_SCOPES = {ASKED: "Jobs whose author asked", ALL: "All jobs, a site default where the author said nothing"}
#: The columns of the tables by source; the rest is in the JSON.
_SHOWN = (AUTHORS, "last run", "last 3", scaled("last run", 2.0), "LightGBM + history", *_OURS)


def in_short(memory: Sequence[MemorySummary], queue: Sequence[QueueSummary]) -> str:
    """The headline: what the model saves, over jobs whose author asked and over all."""
    sentences = _sentences(memory, queue, _SCOPES, _OURS)
    return section(
        "What a scheduler gains",
        "A prediction is worth what a scheduler does better with it: less memory reserved for nothing, fewer jobs "
        "killed for taking more than they were given, shorter waits. The yardstick is what the authors of the jobs "
        "asked for, and perfect knowledge is the bound. Ratios below 1 are savings.",
        _listed(sentences),
    )


def in_two_sentences(memory: Sequence[MemorySummary], queue: Sequence[QueueSummary]) -> str:
    """What the model saves over all jobs from their configurations alone."""
    return _listed(_sentences(memory, queue, {ALL: _SCOPES[ALL]}, [JOBCAST]))


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _sentences(
    memory: Sequence[MemorySummary],
    queue: Sequence[QueueSummary],
    scopes: Mapping[str, str],
    methods: Sequence[str],
) -> list[str]:
    return [*_memory_sentences(memory, scopes, methods), *_queue_sentences(queue, scopes, methods)]


def _memory_sentences(
    summary: Sequence[MemorySummary], scopes: Mapping[str, str], methods: Sequence[str]
) -> Iterator[str]:
    for scope, title in scopes.items():
        rows = {r["strategy"]: r for r in summary if r["scope"] == scope and r["split"] == BOTH}
        for one in (rows[name] for name in methods if name in rows):
            yield (
                f"{title}, memory at {one['strategy']}'s 0.95 quantile: {text(one['ratio'], 2)} of the GB-hours "
                f"that the requests waste (95 % interval {bounds(one['interval'])}; {one['sources']} sources), "
                f"{one['killed']:.1%} of jobs killed against {rows[AUTHORS]['killed']:.1%}; it allocates "
                f"{one['cost']:.2f} times what is needed, retries included, against {rows[AUTHORS]['cost']:.2f}."
            )


def _queue_sentences(
    summary: Sequence[QueueSummary], scopes: Mapping[str, str], methods: Sequence[str]
) -> Iterator[str]:
    load = max((row["load"] for row in summary), default=0.0)
    for scope, title in scopes.items():
        for predictor in methods:
            rows = [r for r in summary if _is(r, scope, load) and r["predictor"] == predictor]
            found = {row["policy"]: row for row in rows}
            if found:
                ratios = ", ".join(
                    f"{found[policy]['ratio']['mean_wait']:.2f} ± {found[policy]['ratio_sd']['mean_wait']:.2f} "
                    f"under {policy}"
                    for policy in POLICIES
                )
                yield (
                    f"{title}, queue at {load:.0%} load with {predictor}: mean wait {ratios} of that with the "
                    f"requests under the same policy ({rows[0]['sources']} sources, ± over draws)."
                )


def _is(row: QueueSummary, scope: str, load: float) -> bool:
    return row["scope"] == scope and row["load"] == load


def memory_section(summary: Sequence[MemorySummary]) -> str:
    """Every strategy, over sources."""
    parts = []
    for scope, title in _SCOPES.items():
        for split in (BOTH, "test_seen", "test_unseen"):
            rows = [row for row in summary if row["scope"] == scope and row["split"] == split]
            if rows:
                name = "both splits" if split == BOTH else f"`{split}`"
                parts.append(f"{title}, {name} ({rows[0]['sources']} sources):\n\n{_memory_table(rows)}")
    head = (
        "Waste: GB-hours allocated and not used, against the authors' requests (geometric mean over sources, "
        "95 % interval over groups). Killed: share of jobs whose first attempt was too small. Cost: GB-hours "
        "allocated with all retries / GB-hours needed. A bare name is the method's 0.95 quantile; ×1 and ×2 are "
        "plain values times a factor. Sorted by cost; a low cost with many kills is a bad bargain for the jobs' owners."
    )
    return f"### Memory\n\n{head}\n\n" + "\n\n".join([*parts, f"![Kills against waste](img/{FRONTIER})"])


def _memory_table(rows: Sequence[MemorySummary]) -> str:
    shown = sorted(rows, key=lambda row: row["cost"])
    return table(
        ["strategy", "waste", "95 % interval", "killed", "cost"],
        [
            [
                row["strategy"],
                "0" if row["strategy"] == PERFECT else text(row["ratio"], 3),
                bounds(row["interval"]),
                f"{row['killed']:.1%}",
                text(row["cost"], 2),
            ]
            for row in shown
        ],
    )


def queue_section(summary: Sequence[QueueSummary]) -> str:
    """Every policy and predictor, over sources."""
    parts = []
    for scope, title in _SCOPES.items():
        for load in sorted({row["load"] for row in summary}, reverse=True):
            rows = [row for row in summary if _is(row, scope, load)]
            if rows:
                parts.append(
                    f"{title}, {load:.0%} load ({rows[0]['sources']} sources):\n\n{_queue_table(rows)}"
                )
    head = (
        "All but the shares are ratios to the authors' requests under the same policy, ± the standard deviation over "
        "the draws; the last two columns are against FCFS with the requests, and the sources that wait longer than "
        "with the requests. Slowdown is bounded (10 s). FCFS asks nobody for run times: there a predictor only "
        "changes how much memory a job holds. Where memory is not what the jobs wait for, holding less of it gains "
        "nothing, and a kill still costs its job a second start."
    )
    return f"### Queue\n\n{head}\n\n" + "\n\n".join(
        [*parts, f"![Waits by policy and predictor](img/{WAITS})"]
    )


def _queue_table(rows: Sequence[QueueSummary]) -> str:
    head = ["policy", "predictor", "mean wait", "p95 wait", "slowdown", "makespan", "GB-h wasted"]
    return table(
        [*head, "utilisation", "killed", "wait / FCFS with requests", "waits longer"],
        [
            [
                row["policy"],
                row["predictor"],
                _spread(row, "mean_wait"),
                _spread(row, "p95_wait"),
                _spread(row, "bounded_slowdown"),
                text(row["ratio"]["makespan"], 2),
                "0" if row["predictor"] == PERFECT else text(row["ratio"]["wasted_gb_hours"], 2),
                f"{row['mean']['utilisation']:.0%}",
                f"{row['mean']['killed']:.1%}",
                text(row["status_quo"]["mean_wait"], 2),
                ", ".join(row["worse"]) or NOTHING,
            ]
            for row in rows
        ],
    )


def _spread(row: QueueSummary, metric: str) -> str:
    if row["predictor"] == AUTHORS:
        return "1"
    return f"{row['ratio'][metric]:.2f} ± {row['ratio_sd'][metric]:.2f}"


def by_source(memory: Sequence[MemoryRow], queue: Sequence[QueueRow]) -> str:
    """The main strategies and predictors on each source, over all jobs."""
    sizes = [row for row in memory if row["scope"] == ALL and row["split"] == BOTH]
    strategies = [name for name in _SHOWN if any(row["strategy"] == name for row in sizes)]
    load = max((row["load"] for row in queue), default=0.0)
    waits = [row for row in queue if row["scope"] == ALL and row["load"] == load]
    predictors = [n for n in (AUTHORS, *PREDICTORS, PERFECT) if any(row["predictor"] == n for row in waits)]
    policies = "\n\n".join(
        f"Mean wait in seconds under {policy}, {load:.0%} load, all jobs, ± over draws:\n\n"
        + _wait_table([row for row in waits if row["policy"] == policy], predictors)
        for policy in ("SJF", "EASY")
    )
    return (
        "### By source\n\nMemory, all jobs, both splits: cost, and the share of jobs killed. (Authors' requests: "
        f"a site default where there is none.)\n\n{_size_table(sizes, strategies)}\n\n{policies}"
    )


def _size_table(rows: Sequence[MemoryRow], strategies: Sequence[str]) -> str:
    cells: dict[str, dict[str, MemoryRow]] = {}
    for row in rows:
        cells.setdefault(row["source"], {})[row["strategy"]] = row
    return table(
        ["source", "jobs", "groups", *strategies],
        [
            [source, str(found[AUTHORS]["jobs"]), str(found[AUTHORS]["groups"])]
            + [f"{found[name]['cost']:.2f}, {found[name]['killed']:.0%}" for name in strategies]
            for source, found in sorted(cells.items())
        ],
    )


def _wait_table(rows: Sequence[QueueRow], predictors: Sequence[str]) -> str:
    cells: dict[str, Mapping[str, QueueRow]] = {}
    for row in rows:
        cells[row["source"]] = {**cells.get(row["source"], {}), row["predictor"]: row}
    return table(
        ["source", *predictors],
        [
            [source, *(f"{_wait(found[name]['mean'])} ± {_wait(found[name]['sd'])}" for name in predictors)]
            for source, found in sorted(cells.items())
        ],
    )


def _wait(metrics: Mapping[str, float]) -> str:
    seconds = metrics["mean_wait"]
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
