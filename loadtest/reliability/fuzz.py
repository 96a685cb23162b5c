"""Changed configs of every kind against the running service, over many connections at once."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp
import orjson
from rich.console import Console
from rich.progress import Progress

from loadtest.reliability.mutation import mutated, mutated_bytes
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service
from model.jobs import KINDS

CONFIGS = 100_000
WARM_UP = 2_000
CONNECTIONS = 16
BATCH = 8
SEED = 5


@dataclass
class _Tally:
    """What came back; a batch's items count one by one."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    broken: int = 0  # no answer at all

    def add(self, status: int, document: object) -> None:
        self.statuses[status] += 1
        self.codes[str(document.get("code", "ok")) if isinstance(document, dict) else "ok"] += 1


def run(configs: int = CONFIGS) -> bool:
    """Whether every config was answered below 500, by one process that did not grow."""
    settings = {
        "engine": "fake", "log_level": "error", "cache_entries": 200, "memo_tokens": 20_000, "reader_threads": 1,
    }  # fmt: skip
    console = Console()
    tally = _Tally()
    with running_service(settings) as service:
        asyncio.run(_ask_all(service, range(WARM_UP), _Tally(), console, "warm-up"))
        before = service.resident_bytes()
        asyncio.run(_ask_all(service, range(WARM_UP, WARM_UP + configs), tally, console, "fuzzing"))
        growth = service.resident_bytes() - before
        alive = service.alive() and service.get("/health/ready")[0] == 200
        logged = service.logged()
    if logged:
        console.print(logged[-3000:], markup=False, style="red")
    server_errors = sum(n for status, n in tally.statuses.items() if status >= 500)
    return save(
        "fuzz",
        f"Changed configs of all {len(KINDS)} kinds, seed {SEED}, {CONNECTIONS} connections; memory is compared with "
        f"that after {WARM_UP:,} of them, with small caches.",
        [
            Bound("configs answered", sum(tally.statuses.values()), at_least=configs),
            Bound("answers of 500 and above", server_errors, at_most=0),
            Bound("requests without an answer", tally.broken, at_most=0),
            Bound("growth of resident memory", growth / 1e6, at_most=50.0, unit="MB"),
            Bound("the service is alive and ready", int(alive), at_least=1),
        ],
        {f"answers {code}": count for code, count in tally.codes.most_common()},
    )


async def _ask_all(
    service: RunningService, numbers: range, tally: _Tally, console: Console, title: str
) -> None:
    """Every number's config once; eight neighbours of every tenth group go as a batch."""
    groups = iter(range(numbers.start, numbers.stop, BATCH))
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    with Progress(console=console) as progress:
        task = progress.add_task(title, total=len(numbers))

        async def work(session: aiohttp.ClientSession) -> None:
            for first in groups:
                group = range(first, min(first + BATCH, numbers.stop))
                if first // BATCH % 10 == 0:
                    await _batch(session, group, tally)
                else:
                    for number in group:
                        await _single(session, number, tally)
                progress.update(task, advance=len(group))

        async with aiohttp.ClientSession(
            service.url, connector=connector, timeout=aiohttp.ClientTimeout(60)
        ) as session:
            await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))


async def _single(session: aiohttp.ClientSession, number: int, tally: _Tally) -> None:
    """As an envelope, as an envelope whose bytes were changed too, or as the file itself."""
    kind = KINDS[number % len(KINDS)]
    text = mutated(kind, SEED, number)
    form = number // len(KINDS) % 5
    if form == 1:
        path, media_type, body = f"/predict?kind={kind}", "application/yaml", text.encode()
    else:
        path, media_type = "/predict", "application/json"
        body = orjson.dumps({"kind": kind, "config": text, "context": {"event": "push"}})
        if form == 2:
            body = mutated_bytes(body, SEED, number)
    await _post(session, path, media_type, body, tally)


async def _batch(session: aiohttp.ClientSession, numbers: range, tally: _Tally) -> None:
    items = [
        {"kind": kind, "config": mutated(kind, SEED, number)}
        for number in numbers
        for kind in [KINDS[number % len(KINDS)]]
    ]
    await _post(session, "/predict/batch", "application/json", orjson.dumps({"requests": items}), tally)


async def _post(
    session: aiohttp.ClientSession, path: str, media_type: str, body: bytes, tally: _Tally
) -> None:
    try:
        async with session.post(path, data=body, headers={"Content-Type": media_type}) as response:
            document = orjson.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        tally.broken += 1
        return
    if isinstance(document, dict) and "responses" in document:
        for one in document["responses"]:
            tally.add(int(one.get("status", 200)), one)
    else:
        tally.add(response.status, document)
