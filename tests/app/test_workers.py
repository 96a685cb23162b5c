"""Several processes behind one port, and /metrics on a port of its own: real processes, an engine without weights."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from app.sockets import bind, listen
from app.supervisor import Supervisor
from loadtest.ports import free_port
from loadtest.reliability.running import RunningService, running_service
from tests.app.fakes import until
from tests.app.series import SERIES, labels_of, value_of

ENGINE = {"engine": "fake", "log_level": "info"}


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def children(service: RunningService) -> set[int]:
    tasks = Path(f"/proc/{service.process.pid}/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def series_directory(worker: int) -> Path:
    environment = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    (found,) = [entry for entry in environment if entry.startswith(b"PROMETHEUS_MULTIPROC_DIR=")]
    return Path(found.partition(b"=")[2].decode())


def ask(service: RunningService, place: int) -> int:
    """A connection of its own for each request, so that any worker may take it."""
    headers = {"Content-Type": "text/plain"}
    answer = httpx.post(
        f"{service.url}/predict?kind=text", content=f"make {place % 40}", headers=headers, timeout=20
    )
    return answer.status_code


def ask_often(service: RunningService, times: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda place: ask(service, place), range(times))) == {200}


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def two(metrics_port: int) -> Iterator[RunningService]:
    """Two workers, both ready, with /metrics on the main port."""
    with running_service({**ENGINE, "workers": 2}) as service:
        wait_until(lambda: service.logged().count("engine_ready") == 2)
        yield service


def test_two_workers_count_as_one_service(two: RunningService) -> None:
    workers = children(two)
    assert len(workers) == 2
    ask_often(two, 200)

    def counted(scraped: str) -> float:
        return value_of(scraped, "jobcast_requests_total", route="/predict", code="200")

    wait_until(lambda: counted(two.get("/metrics")[1]) >= 200, 5)
    scrapes = [two.get("/metrics")[1] for _ in range(20)]
    assert {counted(scraped) for scraped in scrapes} == {200.0}
    assert labels_of(scrapes[-1]) == SERIES
    assert value_of(scrapes[-1], "jobcast_engine_up") == 1
    assert value_of(scrapes[-1], "jobcast_model_info") == 1
    assert value_of(scrapes[-1], "jobcast_request_duration_seconds_count", route="/predict") == 200


def test_a_killed_worker_is_replaced_and_nothing_is_lost_from_the_counts(two: RunningService) -> None:
    before = value_of(two.get("/metrics")[1], "jobcast_requests_total", route="/predict")
    workers = children(two)
    killed = min(workers)
    directory = series_directory(killed)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: "worker_died" in two.logged(), 5)
    # The other one answers meanwhile, and the new one takes no connection before its engine can answer.
    asked = 0
    while two.logged().count("engine_ready") < 3 or asked < 20:
        assert ask(two, asked) == 200
        asked += 1
    wait_until(lambda: value_of(two.get("/metrics")[1], "jobcast_engine_up") == 1)
    assert len(children(two)) == 2
    assert killed not in children(two)
    wait_until(
        lambda: (
            value_of(two.get("/metrics")[1], "jobcast_requests_total", route="/predict") == before + asked
        ),
        5,
    )
    # The new one goes on in the files of the dead one: a worker that dies again and again fills no disk.
    assert {file.name for file in directory.glob("counter_*")} == {"counter_0.db", "counter_1.db"}


def test_the_parent_stays_small_and_the_workers_share_its_socket(two: RunningService) -> None:
    """What is heavy is loaded by the workers alone."""
    mapped = Path(f"/proc/{two.process.pid}/maps").read_text()
    for heavy in ("torch", "numpy", "tokenizers"):
        assert f"/{heavy}/" not in mapped


def test_stopping_drains_every_worker_and_leaves_nothing_behind(two: RunningService) -> None:
    workers = children(two)
    directory = series_directory(min(workers))
    assert directory.is_dir()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, two, place) for place in range(8)]
        assert [one.result() for one in asked] == [200] * 8
    assert two.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert not directory.exists()
    assert "worker_killed" not in two.logged()


@pytest.mark.anyio
async def test_a_worker_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.supervisor._HUNG_SECONDS", 3.0)
    settings = Settings(engine="fake", workers=2, port=0)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JOBCAST_")}
    environment |= {
        "JOBCAST_ENGINE": "fake",
        "JOBCAST_WORKERS": "2",
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
    }
    sockets = bind("127.0.0.1", 0)
    supervisor = Supervisor(settings, sockets, environment)
    running = asyncio.create_task(supervisor.run())
    logged = ""

    def seen(word: str, times: int) -> bool:
        nonlocal logged
        logged += capfd.readouterr().out
        return logged.count(word) >= times

    await until(lambda: seen("engine_ready", 2), 60)
    hung = min(worker.pid for worker in supervisor._running)
    os.kill(hung, signal.SIGSTOP)
    await until(lambda: seen("engine_ready", 3), 60)
    assert logged.count("worker_hung") == 1
    assert hung not in {worker.pid for worker in supervisor._running}
    supervisor._stop()
    assert await running == 0
    for bound in sockets:
        bound.close()


def test_workers_end_with_a_parent_that_is_killed() -> None:
    with running_service({**ENGINE, "workers": 2}) as service:
        wait_until(lambda: service.logged().count("engine_ready") == 2)
        workers = children(service)
        service.process.kill()
        service.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in workers), 10)


def alive(pid: int) -> bool:
    """Neither gone nor waiting to be reaped by someone."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_have_a_listener_of_their_own(metrics_port: int, workers: int) -> None:
    settings = {**ENGINE, "workers": workers, "metrics_port": metrics_port, "shutdown_grace_seconds": 1.5}
    with running_service(settings) as service:
        wait_until(lambda: service.logged().count("engine_ready") == workers)
        ask_often(service, 30)
        assert service.get("/metrics")[0] == 404
        assert service.get("/health/live")[0] == 200
        with httpx.Client(base_url=f"http://127.0.0.1:{metrics_port}") as client:
            wait_until(
                lambda: (
                    value_of(client.get("/metrics").text, "jobcast_requests_total", route="/predict") == 30
                ),
                5,
            )
            response = client.get("/metrics")
            assert labels_of(response.text) == SERIES
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert "Server" not in response.headers
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            # Several workers share no exemplars: there is nothing that OpenMetrics would add.
            accepting = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
            form = "application/openmetrics-text" if workers == 1 else "text/plain"
            assert accepting.headers["Content-Type"].startswith(form)
            assert [client.get(path).status_code for path in ("/", "/predict", "/health/live")] == [404] * 3
            assert client.post("/metrics").status_code == 404
            # While the service drains it can still be watched.
            service.process.send_signal(signal.SIGTERM)
            wait_until(lambda: service.get("/health/ready")[0] == 503, 1)
            assert client.get("/metrics").status_code == 200
        service.process.wait(20)


def test_a_start_that_fails_in_the_workers_fails_as_a_whole(tmp_path: Path) -> None:
    with running_service({**ENGINE, "workers": 2, "checkpoint": tmp_path}, wait=False) as service:
        assert service.process.wait(60) == 2
        lines = [line for line in service.logged().splitlines() if line.startswith("jobcast: ")]
        assert lines == ["jobcast: JOBCAST_CHECKPOINT: no readable jobcast.json in the checkpoint directory"]
        assert "Traceback" not in service.logged()


def test_a_package_called_app_in_the_working_directory_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Projects with a package `app` are common, and workers are started where the user stands."""
    import subprocess
    import sys

    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('the wrong app')")
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", root)
    monkeypatch.setenv("JOBCAST_CHECKPOINT", str(tmp_path))
    monkeypatch.setenv("JOBCAST_PORT", "0")
    code = "from app.cli import main; import sys; sys.argv = ['jobcast', 'serve', '--workers', '2']; main()"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert (
        ended.stderr == "jobcast: JOBCAST_CHECKPOINT: no readable jobcast.json in the checkpoint directory\n"
    )


def test_connections_to_a_port_that_is_bound_and_not_served_are_refused() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound, socket.socket() as client:
        client.settimeout(1)
        with pytest.raises(ConnectionRefusedError):
            client.connect(bound.getsockname())
    (bound,) = bind("127.0.0.1", 0)
    with bound, socket.socket() as client:
        listen([bound])
        client.settimeout(1)
        client.connect(bound.getsockname())
