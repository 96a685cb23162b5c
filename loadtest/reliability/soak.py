"""One hour of mixed load: does memory grow, are file descriptors given back?"""

import asyncio
import json
import time
from collections import Counter
from tempfile import TemporaryDirectory

import numpy as np
from rich.progress import track

from loadtest.redis_server import redis_server
from loadtest.reliability.bodies import workflow_request
from loadtest.reliability.client import NO_ANSWER, Client, client
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

_SECONDS, _PER_SECOND, _LOOK_SECONDS = 3600.0, 12.0, 5.0
#: Requests under way hold tens of megabytes that come and go; a leak raises the least of any two minutes too.
_FLOOR_SECONDS = 120.0
#: Caches fill and allocators settle in this time; growth is measured after it.
_SETTLED_SECONDS = 600.0


def run(seconds: float = _SECONDS) -> bool:
    """Samples of resident memory and open files, and the slopes through those after the first ten minutes."""
    # Small caches are full soon: what grows after that is a leak.
    settings = {"cache_entries": 1000, "memo_tokens": 200_000, "log_level": "warning"}
    with (
        TemporaryDirectory() as directory,
        redis_server("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as redis,
        running_service(
            settings | {"redis_url": redis.url, "database_url": f"sqlite:///{directory}/outcomes.db"}
        ) as service,
    ):
        samples, statuses = asyncio.run(_soak(service, seconds))
    settled = min(_SETTLED_SECONDS, seconds / 6)
    moments, memory, files = (column[samples[:, 0] >= settled] for column in samples.T)
    floor = _floor(moments, memory / 1e6)
    return save(
        "soak",
        f"{_PER_SECOND:.0f} requests a second for {seconds / 60:.0f} minutes, other work beside it: half asked before, "
        "new workflows, batches of ten, files as they are, some outcomes, and one in twenty malformed; Redis behind "
        "small caches, and an outcome store in SQLite. "
        f"Memory and open files every {_LOOK_SECONDS:.0f} s; a robust line (Theil-Sen) through all after the first "
        f"{settled / 60:.0f} minutes, for memory through the least of every {_FLOOR_SECONDS / 60:.0f} minutes: what "
        "requests hold while they are under way comes and goes.",
        [
            Bound("growth of memory", 600 * _slope(*floor), at_most=1.0, unit="MB in 10 min"),
            Bound("growth of open files", _slope(moments, files) * (moments[-1] - moments[0]), at_most=0.5),
            Bound(
                "5xx and lost", sum(n for s, n in statuses.items() if s == NO_ANSWER or s >= 500), at_most=0
            ),
        ],
        {
            "answers by status": str(dict(sorted(statuses.items()))),
            "resident at first, MB": float(memory[0] / 1e6),
            "resident at last, MB": float(memory[-1] / 1e6),
            "resident, least and most, MB": f"{memory.min() / 1e6:.0f}, {memory.max() / 1e6:.0f}",
            "line through all samples of memory, MB in 10 min": 600 * _slope(moments, memory / 1e6),
            "open files, most": float(files.max()),
        },
    )


async def _soak(service: RunningService, seconds: float) -> tuple[np.ndarray, Counter[int]]:
    """[samples, (seconds, resident bytes, open files)]."""
    statuses: Counter[int] = Counter()
    samples = []
    begin = time.perf_counter()
    async with client(service.url) as asking:
        load = asyncio.create_task(_mixed(asking, seconds, statuses))
        for _ in track(range(int(seconds / _LOOK_SECONDS)), "soak"):
            await asyncio.sleep(_LOOK_SECONDS)
            samples.append((time.perf_counter() - begin, service.resident_bytes(), service.open_files()))
        await load
    return np.array(samples, dtype=float), statuses


async def _mixed(asking: Client, seconds: float, statuses: Counter[int]) -> None:
    random = np.random.default_rng(0)
    tasks: set[asyncio.Task[None]] = set()

    async def ask(number: int) -> None:
        body, path, headers = _request(number, float(random.random()))
        answer, _ = await asking.post(body, path=path, headers=headers)
        statuses[answer.status] += 1

    number, due = 0, time.perf_counter()
    until = due + seconds
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(ask(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number, due = number + 1, due + random.exponential(1 / _PER_SECOND)
    await asyncio.gather(*tasks)


def _request(number: int, kind: float) -> tuple[bytes, str, dict[str, str]]:
    if kind < 0.03:
        outcome = json.loads(workflow_request(number % 50)) | {
            "job": f"build-{number % 50}",
            "runtime_seconds": 300,
        }
        return json.dumps({"outcomes": [outcome]}).encode(), "/outcomes", {}
    if kind < 0.5:
        return workflow_request(number % 50), "/predict", {}
    if kind < 0.85:
        return workflow_request(1000 + number), "/predict", {}
    if kind < 0.9:
        items = [json.loads(workflow_request(1000 + number + place)) for place in range(10)]
        return json.dumps({"requests": items}).encode(), "/predict/batch", {}
    if kind < 0.95:
        text = json.loads(workflow_request(number))["config"].encode()
        return text, "/predict?kind=github-actions", {"Content-Type": "application/yaml"}
    broken = (
        b"{",
        b'{"kind": "x", "config": ""}',
        b'{"kind": "github-actions", "config": "jobs: ["}',
        b"\xff",
    )
    return broken[number % len(broken)], "/predict", {}


def _floor(moments: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least value of each window of _FLOOR_SECONDS, and when it began; a last part of a window is left out."""
    windows = ((moments - moments[0]) // _FLOOR_SECONDS).astype(int)
    whole = range(int((moments[-1] - moments[0]) // _FLOOR_SECONDS))
    return np.array(whole) * _FLOOR_SECONDS, np.array([values[windows == one].min() for one in whole])


def _slope(moments: np.ndarray, values: np.ndarray) -> float:
    """Of the line through most points: the median of the slopes between any two (Theil-Sen)."""
    first, second = np.triu_indices(len(moments), k=1)
    return float(np.median((values[second] - values[first]) / (moments[second] - moments[first])))
