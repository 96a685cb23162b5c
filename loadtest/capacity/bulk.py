"""Bulk scoring, measured: its pace beside the bare engine's, two kills, and Ray.

The bare engine gets the very calls that bulk scoring makes, ready in memory, with as many threads: what is missing from
its pace is what reading, answering and writing cost.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
from rich.console import Console

from app.batch.command import WITH_PROBLEMS
from app.batch.local import default_readers
from app.batch.run import Job
from app.batch.stages import ReadWindow, Stages, compute
from app.batch.windows import windows
from app.build import engine_builder
from app.cores import usable_cores
from app.settings import Settings
from loadtest.capacity.results import save
from loadtest.load.bodies import scheduler_request
from loadtest.load.popularity import draw
from loadtest.reliability.running import ROOT

_RECORDS, _JOBS = 10_000, 10_000
#: Windows that the bare engine is timed on.
_TIMED_WINDOWS = 8
console = Console()


def bulk(records: int = _RECORDS) -> None:
    """About six minutes with Ray."""
    with TemporaryDirectory() as directory:
        source = write_records(Path(directory) / "in.jsonl", records)
        prompts, alone, beside = _bare_engine(source)
        whole = _score(source, "whole.jsonl")
        killed = _killed(source, "killed.jsonl", whole)
        expected = (source.parent / "whole.jsonl").read_bytes()
        figures = {
            "records": records,
            "different_requests": prompts["requests"],
            "prompts": prompts["prompts"],
            "seconds": whole,
            "records_a_second": records / whole,
            "prompts_a_second": prompts["prompts"] / whole,
            "engine_alone_prompts_a_second": alone,
            "engine_prompts_a_second": beside,
            "of_the_engine": prompts["prompts"] / whole / beside,
            "engine_threads": _threads(),
            "killed_seconds": killed,
            "killed_twice_is_equal": (source.parent / "killed.jsonl").read_bytes() == expected,
        }
        save("bulk", figures)
        if find_spec("ray"):
            ray = _score(source, "ray.jsonl", "--ray")
            equal = (source.parent / "ray.jsonl").read_bytes() == expected
            save("bulk", {**figures, "ray_seconds": ray, "ray_is_equal": equal})


def write_records(path: Path, records: int) -> Path:
    """As many requests, for jobs as popular as jobs are."""
    numbers = draw(np.random.default_rng(7), _JOBS, records)
    with path.open("wb") as file:
        for place, number in enumerate(numbers):
            request = orjson.loads(scheduler_request(50_000_000 + int(number)))
            file.write(orjson.dumps({"id": f"r{place}", **request}) + b"\n")
    return path


def _threads() -> int:
    return max(1, usable_cores() - default_readers("torch"))


def _bare_engine(source: Path) -> tuple[dict[str, int], float, float]:
    """Counts of the whole input; prompts a second of the engine on some of its windows, alone and beside reading.

    Two cores of a virtual machine may be threads of one: then the engine is slower where the other one works at all.
    """
    settings = Settings(engine_threads=_threads())
    job = Job.of(source, source.with_name("none.jsonl"), settings)
    stages = Stages(settings, job.checkpoint)
    seen: set[bytes] = set()
    counts = {"requests": 0, "prompts": 0}
    timed: list[ReadWindow] = []
    for window in windows(job.source, job.window, seen.__contains__):
        seen.update(window.new)
        counts["requests"] += len(window.new)
        read = stages.read(window.lines)
        counts["prompts"] += sum(len(call) for call in read.calls)
        if len(timed) < _TIMED_WINDOWS:
            timed.append(read)
    engine = engine_builder(settings, job.checkpoint)()
    engine.start()
    compute(engine, timed[0])
    prompts = sum(len(call) for read in timed for call in read.calls)

    def pace() -> float:
        began = time.perf_counter()
        for read in timed:
            compute(engine, read)
        return prompts / (time.perf_counter() - began)

    alone = pace()
    with _reading(source, settings):
        beside = pace()
    engine.close()
    return counts, alone, beside


@contextmanager
def _reading(source: Path, settings: Settings) -> Iterator[None]:
    """Processes that read all the time, as many as bulk scoring has."""
    spawning = get_context("spawn")
    ready = spawning.Semaphore(0)
    readers = [
        spawning.Process(target=_read_on, args=(source, settings, ready), daemon=True)
        for _ in range(default_readers("torch"))
    ]
    for reader in readers:
        reader.start()
    for _ in readers:
        ready.acquire()
    try:
        yield
    finally:
        for reader in readers:
            reader.kill()
            reader.join()


def _read_on(source: Path, settings: Settings, ready: Semaphore) -> None:
    job = Job.of(source, source.with_name("none.jsonl"), settings)
    stages = Stages(settings, job.checkpoint)
    ready.release()
    while True:
        for window in windows(job.source, job.window, lambda _: False):
            stages.read(window.lines)


def _command(source: Path, output: str, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "app.cli", "batch", str(source), str(source.parent / output), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBCAST_")}
    environment["JOBCAST_ENGINE_THREADS"] = str(_threads())
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def _score(source: Path, output: str, *options: str) -> float:
    """Seconds of one run, from its start to its end."""
    began = time.perf_counter()
    with _command(source, output, *options) as process:
        status = process.wait()
    if status not in (0, WITH_PROBLEMS):
        raise RuntimeError(f"bulk scoring ended with status {status}")
    seconds = time.perf_counter() - began
    console.print(f"{output}: {seconds:.1f} s")
    return seconds


def _killed(source: Path, output: str, whole: float) -> float:
    """Seconds of a run that is killed after a third of the time, again after another, and then let be."""
    began = time.perf_counter()
    for _ in range(2):
        with _command(source, output) as process:
            time.sleep(whole / 3)
            process.send_signal(signal.SIGKILL)
    _score(source, output)
    return time.perf_counter() - began
