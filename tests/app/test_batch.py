"""Bulk scoring: what stands in the output, and that interruptions leave no trace in it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.batch.command import WITH_PROBLEMS, batch, interruptible
from app.batch.ledger import Progress
from app.batch.local import answered_here
from app.batch.run import Job, run
from app.batch.stages import Stages, compute
from app.batch.windows import Window
from app.build import engine_builder
from app.main import create_app
from app.settings import Settings
from app.startup import ConfigurationError
from model.engines.base import Engine
from model.engines.fake import FakeEngine
from model.errors import EngineUnavailable
from tests.app.fakes import running
from tests.app.stored import WORKFLOW

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(stored: Path) -> Settings:
    return Settings(checkpoint=stored, engine="fake")


def script(number: int, **rest: object) -> dict[str, Any]:
    return {"kind": "text", "config": f"make target-{number}", **rest}


def write(path: Path, requests: Iterable[object]) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in requests))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def score(
    source: Path,
    output: Path,
    settings: Settings,
    engine: Engine,
    *,
    window: int = 8,
    most: int | None = None,
) -> Progress:
    """In this process; the engine is lost after `most` windows."""
    job = Job.of(source, output, settings)
    job = Job(job.source_path, job.output_path, settings, job.source, job.checkpoint, window)
    stages = Stages(settings, job.checkpoint)
    engine.start()

    def answered(windows: Iterable[Window]) -> Iterator[tuple[Window, list[bytes]]]:
        for count, one in enumerate(windows):
            if count == most:
                raise EngineUnavailable("lost")
            found = stages.read(one.lines)
            yield one, stages.answer(found, compute(engine, found))

    with job.open_output(overwrite=False) as written:
        return run(job, written, answered, lambda progress: None)


@pytest.mark.anyio
async def test_answers_are_the_services_own(tmp_path: Path, settings: Settings) -> None:
    requests: list[dict[str, Any]] = [
        {"kind": "github-actions", "config": WORKFLOW, "context": {"event": "push"}},
        script(1, quantiles=[0.25, 0.75], targets=["cpu_cores"]),
        script(2, history=[{"runtime_seconds": 60.0, "age_seconds": 3600}], deadline_ms=10),
        script(3, given={"cpu_cores": 2.0}),
        {"kind": "github-actions", "config": WORKFLOW, "given": {"cpu_cores": 2.0}},
        {"kind": "github-actions", "config": "jobs: ["},
        {"kind": "text", "config": "x", "targets": ["unheard_of"]},
        {"kind": "text", "config": "x", "colour": "red"},
    ]
    score(write(tmp_path / "in.jsonl", requests), tmp_path / "out.jsonl", settings, FakeEngine())
    without = ("request_id", "deadline_ms")
    async with running(create_app(settings.model_copy(update={"cache_entries": 0}))) as client:
        for request, found in zip(requests, read(tmp_path / "out.jsonl"), strict=True):
            body = {name: value for name, value in request.items() if name not in without}
            answer: httpx.Response = await client.post("/predict", json=body)
            expected = answer.json()
            assert found.pop("request_id") != expected.pop("request_id")
            assert found == expected


def test_a_bad_record_fails_alone_and_in_its_place(tmp_path: Path, settings: Settings) -> None:
    lines = [
        json.dumps(script(1, id="first")),
        "{broken",
        "",
        json.dumps(script(1, id=1.5)),
        '{"kind": "text", "config": "twice", "config": "twice"}',
        json.dumps({"kind": "text", "config": "x" * 5000}),
        json.dumps(script(1, id=7)),
    ]
    settings = settings.model_copy(update={"max_body_bytes": 2048})
    status = batch(write(tmp_path / "in.jsonl", lines), tmp_path / "out.jsonl", settings, readers=1)
    found = read(tmp_path / "out.jsonl")
    assert status == WITH_PROBLEMS
    malformed = "malformed_body"
    codes = [None, malformed, malformed, malformed, malformed, "body_too_large", None]
    assert [one.get("code") for one in found] == codes
    assert [one.get("id") for one in found] == ["first", None, None, None, None, None, 7]
    assert [one["request_id"].rpartition(".")[2] for one in found] == [str(place) for place in range(7)]
    assert "broken" not in (tmp_path / "out.jsonl").read_text()


def test_equal_requests_are_computed_once_however_far_apart(tmp_path: Path, settings: Settings) -> None:
    engine = FakeEngine()
    requests = [script(number % 20, id=number) for number in range(200)]
    done = score(write(tmp_path / "in.jsonl", requests), tmp_path / "out.jsonl", settings, engine)
    assert done.requests == 20
    assert sum(len(call) for call in engine.batches) == 20
    found = read(tmp_path / "out.jsonl")
    assert [one["id"] for one in found] == list(range(200))
    for number in range(20, 200):
        assert found[number]["predictions"] == found[number % 20]["predictions"]


def test_calls_stay_within_the_limits_of_the_service(tmp_path: Path, settings: Settings) -> None:
    engine = FakeEngine()
    settings = settings.model_copy(update={"max_batch": 5, "max_batch_tokens": 200})
    requests = [{"kind": "text", "config": "word " * (number % 40)} for number in range(60)]
    score(write(tmp_path / "in.jsonl", requests), tmp_path / "out.jsonl", settings, engine, window=32)
    assert len(engine.batches) > 1
    for call in engine.batches:
        assert len(call) <= 5
        assert len(call) == 1 or sum(len(query.prompt) for query in call) <= 200


def test_a_run_that_lost_its_engine_goes_on_where_it_was(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [script(number % 70, id=number) for number in range(100)])
    score(source, tmp_path / "whole.jsonl", settings, FakeEngine())
    engine = FakeEngine()
    for _ in range(4):
        with pytest.raises(EngineUnavailable):
            score(source, tmp_path / "out.jsonl", settings, engine, most=2)
        assert not (tmp_path / "out.jsonl").exists()
        with (tmp_path / "out.jsonl.partial").open("ab") as file:
            file.write(b'{"request_id":"of a window that was never whole')
    score(source, tmp_path / "out.jsonl", settings, engine)
    assert sum(len(call) for call in engine.batches) == 70
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


def test_an_engine_that_does_not_start_ends_the_run(tmp_path: Path, settings: Settings) -> None:
    class Broken(FakeEngine):
        def start(self) -> None:
            raise EngineUnavailable("it does not start")

    source = write(tmp_path / "in.jsonl", [script(number) for number in range(10)])
    job = Job.of(source, tmp_path / "out.jsonl", settings)
    with (
        job.open_output(overwrite=False) as written,
        pytest.raises(EngineUnavailable, match="does not start"),
    ):
        run(job, written, lambda some: answered_here(settings, Broken(), some, 1), lambda progress: None)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_interruption_moves_no_digit_of_the_shipped_model(tmp_path: Path) -> None:
    settings = Settings(engine_threads=1)
    requests = [
        {"kind": "text", "config": f"make -j{number} check " + "x" * (7 * number % 90)}
        for number in range(24)
    ]
    source = write(tmp_path / "in.jsonl", requests)
    engine = engine_builder(settings, Job.of(source, tmp_path / "x.jsonl", settings).checkpoint)()
    score(source, tmp_path / "whole.jsonl", settings, engine)
    with pytest.raises(EngineUnavailable):
        score(source, tmp_path / "out.jsonl", settings, engine, most=2)
    score(source, tmp_path / "out.jsonl", settings, engine)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


class Command:
    """`jobcast batch` in a process of its own."""

    def __init__(self, source: Path, stored: Path) -> None:
        self.source = source
        self.environment = {**os.environ, "JOBCAST_CHECKPOINT": str(stored), "JOBCAST_ENGINE": "fake"}

    def start(self, output: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "app.cli", "batch", str(self.source), str(self.path(output))]
        return subprocess.Popen(
            [*words, "--readers", "1"], cwd=ROOT, env=self.environment, stderr=subprocess.PIPE, text=True
        )

    def path(self, output: str) -> Path:
        return self.source.with_name(output)

    def until_more_is_written(self, process: "subprocess.Popen[str]", output: str, before: int) -> None:
        partial, until = self.path(output + ".partial"), time.monotonic() + 60
        while not partial.exists() or partial.stat().st_size <= before:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)


def readers_of(process: "subprocess.Popen[str]") -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def runs(pid: int) -> bool:
    """Neither gone nor a zombie that nobody waits for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def command(tmp_path: Path, stored: Path) -> Command:
    """Over 900 different requests, some of them twice."""
    requests = [script(number * 7 % 900, id=f"r{number}") for number in range(1000)]
    return Command(write(tmp_path / "in.jsonl", requests), stored)


def test_a_run_killed_twice_ends_with_the_same_bytes(command: Command) -> None:
    partial = command.path("out.jsonl.partial")
    for _ in range(2):
        before = partial.stat().st_size if partial.exists() else 0
        with command.start("out.jsonl") as process:
            command.until_more_is_written(process, "out.jsonl", before)
            readers = readers_of(process)
            process.send_signal(signal.SIGKILL)
        assert len(readers) == 1
        until = time.monotonic() + 10
        while any(runs(pid) for pid in readers):
            assert time.monotonic() < until, "a reader outlived its parent"
            time.sleep(0.02)
        assert partial.exists()
    with command.start("out.jsonl") as process:
        told = process.communicate()[1]
    assert process.returncode == 0
    assert "going on after" in told
    with command.start("whole.jsonl") as process:
        process.communicate()
    assert command.path("out.jsonl").read_bytes() == command.path("whole.jsonl").read_bytes()
    assert [one["id"] for one in read(command.path("out.jsonl"))] == [f"r{number}" for number in range(1000)]


def test_a_reader_that_dies_ends_the_run_in_one_line(command: Command) -> None:
    with command.start("out.jsonl") as process:
        command.until_more_is_written(process, "out.jsonl", 0)
        os.kill(readers_of(process)[0], signal.SIGKILL)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert told.splitlines()[-1].startswith("jobcast: a process that reads has died")
    assert command.path("out.jsonl.partial").stat().st_size > 0


def test_ctrl_c_ends_the_run_quietly(command: Command) -> None:
    with command.start("out.jsonl") as process:
        command.until_more_is_written(process, "out.jsonl", 0)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in told


def test_another_input_does_not_go_on_with_a_run(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [script(number) for number in range(30)])
    with pytest.raises(EngineUnavailable):
        score(source, tmp_path / "out.jsonl", settings, FakeEngine(), most=1)
    before = (tmp_path / "out.jsonl.partial").read_bytes()
    write(source, [script(number + 1) for number in range(30)])
    with pytest.raises(ConfigurationError, match="another input, checkpoint or settings"):
        score(source, tmp_path / "out.jsonl", settings, FakeEngine())
    assert (tmp_path / "out.jsonl.partial").read_bytes() == before
    assert batch(source, tmp_path / "out.jsonl", settings, overwrite=True, readers=1) == 0
    assert len(read(tmp_path / "out.jsonl")) == 30


def test_other_settings_that_change_answers_do_not_go_on_with_a_run(
    tmp_path: Path, settings: Settings
) -> None:
    source = write(tmp_path / "in.jsonl", [script(number) for number in range(30)])
    with pytest.raises(EngineUnavailable):
        score(source, tmp_path / "out.jsonl", settings, FakeEngine(), most=1)
    with pytest.raises(ConfigurationError, match="another input, checkpoint or settings"):
        score(source, tmp_path / "out.jsonl", settings.model_copy(update={"max_batch": 3}), FakeEngine())


def test_a_finished_output_is_not_replaced_unasked(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [script(1)])
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(ConfigurationError, match="is there already"):
        batch(source, tmp_path / "out.jsonl", settings)
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"


def test_an_output_that_lost_lines_is_not_gone_on_with(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [script(number) for number in range(30)])
    with pytest.raises(EngineUnavailable):
        score(source, tmp_path / "out.jsonl", settings, FakeEngine(), most=2)
    (tmp_path / "out.jsonl.partial").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="lost lines"):
        score(source, tmp_path / "out.jsonl", settings, FakeEngine())


def test_two_runs_do_not_write_into_one_output(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [script(1)])
    job = Job.of(source, tmp_path / "out.jsonl", settings)
    with job.open_output(overwrite=False), pytest.raises(ConfigurationError, match="another process"):
        job.open_output(overwrite=False)


def test_an_empty_input_gives_an_empty_output(tmp_path: Path, settings: Settings) -> None:
    source = write(tmp_path / "in.jsonl", [])
    assert batch(source, tmp_path / "out.jsonl", settings, readers=1) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == b""


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_line_is_a_record_however_the_file_begins_and_ends(
    tmp_path: Path, settings: Settings, end: str, mark: str
) -> None:
    lines = [json.dumps(script(number, id=str(number))) for number in range(2)]
    (tmp_path / "in.jsonl").write_bytes((mark + (end or "\n").join(lines) + end).encode())
    assert batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", settings, readers=1) == 0
    assert [answer["id"] for answer in read(tmp_path / "out.jsonl")] == ["0", "1"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_request_may_be_as_long_as_one_over_http(tmp_path: Path, settings: Settings, end: str) -> None:
    limit = len(json.dumps(script(10)))
    small = settings.model_copy(update={"max_body_bytes": limit})
    text = f"{json.dumps(script(100))}{end or chr(10)}{json.dumps(script(10))}{end}"
    (tmp_path / "in.jsonl").write_bytes(text.encode())
    assert batch(tmp_path / "in.jsonl", tmp_path / "out.jsonl", small, readers=1) == WITH_PROBLEMS
    assert [answer.get("code") for answer in read(tmp_path / "out.jsonl")] == ["body_too_large", None]


@pytest.mark.parametrize("ending", ["", ".partial", ".ledger"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_input_is_never_written_over(
    tmp_path: Path, settings: Settings, ending: str, overwrite: bool
) -> None:
    source = write(tmp_path / "in.jsonl", [script(1)])
    output = tmp_path / "out.jsonl"
    output.with_name(output.name + ending).hardlink_to(source)
    with pytest.raises(ConfigurationError, match=r"take the place|there already"):
        batch(source, output, settings, overwrite=overwrite)
    with pytest.raises(ConfigurationError, match="take the place"):
        batch(source, source, settings, overwrite=overwrite)
    assert read(source) == [script(1)]


def test_places_that_cannot_be_read_or_written_are_told_in_one_line(
    tmp_path: Path, settings: Settings
) -> None:
    source = write(tmp_path / "in.jsonl", [script(1)])
    (tmp_path / "directory.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match="the input cannot be read"):
        batch(tmp_path / "directory.jsonl", tmp_path / "out.jsonl", settings)
    with pytest.raises(ConfigurationError, match=r"out\.jsonl\.ledger cannot be made"):
        batch(source, tmp_path / "nowhere" / "out.jsonl", settings)
    with pytest.raises(ConfigurationError, match="the output cannot be written"):
        batch(source, tmp_path / "directory.jsonl", settings, overwrite=True)


@pytest.mark.parametrize(
    ("names", "told"),
    [(("in.csv", "out.jsonl"), "input's name"), (("in.jsonl", "out.csv"), "output's name")],
)
def test_other_formats_are_refused(
    tmp_path: Path, settings: Settings, names: tuple[str, str], told: str
) -> None:
    write(tmp_path / names[0], [script(1)])
    with pytest.raises(ConfigurationError, match=told):
        batch(tmp_path / names[0], tmp_path / names[1], settings)


def test_ctrl_c_is_heard_even_where_its_exception_got_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as unless_interrupted:
        unless_interrupted()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        with pytest.raises(KeyboardInterrupt):
            unless_interrupted()
    assert signal.getsignal(signal.SIGINT) is before
