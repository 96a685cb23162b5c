"""`make bench`: every way to answer side by side; docs/performance.json, the page and its plots. Needs no corpus.

One uncached prediction of 3 targets x 3 quantiles on 512-token prompts, clients that ask all at once, growth, start and
memory. Ways that need vLLM are there where it is installed (`make bench` runs in its environment), and named as missing
elsewhere. Exit status 1 where a goal is missed.
"""

import importlib.util
import json
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from model.checkpoint import Checkpoint
from model.engines.base import Engine, Query
from model.evaluation.speed.goals import ALONE, BESIDE_VLLM, GOALS, WITH_VLLM, Goal
from model.evaluation.speed.growth import growths, start_and_memory
from model.evaluation.speed.page import write_page
from model.evaluation.speed.regress_lm_way import regress_lm_way
from model.evaluation.speed.timing import Prompt, Server, Way, interleaved, interleaved_loads, spread_of
from model.evaluation.speed.ways import QUANTILES, bare_prefill, embedded_ways, prompts_of, targets_of
from model.precision import fastest_dtype

_REPOSITORY = Path(__file__).resolve().parents[3]
CLIENTS = (1, 8, 32, 128)
#: The time of a load is spread over so many turns, so that what happens to the machine happens to every engine.
TURNS = 4


def main(
    checkpoint: Annotated[Path, typer.Option()] = _REPOSITORY / "model" / "checkpoints" / "default",
    rounds: Annotated[int, typer.Option(min=3)] = 30,
    prompt_tokens: Annotated[int, typer.Option(min=16)] = 512,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 8.0,
    vllm: Annotated[bool, typer.Option(help="Measure vLLM too where it is installed.")] = True,
    regress_lm: Annotated[
        Path | None, typer.Option(help="A checkout of regress-lm, to be one of the ways.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Where performance.json, the page and plots go.")] = _REPOSITORY
    / "docs",
) -> None:
    """Measure, write the page, and say which goals are met."""
    console = Console()
    opened = Checkpoint.load(checkpoint)
    with_vllm = vllm and importlib.util.find_spec("vllm") is not None
    ways, text, engine = embedded_ways(opened, prompt_tokens)
    engines: dict[str, Engine] = {"torch": engine}
    prompts = prompts_of(opened)
    content: dict[str, Any] = {
        "checkpoint": opened.version,
        "parameters": opened.manifest.provenance.get("parameters"),
        "prompt_tokens": prompt_tokens,
        "number_tokens": opened.encoder.code.length,
        "threads": torch.get_num_threads(),
        "dtype": str(fastest_dtype()).removeprefix("torch."),
        "processor": _processor(),
        "vllm": with_vllm,
        "tokens_as_text": {"nine": text.nine, "three": text.three, "template": text.template},
    }
    if regress_lm is not None:
        size = int(str(opened.manifest.provenance["parameters"]))
        way, found = regress_lm_way(regress_lm, opened.encoder.vocabulary_size, prompt_tokens, size)
        ways["regress-lm"], content["regress_lm_parameters"] = way, found
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with ExitStack() as stack, Progress(*columns, console=console) as progress:

        def one_prediction(title: str, measured: Mapping[str, Way]) -> None:
            task = progress.add_task(title, total=rounds + 2)
            found = interleaved(measured, prompts, prompt_tokens, rounds, lambda: progress.advance(task))
            content[title] = {name: spread_of(values).to_json() for name, values in found.items()}

        # First what needs no vLLM: its processes take time from everything beside them, and in this process it takes
        # the choice of threads away.
        task = progress.add_task("growth", total=None)
        content["growth"] = {
            what: {
                value: {way: spread.to_json() for way, spread in found.items()}
                for value, found in series.items()
            }
            for what, series in growths(
                opened, engine, prompt_tokens, max(3, rounds // 3), lambda: progress.advance(task)
            )
        }
        one_prediction(ALONE, ways)
        if with_vllm:
            from model.evaluation.speed.vllm_ways import in_other_processes, in_this_process

            # Then vLLM in this process, and its other processes last.
            ours = {name: ways[name] for name in ("prefill", "torch")}
            inside = stack.enter_context(in_this_process(opened, text))
            one_prediction(WITH_VLLM, ours | inside.ways)
            elsewhere = stack.enter_context(in_other_processes(opened))
            floor = {name: inside.ways[name] for name in ("vllm prefill", "vllm")}
            one_prediction(BESIDE_VLLM, ours | floor | elsewhere.ways)
            engines |= inside.engines | elsewhere.engines
        task = progress.add_task("clients", total=len(CLIENTS) * TURNS)
        targets = targets_of(opened)

        def asked(one: Engine) -> Callable[[list[Prompt]], object]:
            return lambda batch: one.predict([Query(prompt, targets, QUANTILES) for prompt in batch])

        served = {"prefill": Server(lambda batch: bare_prefill(engine.decoder, batch))}
        served |= {name: Server(asked(one), one.concurrency) for name, one in engines.items()}
        content["clients"] = {name: [] for name in served}
        for clients in CLIENTS:
            loads = interleaved_loads(
                served, prompts, prompt_tokens, clients, seconds, TURNS, lambda: progress.advance(task)
            )
            for name, load in loads.items():
                content["clients"][name].append(load.to_json())
    content["start"] = {
        name: start_and_memory(checkpoint, name) for name in (["torch", "vllm"] if with_vllm else ["torch"])
    }
    reached = {goal.name: goal.measured(content) for goal in GOALS}
    content["goals"] = {goal.name: _told(goal, reached[goal.name]) for goal in GOALS}
    output.mkdir(parents=True, exist_ok=True)
    (output / "performance.json").write_text(json.dumps(content, indent=1) + "\n")
    write_page(output)
    missed = [goal.name for goal in GOALS if goal.missed(reached[goal.name])]
    for goal in GOALS:
        value = reached[goal.name]
        told = "not measured" if value is None else f"{value:.2f}"
        console.print(f"{goal.name}: {told} ({goal.bound}){'  MISSED' if goal.name in missed else ''}")
    if missed:
        raise typer.Exit(1)


def _told(goal: Goal, value: float | None) -> Mapping[str, object]:
    return {"measured": value, "bound": goal.bound, "missed": goal.missed(value)}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kind = "AMX" if torch.cpu._is_amx_tile_supported() else torch.backends.cpu.get_cpu_capability()
    return f"{named[0] if named else platform.machine()}, {os.cpu_count()} cores, {kind}"


if __name__ == "__main__":
    typer.run(main)
