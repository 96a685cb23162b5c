"""An open loop over plain sockets: `python -m loadtest.load.open_loop URL MEASURED --scenario steady --mix hot ...`.

Locust takes a millisecond of a core for a request. An answer that the service keeps takes no longer, so half of what
Locust measures there is Locust. This takes a quarter of that, sends at the same moments the same requests, and knows
nothing but times: no closed loop, no page, no other protocol.
"""

import gc
import json
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import numpy as np
import typer
from httptools import HttpParserError, HttpResponseParser

from loadtest.load.bounds import fault
from loadtest.load.objectives import Measured, Run
from loadtest.load.scenarios import MIXES, SCENARIOS, Due, mix_named, schedule, warm_up
from loadtest.reliability.raw import head

#: Opened beforehand, as many as a backlog may need: clients of a service keep theirs, and opening them is no load.
_CONNECTIONS = 100
_ANSWER_SECONDS, _CHUNK = 60.0, 1 << 16


def address_of(url: str) -> tuple[str, int]:
    """Host and port of a service."""
    host = urlsplit(url)
    return host.hostname or "127.0.0.1", host.port or 80


def post(body: bytes) -> bytes:
    """A request to predict, as it goes over the wire."""
    return head("/predict", "application/json", f"Content-Length: {len(body)}") + b"\r\n" + body


class Connection:
    """One request at a time. due: the moment that the one under way was due."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=_ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self._parser = HttpResponseParser(self)
        self._complete = False

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._complete = True

    def send(self, request: bytes, due: float) -> None:
        """Raises OSError."""
        self.due, self._complete = due, False
        self.socket.sendall(request)  # it fits into the socket's buffer: the one before it was answered

    def receive(self) -> int | None:
        """The status of what came whole; None where more is to come. Raises OSError where none will."""
        data = self.socket.recv(_CHUNK)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise ConnectionError from error
        if self._complete:
            return int(self._parser.get_status_code())
        if not data:
            raise ConnectionError
        return None

    @property
    def goes_on(self) -> bool:
        """Whether the service takes another request on it."""
        return bool(self._parser.should_keep_alive())


@dataclass
class _Loop:
    """planned: requests and their moments, ascending."""

    url: str
    planned: Sequence[Due]
    due: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._address = address_of(self.url)
        self._ready = select.epoll()
        self._all: dict[int, Connection] = {}
        self._free: list[Connection] = []
        self._requests = {body: post(body) for body in {one.body for one in self.planned}}

    def run(self, first: Sequence[bytes], offered: float) -> Run:
        """first: what is asked beforehand, one by one. Raises OSError where the service does not answer that."""
        self._free = [self._connect() for _ in range(_CONNECTIONS)]
        for body in first:
            self._send(post(body), time.perf_counter())
            while len(self._free) < len(self._all):
                self._receive(_ANSWER_SECONDS)
        if self.failures:
            raise ConnectionError(f"warm-up failed: {dict(self.failures)}")
        for kept in (self.due, self.milliseconds, self.late):
            kept.clear()
        gc.collect()
        gc.disable()  # what a load makes is little, and looking for garbage takes time
        began, used = time.perf_counter(), time.process_time()
        self._keep_schedule(began)
        used, seconds = time.process_time() - used, time.perf_counter() - began
        found = Measured.of(self.milliseconds, self.failures, offered, seconds)
        late = float(np.quantile(self.late, 0.99))
        found = replace(found, client_seconds=used / max(found.requests, 1), late_p99=late)
        return Run(found, tuple(self.due), tuple(self.milliseconds), began)

    def _keep_schedule(self, began: float) -> None:
        place = 0
        while place < len(self.planned):
            due = began + self.planned[place].seconds
            if (wait := due - time.perf_counter()) > 0:
                self._receive(wait)
                continue
            self._send(self._requests[self.planned[place].body], due)
            place += 1
        until = time.perf_counter() + _ANSWER_SECONDS
        while len(self._free) < len(self._all) and (wait := until - time.perf_counter()) > 0:
            self._receive(wait)
        if left := len(self._all) - len(self._free):
            self.failures["0"] += left

    def _connect(self) -> Connection:
        connection = Connection(self._address)
        self._ready.register(connection.socket.fileno(), select.EPOLLIN)
        self._all[connection.socket.fileno()] = connection
        return connection

    def _send(self, request: bytes, due: float) -> None:
        self.late.append(1000 * (time.perf_counter() - due))
        try:
            connection = self._free.pop() if self._free else self._connect()
        except OSError:
            self.failures["0"] += 1
            return
        try:
            connection.send(request, due)
        except OSError:
            self.failures["0"] += 1
            self._close(connection)

    def _receive(self, seconds: float) -> None:
        """Take what was answered; wait at most so long for the first."""
        # Unlike epoll, select waits for microseconds, not for whole milliseconds.
        if not select.select([self._ready], [], [], seconds)[0]:
            return
        for number, _ in self._ready.poll(0):
            connection = self._all[number]
            try:
                status = connection.receive()
            except OSError:
                if connection in self._free:  # it had been idle for too long, and owed nothing
                    self._free.remove(connection)
                else:
                    self.failures["0"] += 1
                self._close(connection)
                continue
            if status is None:
                continue
            if status == 200:
                self.milliseconds.append(1000 * (time.perf_counter() - connection.due))
                self.due.append(connection.due)
            else:
                self.failures[str(status)] += 1
            if connection.goes_on:
                self._free.append(connection)
            else:
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Another one is opened when it is needed."""
        self._ready.unregister(connection.socket.fileno())
        del self._all[connection.socket.fileno()]
        connection.socket.close()


def main(
    url: str,
    measured: Annotated[Path, typer.Argument(help="A file for the figures and all times, as JSON.")],
    scenario: str = "steady",
    mix: str = "zipf",
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 20.0,
    seconds: float = 30.0,
    seed: int = 1,
) -> None:
    """Send a schedule, whatever becomes of it; a time counts from the moment at which a request was due."""
    wrong = fault(url, rate=rate, seconds=seconds, clients=1)
    chosen = mix_named(mix)
    if chosen is None or scenario not in SCENARIOS:
        wrong = f"--mix is one of {', '.join(MIXES)}, --scenario of {', '.join(SCENARIOS)}"
    if wrong or chosen is None:
        sys.stderr.write(f"loadtest: {wrong}\n")
        raise typer.Exit(2)
    planned = schedule(scenario, chosen, rate, seconds, seed)
    try:
        run = _Loop(url, planned).run(warm_up(scenario, chosen), len(planned) / seconds)
    except OSError as error:
        sys.stderr.write(f"loadtest: the service does not answer: {type(error).__name__}\n")
        raise typer.Exit(1) from None
    measured.write_text(json.dumps(asdict(run)))


if __name__ == "__main__":
    typer.run(main)
