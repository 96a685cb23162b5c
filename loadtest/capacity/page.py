"""docs/capacity.md from docs/capacity.json and docs/capacity-notes.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.capacity.costs import UnitCosts
from loadtest.capacity.measure import CLIENTS, MIXES, SHARES, costs_of
from loadtest.capacity.plan import Assumptions, break_even, gpu_seconds, needs
from loadtest.capacity.plots import SHOWN_SECONDS, plot_costs, plot_pace, plot_runs
from loadtest.capacity.results import PACES, RESULTS, busy_share, load
from loadtest.capacity.verdicts import verdicts_of
from loadtest.load.popularity import EXPONENT, FITTED
from model.evaluation.markdown import section, table

_FIGURES = (("answered", "answered /s"), ("p50", "p50 ms"), ("p95", "p95 ms"), ("p99", "p99 ms"))
#: Of these the times, in ms.
_TIMES = ("p50", "p95", "p99")


#: The run whose requests are drawn one by one.
_SHOWN = "run hot 0.7"


def write_page(assumed: Assumptions, results: Path = RESULTS, paces: Path = PACES) -> bool:
    """Write the page beside its figures; whether every bound holds that was measured.

    paces: of the machine during the runs; where they are gone, the plot of them stays as it is.
    """
    content = load(results)
    costs = costs_of(content["costs"]) if "costs" in content else None
    notes = results.with_name("capacity-notes.md")
    verdicts = verdicts_of(content)
    images = results.with_name("img")
    if costs:
        plot_costs(costs.cold, images / "capacity-costs.png")
        plot_runs(content, images / "capacity-runs.png")
    if shown := load(paces).get(_SHOWN):
        plot_pace(shown, images / "capacity-pace.png")
    parts = [
        "# Capacity",
        "What a replica can do, what a load needs, and how that was found. Written by `make capacity`; the "
        "same figures for "
        "machines: [capacity.json](capacity.json).",
        table(
            ["what", "measured", "bound", "verdict"],
            [[v.what, v.measured, v.bound, "holds" if v.holds else "**missed**"] for v in verdicts],
        ),
        notes.read_text().strip() if notes.exists() else "",
        _costs(content["costs"], costs) if costs else "",
        _plan(costs, assumed) if costs else "",
        _runs(content),
        _loops(content["loops"]) if "loops" in content else "",
        _bulk(content["bulk"]) if "bulk" in content else "",
    ]
    results.with_suffix(".md").write_text("\n\n".join(part for part in parts if part) + "\n")
    return all(verdict.holds for verdict in verdicts)


def _costs(content: dict[str, Any], costs: UnitCosts) -> str:
    rows = [[part, f"{1000 * seconds:.2f}"] for part, seconds in costs.cold.items()]
    rows += [
        ["a new request, together", f"{1000 * sum(costs.cold.values()):.2f}"],
        ["a request whose answer is kept", f"{1000 * costs.hit:.2f}"],
        *([f"more after {1000 * slept:.2g} ms of sleep", f"{1000 * more:.2f}"] for slept, more in costs.wake),
        ["the generator, on its core", f"{1000 * costs.client:.2f}"],
        ["until a core that slept is awake", f"{1000 * costs.asleep:.2f}"],
        ["of a request on the event loop, when its answer is on its way", f"{1000 * costs.after:.2f}"],
    ]
    calls = [
        [str(prompts), str(tokens), f"{1000 * seconds:.1f}", f"{1000 * costs.engine(prompts, tokens):.1f}"]
        for prompts, tokens, seconds in costs.engine_seconds
    ]
    return section(
        "What a request costs",
        f"Milliseconds of one core; {content['measured_on']}, {content['machine']}. Requests as a scheduler "
        f"sends them: three in "
        "five workflows of GitHub Actions, the rest batch scripts. The engine's part in calls of 32 prompts; "
        "on a quiet service "
        "a call has the prompts of one request and costs more. Reading and the engine take "
        f"{costs.inside:.2f} times as long inside of the service, where the parts take the core and its caches from "
        "each other, as each does alone. Beside reading, on the same core, the engine goes on "
        f"at {costs.beside:.0%} of its pace and reading at {costs.reader_beside:.0%} of its own.",
        table(["part", "ms"], rows),
        "![Where the time of a new request goes](img/capacity-costs.png)",
        "Calls of the engine, measured and as the simulation has them:",
        table(["prompts", "tokens", "ms", "fitted ms"], calls),
    )


def _plan(costs: UnitCosts, assumed: Assumptions) -> str:
    rows = [
        [
            f"{need.rate:,}",
            f"{need.hits:.0%}",
            f"{need.replicas:,}",
            f"{need.dollars_a_month:,.0f}",
            f"{need.p50:.3g} / {need.p99:.4g}",
            f"{need.front_ends:,} + {need.gpus:,}",
            f"{need.gpu_dollars_a_month:,.0f}",
        ]
        for need in needs(costs, assumed)
    ]
    return section(
        "What a load needs",
        f"A prediction is one answer to `POST /predict`. A replica is one process on one core, planned at "
        f"{assumed.busy:.0%} of its "
        "capacity; p50 and p99 are simulated for that. On a GPU: replicas without an engine of their own in "
        "front, vLLM behind "
        "(`JOBCAST_ENGINE=vllm-server`).",
        table(
            [
                "predictions /s",
                "kept",
                "CPU replicas",
                "$ a month",
                "p50 / p99 ms",
                "GPU: front ends + GPUs",
                "$ a month",
            ],
            rows,
        ),
        f"**Measured**: everything on CPU. **Scaled, not measured**: the GPUs. "
        f"{1e6 * gpu_seconds(costs, assumed):.0f} us of one for a new "
        f"request is two operations per parameter and token at {assumed.gpu_share:.0%} of "
        f"{assumed.gpu_flops / 1e12:.0f} Tflop/s "
        f"({assumed.gpu_flops_source}); the share is a guess for a decoder this small, and `--gpu-share` "
        f"changes it. "
        f"**Assumed**: prices; {assumed.core_hour:.4f} $ for an hour of a core ({assumed.core_source}), "
        f"{assumed.gpu_hour:.3f} $ for one of "
        f"a GPU ({assumed.gpu_source}); `--core-hour` and `--gpu-hour` change them.",
        f"One GPU costs less than the cores that it replaces from {break_even(costs, assumed):,.0f} new "
        f"predictions a second on.",
    )


def _runs(content: dict[str, Any]) -> str:
    rows = []
    for mix in MIXES:
        for share in SHARES:
            run = content.get(f"run {mix} {share}")
            if not run:
                continue
            measured, steady = run["measured"], run["steady"]
            cells = [f"{mix}, {share:.0%} of {run['capacity']:.1f}", f"{run['rate']:.1f}"]
            cells += [str(measured["requests"]), f"{busy_share(run):.0%}"]
            cells += _beside(measured, run.get("simulated"), list(dict(_FIGURES)))
            cells += [f"{measured['errors']:.2%}", f"{measured['late_p99']:.1f}"]
            cells += [_range(run["times"]) if "times" in run else ""]
            kept = steady["requests"] / measured["requests"]
            cells += [f"{run['lost']:.1%}", f"{kept:.0%}"]
            cells += _beside(steady, run.get("simulated_steady"), _TIMES)
            rows.append(cells)
    if not rows:
        return ""
    most = ", ".join(f"{mix} {one['answered']:.1f}" for mix in MIXES if (one := content.get(f"most {mix}")))
    return section(
        "Load tests and the simulation",
        "The service on one core, on the other a generator (`loadtest.load.open_loop`) that takes a quarter of "
        "Locust's time for a request. Capacity is how many requests a second would keep the service's "
        "core busy all the time, by the processor time that ten seconds of an open loop took just before each load; "
        "where a load then kept it busy for a share that was off by more than a few per cent, the machine had changed "
        "its pace, and the load was run again by what it had used, a few times at most; the run that was busy for "
        "nearest to the share meant is the one here. "
        f"{CLIENTS} clients that ask one after another get more ({most}): their requests come in rows that are worked "
        "off together, and they are idle while the service works. "
        "Cold: every job is new. Hot: 200 jobs, all asked before. An open loop at random moments; times from the "
        "moment at which a request was due; *late* is "
        "by how much it sent them late (p99, in ms), which is in these times too. In brackets the simulation of "
        "the same schedule.",
        "**What the simulation is told.** The costs above, all of them multiplied by one figure for every two seconds "
        "(*costs*, least to most), with which it has as much to do as the service's core had (*busy*, from its "
        "processor time, with the probe's): a shared machine does the same work at different paces. What the pace of "
        "the machine was at every moment, and how late its probe woke from its pauses. Nothing of how long a request "
        "waited is in it.",
        "**The machine's pace.** All cores may be slow at once and with nothing running: the same instructions then "
        "take three to ten times as long, mostly for a tenth of a second; and what goes through the kernel may take a "
        "fifth longer for seconds. A probe on the service's core, of which it takes three hundredths, sends itself "
        "messages and says how long they took (`loadtest/pace.py`). *Lost* is the work that the usual pace would have "
        "done while the machine was a tenth slower or more. "
        "*Steady* are the requests that no such time met, nor the work that it left to do, which the service makes up "
        "for with what it has to spare; which those are follows from when they were due, not from how long they took.",
        table(
            [
                "load",
                "offered /s",
                "requests",
                "busy",
                *(title for _, title in _FIGURES),
                "errors",
                "late",
                "costs",
                "lost",
                "steady",
                *(f"steady {name} ms" for name in _TIMES),
            ],
            rows,
        ),
        "![Measured and simulated](img/capacity-runs.png)",
        f"{SHOWN_SECONDS:.0f} seconds of kept answers at 70 %, below the machine's pace:",
        "![Requests while the machine is slow](img/capacity-pace.png)",
        f"The mix *zipf* of the scenarios draws jobs by a Zipf law with exponent {EXPONENT}, fitted to how "
        f"often recurring jobs ran in "
        f"the corpus: {', '.join(f'{name} {exponent}' for name, exponent in FITTED.items())} (`python -m "
        f"loadtest.load.popularity`).",
    )


def _beside(
    measured: dict[str, float], simulated: dict[str, float] | None, names: Sequence[str]
) -> list[str]:
    """Measured figures, and in brackets the simulated ones where there are any."""
    return [f"{measured[name]:.4g}" + (f" ({simulated[name]:.4g})" if simulated else "") for name in names]


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _loops(loops: dict[str, Any]) -> str:
    rows = [
        [
            what,
            str(loops[loop]["requests"]),
            *(f"{loops[loop][name]:.4g}" for name, _ in _FIGURES),
        ]
        for loop, what in (("open", "open loop"), ("closed", f"closed loop, {loops['clients']} clients"))
    ]
    return section(
        "What a closed loop hides",
        f"The same scenario, the cold steady stream at about {loops['rate']:.1f} requests a second, and in "
        f"the middle of both the service "
        f"stands still for {loops['frozen_seconds']:.0f} s. Clients that ask one after another stop asking "
        f"meanwhile: what everybody "
        "else would have waited is one slow request each in their figures.",
        table(["", "requests", *(title for _, title in _FIGURES)], rows),
    )


def _bulk(bulk: dict[str, Any]) -> str:
    rows = [
        ["records", f"{bulk['records']:,}"],
        ["different requests", f"{bulk['different_requests']:,}"],
        ["prompts", f"{bulk['prompts']:,}"],
        ["records a second", f"{bulk['records_a_second']:.1f}"],
        ["prompts a second", f"{bulk['prompts_a_second']:.1f}"],
        [
            f"the bare engine, {bulk['engine_threads']} threads, beside cores that read, prompts a second",
            f"{bulk['engine_prompts_a_second']:.1f}",
        ],
        [
            f"least and most of its {bulk['engine_turns']} turns",
            " to ".join(f"{pace:.1f}" for pace in bulk["engine_range"]),
        ],
        ["the same beside cores that do nothing", f"{bulk['engine_alone_prompts_a_second']:.1f}"],
        ["seconds, uninterrupted", f"{bulk['seconds']:.0f}"],
        ["seconds, killed twice and resumed", f"{bulk['killed_seconds']:.0f}"],
    ]
    if "ray_seconds" in bulk:
        rows.append(["seconds, Ray Data on this machine", f"{bulk['ray_seconds']:.0f}"])
    return section(
        "Bulk scoring",
        f"`jobcast batch` over synthetic requests as popular as jobs are; {bulk['measured_on']}, "
        f"{bulk['machine']}. The bare engine gets the "
        "same calls, ready in memory, with as many threads: the cores that read are none of the engine's, but where "
        "two cores are threads of one it computes more slowly while they read. It has its turns while the run is held, "
        "every few seconds: a shared machine keeps no pace from one minute to the next. Held seconds do not count; "
        "start and end do.",
        table(["figure", "measured"], rows),
    )
