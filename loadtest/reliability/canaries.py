"""Secrets in every field of requests to a running service, looked for in all that can be seen of it afterwards.

`searched` is what is looked through, by its name: answers, log, metrics and outcome store here. Whoever keeps more (a
Redis, exported traces) adds it with `more`.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service
from tests.canaries import UNMARKED, Canary, leaks
from tests.canary_configs import Deal
from tests.canary_requests import requests

#: In so many rounds every place has seen every form.
ROUNDS = 180
#: Added to what is searched, once all requests are answered: name -> content.
More = Callable[[RunningService], Mapping[str, bytes]]


def run(
    rounds: int = ROUNDS, settings: Mapping[str, object] | None = None, more: More = lambda _: {}
) -> bool:
    """Send `rounds` times all places; whether no canary came out and the service answered throughout."""
    found: list[Canary] = []
    statuses: Counter[int] = Counter()
    places: set[str] = set()
    answers: list[bytes] = []
    started = time.perf_counter()
    with (
        TemporaryDirectory() as directory,
        running_service(
            {
                "engine": "fake",
                "log_level": "debug",
                "default_deadline_ms": 60_000,
                "database_url": f"sqlite:///{directory}/outcomes.db",
                **(settings or {}),
            }
        ) as service,
        httpx.Client(base_url=service.url, timeout=60) as client,
    ):
        for number in range(rounds):
            deal = Deal(number)
            for sent in requests(deal):
                response = client.request(
                    sent.method, sent.path, content=sent.content, headers=sent.headers, params=sent.parameters
                )
                statuses[response.status_code] += 1
                places.add(sent.place)
                answers.append(_shown(response))
            found += deal.dealt
        metrics = client.get("/metrics")
        alive = service.alive()
        searched: dict[str, bytes] = {
            "answers": b"\n".join(answers),
            "log": service.logged().encode(),
            "metrics": metrics.content,
            "outcome store": b"".join(file.read_bytes() for file in sorted(Path(directory).iterdir())),
            **more(service),
        }
    seen = {name: leaks(found, content.decode(errors="replace")) for name, content in searched.items()}
    unmarked = sum(canary.form in UNMARKED for canary in found)
    missed = {canary for canaries in seen.values() for canary in canaries if canary.form in UNMARKED}
    defects = sum(count for status, count in statuses.items() if status >= 500)
    return save(
        "canaries",
        f"{len(found)} secrets that were never in use, of {len({canary.form for canary in found})} forms in "
        f"{len(places)} places of requests, sent to a running service; ten characters of either end of one are a leak. "
        "Random strings that nothing marks as secrets are counted apart.",
        [
            Bound("different secrets sent", len({canary.secret for canary in found}), at_least=2000),
            *(
                Bound(f"secrets found in {name}", len(canaries - missed), at_most=0)
                for name, canaries in seen.items()
            ),
            Bound("random strings found anywhere", 100 * len(missed) / max(unmarked, 1), at_most=0.1, unit="%"),
            Bound("answers with a status of 500 or more", defects, at_most=0),
            Bound("service alive afterwards", int(alive), at_least=1),
        ],
        {
            "requests": sum(statuses.values()),
            "answered with 200": statuses[200],
            "random strings sent": unmarked,
            "searched": ", ".join(f"{name} {len(content):,} bytes" for name, content in searched.items()),
            "forms found": ", ".join(sorted({canary.form for some in seen.values() for canary in some})) or "none",
            "seconds": time.perf_counter() - started,
        },
    )  # fmt: skip


def _shown(response: httpx.Response) -> bytes:
    head = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
    return head.encode() + response.content
