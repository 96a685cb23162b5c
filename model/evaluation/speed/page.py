"""docs/performance.md from performance.json and performance-notes.md, with its plots."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from model.evaluation.markdown import NOTHING, section, table
from model.evaluation.speed.goals import ALONE, BESIDE_VLLM, WITH_VLLM

Content = Mapping[str, Any]

#: Written by samples_loss.py, which needs the corpus.
SAMPLES_LOSS = "samples-loss.json"

#: What each way is, in the order of the page.
_WAYS = {
    "prefill": "our forward pass over the prompt alone: the floor",
    "hf prefill": "the same by transformers",
    "torch": "**Jobcast, torch engine**: nine exact quantiles",
    "samples": "64 samples per target, prompt shared, medians of three targets",
    "template": "the answer with its template, token by token on our engine",
    "regress-lm": "regress-lm, a model of equal size: 64 samples of three numbers",
    "generate": "transformers' `generate()`, nine numbers as text",
    "generate-3": "transformers' `generate()`, three numbers as text",
    "vllm prefill": "vLLM in this process: one sequence, one token",
    "vllm": "**Jobcast, vLLM engine** in this process: nine sequences of a number each",
    "vllm, no processor": "vLLM in this process, walks on our side: a request per prefix and its probabilities",
    "vllm apart": "**Jobcast, vLLM engine**, its core in a process of its own",
    "vllm-server": "**Jobcast, vLLM server** over HTTP on loopback",
    "vllm regex": "vLLM writing the nine numbers as text under a regular expression",
}


def write_page(directory: Path) -> None:
    """Write the page and the plots beside performance.json."""
    content = json.loads((directory / "performance.json").read_text())
    notes = directory / "performance-notes.md"
    images = directory / "img"
    images.mkdir(exist_ok=True)
    _plot_ways(content, images / "performance-ways.png")
    _plot_clients(content, images / "performance-clients.png")
    _plot_growth(content, images / "performance-growth.png")
    parts = [
        "# Performance",
        "\n".join(
            [
                f"Checkpoint `{content['checkpoint'][:19]}` ({content['parameters']:,} parameters), "
                f"{content['dtype']}, {content['threads']} threads; {content['processor']}.",
                "Written by `make bench`; the same numbers for machines: [performance.json](performance.json).",
            ]
        ),
        _goals(content),
        notes.read_text().strip() if notes.exists() else "",
        _ways(content),
        _samples(directory),
        _clients(content),
        *_growth(content),
        _start(content),
    ]
    (directory / "performance.md").write_text("\n\n".join(part for part in parts if part) + "\n")


def _goals(content: Content) -> str:
    rows = [
        [
            name,
            NOTHING if goal["measured"] is None else f"{goal['measured']:.2f}",
            goal["bound"],
            "not measured" if goal["measured"] is None else "**missed**" if goal["missed"] else "met",
        ]
        for name, goal in content["goals"].items()
    ]
    return section("In short", table(["ratio of medians", "measured", "goal", "verdict"], rows))


def _milliseconds(spread: Mapping[str, float]) -> tuple[str, str]:
    low, middle, high = (spread[part] * 1000 for part in ("low", "median", "high"))
    return f"{middle:.1f}", f"{low:.1f} to {high:.1f}"


def _ways(content: Content) -> str:
    tokens, steps = content["tokens_as_text"], content["number_tokens"] - 1
    told = (
        f"One uncached prediction, {content['prompt_tokens']} prompt tokens, 3 targets x 3 quantiles, all ways "
        "interleaved round by round over the same weights and prompts, "
        f"{content[ALONE]['torch']['rounds']} rounds. Decoding steps: ours at most {steps} after the prefill, "
        f"whatever the number of targets and quantiles; nine numbers as text {tokens['nine']}, three "
        f"{tokens['three']}, nine with their template {tokens['template']}."
    )
    tables = {
        WITH_VLLM: "vLLM stepped in this process, with two of the ways above for comparison:",
        BESIDE_VLLM: "The same once two other processes of vLLM run; what takes longer here is what they take:",
    }
    return section(
        "One prediction",
        told,
        _ways_table(content[ALONE]),
        *(
            part
            for group, title in tables.items()
            if group in content
            for part in (title, _ways_table(content[group]))
        ),
        *([] if content["vllm"] else ["vLLM was not installed in this run."]),
        "![Latency of each way](img/performance-ways.png)",
    )


def _ways_table(measured: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [
            name,
            what,
            *_milliseconds(measured[name]),
            f"{measured[name]['median'] / measured['torch']['median']:.2f}",
        ]
        for name, what in _WAYS.items()
        if name in measured
    ]
    return table(["way", "what", "median ms", "quartiles ms", "of torch"], rows)


def _samples(directory: Path) -> str:
    path = directory / SAMPLES_LOSS
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    return section(
        "What samples lose",
        f"Pinball loss of ln value at 0.1, 0.5 and 0.9 over {found['answers']:,} answers on `val`, uncalibrated: exact "
        f"quantiles {found['exact']:.4f}, the same quantiles of 64 samples {found['samples']:.4f} "
        f"({found['samples'] / found['exact'] - 1:+.1%}). Exact quantiles need no samples "
        "(`python -m model.evaluation.speed.samples_loss`).",
    )


def _clients(content: Content) -> str:
    rows = [
        [
            name,
            f"{load['clients']:.0f}",
            f"{load['per_second']:.1f}",
            *(f"{load[part] * 1000:.0f}" for part in ("p50", "p95", "p99")),
        ]
        for name, loads in content["clients"].items()
        for load in loads
    ]
    return section(
        "Clients that ask all at once",
        "Each client asks again as soon as it was answered; up to 32 prompts ride in a call; the engines take turns. "
        "*prefill* is what bare batched prefill of the same prompts allows.",
        table(["way", "clients", "answers a second", "p50 ms", "p95 ms", "p99 ms"], rows),
        "![Throughput and latency by clients](img/performance-clients.png)",
    )


def _growth(content: Content) -> list[str]:
    parts = []
    for what, series in content["growth"].items():
        names = list(dict.fromkeys(way for found in series.values() for way in found))
        rows = [
            [value, *(_milliseconds(found[way])[0] if way in found else NOTHING for way in names)]
            for value, found in series.items()
        ]
        parts.append(f"**{what.capitalize()}**\n\n" + table([what, *(f"{way}, ms" for way in names)], rows))
    return [section("How cost grows", *parts, "![Cost by prompt length](img/performance-growth.png)")]


def _start(content: Content) -> str:
    rows = [
        [name, f"{found['seconds']:.1f}", f"{found['resident_megabytes']}"]
        for name, found in content["start"].items()
    ]
    return section(
        "Start and memory",
        "From a bare interpreter to the first answer, and what is resident then, in a process of its own.",
        table(["engine", "seconds", "resident MB"], rows),
    )


def _plot_ways(content: Content, path: Path) -> None:
    measured = content.get(BESIDE_VLLM, {}) | content.get(WITH_VLLM, {}) | content[ALONE]
    names = [name for name in _WAYS if name in measured][::-1]
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(names) + 1.2), layout="constrained")
    middles = [measured[name]["median"] * 1000 for name in names]
    reach = [
        [middle - measured[name]["low"] * 1000 for name, middle in zip(names, middles, strict=True)],
        [measured[name]["high"] * 1000 - middle for name, middle in zip(names, middles, strict=True)],
    ]
    colours = [
        "tab:blue" if name in ("torch", "vllm", "vllm apart", "vllm-server") else "tab:gray" for name in names
    ]
    axis.barh(names, middles, xerr=reach, color=colours)
    for place, middle in enumerate(middles):
        axis.annotate(
            f" {middle:.0f}", (middle, place), va="center", xytext=(6, 0), textcoords="offset points"
        )
    axis.set_xscale("log")
    axis.set_xticks(ticks := [5, 10, 20, 50, 100, 200, 500, 1000, 2000], [str(tick) for tick in ticks])
    axis.set_xlabel("ms (logarithmic), median and quartiles; Jobcast's engines in blue")
    axis.set_title(f"One prediction of nine quantiles, {content['prompt_tokens']} prompt tokens")
    axis.set_xlim(min(middles) / 2, max(middles) * 1.8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_clients(content: Content, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, loads in content["clients"].items():
        style = {"color": "black", "linestyle": ":"} if name == "prefill" else {"marker": "o"}
        clients = [load["clients"] for load in loads]
        left.plot(clients, [load["per_second"] for load in loads], label=name, **style)
        right.plot(clients, [load["p50"] * 1000 for load in loads], label=name, **style)
    for axis, label in ((left, "answers a second"), (right, "p50 latency, ms")):
        axis.set_xscale("log", base=2)
        axis.set_xticks([1, 8, 32, 128], ["1", "8", "32", "128"])
        axis.set_xlabel("clients")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_growth(content: Content, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axis, what in zip(axes, ("prompt tokens", "targets", "quantiles"), strict=True):
        _plot_series(axis, content["growth"][what], what)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _plot_series(axis: Axes, series: Mapping[str, Any], what: str) -> None:
    values = [int(value) for value in series]
    for way in next(iter(series.values())):
        axis.plot(values, [found[way]["median"] * 1000 for found in series.values()], marker="o", label=way)
    axis.set_xlabel(what)
    axis.set_ylabel("ms")
    if what == "prompt tokens":
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_yticks(ticks := [5, 10, 20, 50, 100, 200, 500], [str(tick) for tick in ticks])
    else:
        highest = max(found[way]["high"] for found in series.values() for way in found)
        axis.set_ylim(0, highest * 1200)
    axis.set_xticks(values, [str(value) for value in values], fontsize=8)
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend()
