"""Bodies made to crash, fill or hold the service: each must end as documented, quickly, and leave nothing behind."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, repeat

from rich.console import Console

from loadtest.reliability.raw import Answer, head, send
from loadtest.reliability.results import Bound, save
from loadtest.reliability.running import RunningService, running_service

LIMIT = 2 * 1024 * 1024
LARGE = 200_000_000
ARRIVAL_SECONDS = 2.0
TRICKLERS = 100
_PIECE = 65_536


@dataclass(frozen=True)
class Case:
    """A body, how it is sent, and how it must be answered.

    after_limit: the time counts from the limit on. timed: False where nobody can see from outside when it was reached.
    """

    name: str
    start: bytes
    pieces: list[bytes]
    expected: tuple[int, ...]
    after_limit: bool = False
    timed: bool = True


def run(repeats: int = 3) -> bool:
    """Whether every hostile body got its documented 4xx within 50 ms, and the process neither died nor grew."""
    console = Console()
    settings = {
        "engine": "fake", "log_level": "error", "head_seconds": ARRIVAL_SECONDS, "body_seconds": ARRIVAL_SECONDS,
        "cache_entries": 100, "memo_tokens": 0,
    }  # fmt: skip
    with running_service(settings) as service:
        pid = service.process.pid
        _warm_up(service)
        before = service.resident_bytes()
        with _Peak(service) as peak:
            cases = {case.name: case for case in _cases()}
            answers = {name: _worst(service, case, repeats) for name, case in cases.items()}
            lateness, answered = _slow_loris(service)
        after = service.resident_bytes()
        alive = service.alive() and service.process.pid == pid and service.get("/health/live")[0] == 200
    for name, answer in answers.items():
        wrong = answer.status not in cases[name].expected
        console.print(
            f"{name}: {answer.status} {answer.code} {answer.seconds * 1000:.1f} ms",
            style="red" if wrong else None,
        )
    undocumented = sum(answer.status not in cases[name].expected for name, answer in answers.items())
    open_ends = sum(not answer.closed for answer in answers.values() if answer.status in (413, 431))
    slowest = max((name for name in answers if cases[name].timed), key=lambda name: answers[name].seconds)
    return save(
        "hostile",
        f"Raw sockets against the running service, each body {repeats} times, the slowest answer kept. Times count "
        "from the body's last byte, or from the limit of 2 MiB on where the body is larger.",
        [
            Bound("bodies without their documented 4xx", undocumented, at_most=0),
            Bound("connections left open after 413 or 431", open_ends, at_most=0),
            Bound("slowest refusal", answers[slowest].seconds * 1000, at_most=50.0, unit="ms"),
            Bound("slow clients without their 408", TRICKLERS * 2 - answered, at_most=0),
            Bound("latest end of a slow client after its limit", lateness * 1000, at_most=500.0, unit="ms"),
            Bound("growth of resident memory, at the end", (after - before) / 1e6, at_most=20.0, unit="MB"),
            Bound("growth of resident memory, at most", (peak.bytes - before) / 1e6, at_most=20.0, unit="MB"),
            Bound("the same process is alive and answers", int(alive), at_least=1),
        ],
        {"slowest body": slowest}
        | {name: f"{one.status} {one.code}, {one.seconds * 1000:.1f} ms" for name, one in answers.items()},
    )


def _cases() -> Iterator[Case]:
    for count in (25_000, 100_000, 1_000_000):
        for bracket in ("[", "{", '{"a":', "- ", "[{a: "):
            text = (bracket * count)[: LIMIT - 1000]
            # A text that begins with a brace may be JSON as well: what its parser says differs, that it refuses not.
            yield _whole(
                f"{count:,} times {bracket} as YAML", "/predict?kind=nextflow", "application/yaml", text, 422
            )
            yield _whole(
                f"{count:,} times {bracket} as a workflow",
                "/predict?kind=github-actions",
                "application/yaml",
                text,
                422,
            )
            # A quote becomes two characters there.
            envelope = json.dumps({"kind": "nextflow", "config": text[: LIMIT // 2]})
            yield _whole(
                f"{count:,} times {bracket} in an envelope", "/predict", "application/json", envelope, 422
            )
            yield _whole(
                f"{count:,} times {bracket} as the envelope", "/predict", "application/json", text, 400
            )
    for name, text in _laughs().items():
        yield _whole(name, "/predict?kind=nextflow", "application/yaml", text, 422)
        yield _whole(f"{name}, as a workflow", "/predict?kind=github-actions", "application/yaml", text, 422)
    declared = head("/predict", "application/json", f"Content-Length: {LARGE}") + b"\r\n"
    chunked = head("/predict", "application/json", "Transfer-Encoding: chunked") + b"\r\n"
    for path in ("/predict", "/predict/batch"):
        yield Case(
            f"200 MB to {path}",
            declared.replace(b"/predict ", f"{path} ".encode()),
            _pieces(b"x" * _PIECE),
            (413,),
        )
        chunk = b"%x\r\n%s\r\n" % (_PIECE, b"x" * _PIECE)
        yield Case(
            f"200 MB in chunks to {path}",
            chunked.replace(b"/predict ", f"{path} ".encode()),
            _pieces(chunk),
            (413,),
            True,
        )
    yield Case("2 MB in chunks of one byte", chunked, [b"1\r\nx\r\n" * 10_000] * 215, (413,), timed=False)
    yield Case(
        "a head without end", b"GET / HTTP/1.1\r\n", [b"X-A: " + b"x" * 8192 + b"\r\n"] * 100, (431,), False
    )
    yield Case("a request line without end", b"GET /", [b"x" * 8192] * 100, (431,), False)


def _laughs() -> dict[str, str]:
    names = "abcdefgh"
    lists = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(names)
    )
    merges = "a: &a {k0: x}\n" + "".join(
        f"{name}: &{name} {{{', '.join(f'k{i}: *{before}' for i in range(9))}, <<: *{before}}}\n"
        for before, name in pairwise(names)
    )
    return {
        "billion laughs of lists": lists,
        "billion laughs of mappings and merge keys": merges,
        "a text of 1 MB, 90,000 times": "a: &a " + "x" * 1_000_000 + "\nb: [" + "*a," * 90_000 + "]",
        "a list that holds itself": "a: &a [*a, *a]",
        "60,000 tag directives": "".join(f"%TAG !a{i}! t:{i}:\n" for i in range(60_000)) + "--- a: 1",
    }


def _whole(name: str, path: str, media_type: str, text: str, status: int) -> Case:
    body = text.encode()
    return Case(name, head(path, media_type, f"Content-Length: {len(body)}") + b"\r\n", [body], (status,))


def _pieces(piece: bytes) -> list[bytes]:
    return list(repeat(piece, LARGE // _PIECE))


def _worst(service: RunningService, case: Case, repeats: int) -> Answer:
    limit = LIMIT if case.after_limit else None
    answers = [send(service.port, case.start, case.pieces, limit=limit) for _ in range(repeats)]
    wrong = [answer for answer in answers if answer.status not in case.expected]
    return (wrong or sorted(answers, key=lambda answer: -answer.seconds))[0]


def _slow_loris(service: RunningService) -> tuple[float, int]:
    """Heads and bodies of one byte every 200 ms: how long after their limit the last ended; how many got a 408."""
    ended: list[tuple[float, int]] = []
    envelope_head = head("/predict", "application/json", "Content-Length: 100000") + b"\r\n"

    def trickle(start: bytes) -> None:
        began = time.perf_counter()

        def pieces() -> Iterator[bytes]:
            for piece in islice(repeat(b"x"), 100):
                time.sleep(0.2)
                yield piece

        answer = send(service.port, start, pieces())
        ended.append((time.perf_counter() - began - ARRIVAL_SECONDS, answer.status))

    threads = [
        threading.Thread(target=trickle, args=(start,))
        for start in (b"POST /predict HTTP/1.1\r\nX-", envelope_head)
        for _ in range(TRICKLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(lateness for lateness, _ in ended), sum(status == 408 for _, status in ended)


def _warm_up(service: RunningService) -> None:
    """Ordinary requests of every size, so that what is grown once is grown."""
    for size in (100, 10_000, 100_000, LIMIT - 1000):
        for kind in ("nextflow", "github-actions", "text"):
            body = ("a: |\n" + "  make x\n" * (size // 9)).encode()
            for _ in range(2):
                start = (
                    head(f"/predict?kind={kind}", "application/yaml", f"Content-Length: {len(body)}")
                    + b"\r\n"
                )
                send(service.port, start, [body])


class _Peak:
    """The most resident bytes seen while inside."""

    def __init__(self, service: RunningService) -> None:
        self._service = service
        self._end = threading.Event()
        self.bytes = 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.bytes = max(self.bytes, self._service.resident_bytes())
