"""Bulk scoring, measured: its pace beside the bare engine's, two kills, and Ray.

The bare engine gets the very calls that bulk scoring makes, ready in memory, with as many threads: what is missing from
its pace is what reading, answering and writing cost.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
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
#: A run goes on for so long between two turns of the bare engine.
_TURN_SECONDS = 4.0
console = Console()


def bulk(records: int = _RECORDS) -> None:
    """About six minutes with Ray."""
    with TemporaryDirectory() as directory:
        source = write_records(Path(directory) / "in.jsonl", records)
        bare = _Bare(source)
        try:
            whole = _in_turns(source, "whole.jsonl", bare)
        finally:
            bare.close()
        prompts = bare.counts["prompts"]
        # The seconds of all turns together: a run has its slow minutes too.
        alone, beside = (1 / float(np.mean(seconds)) for seconds in (bare.alone, bare.beside))
        killed = _killed(source, "killed.jsonl", whole)
        expected = (source.parent / "whole.jsonl").read_bytes()
        figures = {
            "records": records,
            "different_requests": bare.counts["requests"],
            "prompts": prompts,
            "seconds": whole,
            "records_a_second": records / whole,
            "prompts_a_second": prompts / whole,
            "engine_alone_prompts_a_second": alone,
            "engine_prompts_a_second": beside,
            "engine_turns": len(bare.beside),
            "engine_range": [1 / max(bare.beside), 1 / min(bare.beside)],
            "of_the_engine_error": prompts / whole * _standard_error(bare.beside),
            "of_the_engine_alone": prompts / whole / alone,
            "of_the_engine": prompts / whole / beside,
            "engine_threads": _threads(),
            "killed_seconds": killed,
            "killed_twice_is_equal": (source.parent / "killed.jsonl").read_bytes() == expected,
        }
        save("bulk", figures)
        if find_spec("ray"):
            ray = _score(source, "ray.jsonl", "--ray")
            equal = (source.parent / "ray.jsonl").read_bytes() == expected
            save("bulk", {**figures, "ray_seconds": ray, "ray_is_equal": equal})


def _standard_error(values: Sequence[float]) -> float:
    """Of their mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")


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


class _Bare:
    """The bare engine beside a run of bulk scoring: it has its calls ready in memory, and readers that it lets go on.

    counts: of the whole input; alone, beside: seconds for a prompt in each turn, beside cores that do nothing and
    beside cores that read. Two cores of a virtual machine may be threads of one: then the engine is slower where the
    other one works at all. close it.
    """

    def __init__(self, source: Path) -> None:
        settings = Settings(engine_threads=_threads())
        job = Job.of(source, source.with_name("none.jsonl"), settings)
        stages = Stages(settings, job.checkpoint)
        seen: set[bytes] = set()
        self.counts = {"requests": 0, "prompts": 0}
        self.alone: list[float] = []
        self.beside: list[float] = []
        self._ready: deque[ReadWindow] = deque()
        for window in windows(job.source, job.window, seen.__contains__):
            seen.update(window.new)
            self.counts["requests"] += len(window.new)
            read = stages.read(window.lines)
            self.counts["prompts"] += sum(len(call) for call in read.calls)
            self._ready.append(read)
        self._engine = engine_builder(settings, job.checkpoint)()
        self._engine.start()
        compute(self._engine, self._ready[0])
        self._readers = _readers(source, settings)

    def turn(self) -> None:
        """One window each way."""
        self.alone.append(self._seconds())
        self._tell_readers(signal.SIGCONT)
        self.beside.append(self._seconds())
        self._tell_readers(signal.SIGSTOP)
        self._ready.rotate(-1)

    def close(self) -> None:
        """Let go of engine and readers."""
        self._engine.close()
        for reader in self._readers:
            reader.kill()
            reader.join()

    def _seconds(self) -> float:
        window = self._ready[0]
        began = time.perf_counter()
        compute(self._engine, window)
        return (time.perf_counter() - began) / sum(len(call) for call in window.calls)

    def _tell_readers(self, what: signal.Signals) -> None:
        for reader in self._readers:
            assert reader.pid
            os.kill(reader.pid, what)


def _readers(source: Path, settings: Settings) -> list[SpawnProcess]:
    """Processes that read all the time, as many as bulk scoring has; each stands still until it is told to go on."""
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
    return readers


def _read_on(source: Path, settings: Settings, ready: Semaphore) -> None:
    job = Job.of(source, source.with_name("none.jsonl"), settings)
    stages = Stages(settings, job.checkpoint)
    ready.release()
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        for window in windows(job.source, job.window, lambda _: False):
            stages.read(window.lines)


def _in_turns(source: Path, output: str, bare: _Bare) -> float:
    """Seconds of one run that is held now and then, without those in which it was: then the bare engine has its turn.

    A shared machine does the same work at other paces a minute later; so both are timed in the same minutes.
    """
    began, held = time.perf_counter(), 0.0
    with _command(source, output) as process:
        while process.poll() is None:
            try:
                process.wait(_TURN_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGSTOP)
                since = time.perf_counter()
                bare.turn()
                held += time.perf_counter() - since
                os.killpg(process.pid, signal.SIGCONT)
    return _ended(output, process.returncode, time.perf_counter() - began - held)


@contextmanager
def _command(source: Path, output: str, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A run in a session of its own, so that it can be held with its readers; it ends with the block."""
    command = [sys.executable, "-m", "app.cli", "batch", str(source), str(source.parent / output), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBCAST_")}
    environment["JOBCAST_ENGINE_THREADS"] = str(_threads())
    process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        yield process
        process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _score(source: Path, output: str, *options: str) -> float:
    """Seconds of one run, from its start to its end."""
    began = time.perf_counter()
    with _command(source, output, *options) as process:
        status = process.wait()
    return _ended(output, status, time.perf_counter() - began)


def _ended(output: str, status: int, seconds: float) -> float:
    if status not in (0, WITH_PROBLEMS):
        raise RuntimeError(f"bulk scoring ended with status {status}")
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
