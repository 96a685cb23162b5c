"""Locust's way to ask, in two loops: `locust -f loadtest/load/locustfile.py --scenario steady --loop open ...`.

    open     one greenlet starts a request at each moment of the schedule, whatever became of those before; a time
             counts from the moment at which the request was due: nobody's waiting is hidden (coordinated omission)
    closed   --users clients, each asking again as soon as it was answered; a time counts from the sending

Statistics, the HTML report and headless mode are Locust's own. Objectives decide the exit status.
"""

import gc
import itertools
import json
import sys
import time
import urllib.request
from argparse import Namespace
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gevent
import numpy as np
from gevent.pool import Group
from locust import FastHttpUser, events, task
from locust.env import Environment

from loadtest.load.bounds import fault
from loadtest.load.objectives import Measured, Objectives, Run
from loadtest.load.scenarios import MIXES, SCENARIOS, endless, schedule, warm_up

_CONNECTIONS, _OPEN_CONNECTIONS = 2000, 100
_ANSWER_SECONDS = 60.0
_LIMITS = ("p50", "p95", "p99", "p99_over_p50", "errors", "answered")


class _Record:
    """What Locust's rounded statistics do not keep: exact times, in milliseconds, and when each request was due."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.due: list[float] = []
        self.late: list[float] = []
        self.failures: Counter[str] = Counter()
        self.offered = 0.0
        self.began = self.ended = 0.0
        self.used = 0.0

    def begin(self) -> None:
        """Now the first request may be due; what is there already is no garbage, and looking at it takes time."""
        gc.collect()
        gc.freeze()
        self.began, self.used = time.perf_counter(), time.process_time()

    def run(self) -> Run:
        used = time.process_time() - self.used
        seconds = self.ended - self.began
        offered = self.offered or len(self.milliseconds) / seconds
        found = Measured.of(self.milliseconds, self.failures, offered, seconds)
        late = float(np.quantile(self.late, 0.99)) if self.late else 0.0
        found = replace(found, client_seconds=used / max(found.requests, 1), late_p99=late)
        return Run(found, tuple(self.due), tuple(self.milliseconds), self.began)


_record = _Record()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="steady")
    parser.add_argument("--mix", choices=MIXES, default="zipf")
    parser.add_argument("--loop", choices=("open", "closed"), default="open")
    parser.add_argument("--rate", type=float, default=20.0, help="Open loop: requests a second.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--measured", default="", help="A file for the exact figures, as JSON.")
    parser.add_argument("--allow-remote", action="store_true", help="Other machines than this one.")
    for name in _LIMITS:
        default = {"errors": 0.0, "answered": 0.95}.get(name)
        parser.add_argument(f"--objective-{name.replace('_', '-')}", type=float, default=default)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _check(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    if options is None:
        return
    wrong = fault(
        environment.host or LoadUser.host,
        rate=options.rate,
        seconds=options.seconds,
        clients=options.num_users or 1,
        remote=options.allow_remote,
    )
    if wrong:
        sys.stderr.write(f"loadtest: {wrong}\n")
        sys.exit(2)


class LoadUser(FastHttpUser):
    """In an open loop the first user keeps the schedule and the others have nothing to do."""

    host = "http://127.0.0.1:8080"
    concurrency = _CONNECTIONS
    network_timeout = connection_timeout = _ANSWER_SECONDS
    _counter = itertools.count()
    _closed: Any = None

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self._first = next(LoadUser._counter) == 0
        if self._first:
            try:
                for body in warm_up(options.scenario, options.mix):
                    self._quietly(body)
                if options.loop == "open":
                    self._connect()
            except OSError as error:
                sys.stderr.write(f"loadtest: the service does not answer: {type(error).__name__}\n")
                self.environment.process_exit_code = 1
                self._end()
            LoadUser._closed = endless(options.scenario, options.mix, options.seed)
            _record.begin()
        while not _record.began:
            gevent.sleep(0.01)

    @task
    def load(self) -> None:
        options = self.environment.parsed_options
        if options.loop == "open":
            if self._first:
                self._keep_schedule(options)
            gevent.sleep(1)
        elif time.perf_counter() < _record.began + options.seconds:
            due = next(LoadUser._closed)
            self._ask(due.body, due.name, time.perf_counter())
        elif self._first:
            self._end()

    def _keep_schedule(self, options: Namespace) -> None:
        planned = schedule(options.scenario, options.mix, options.rate, options.seconds, options.seed)
        _record.offered = len(planned) / options.seconds
        asking = Group()
        _record.begin()
        start = _record.began
        for due in planned:
            if (wait := start + due.seconds - time.perf_counter()) > 0:
                gevent.sleep(wait)  # what is overdue goes out at once, not one by one between the answers
            asking.spawn(self._ask, due.body, due.name, start + due.seconds)
        asking.join(timeout=_ANSWER_SECONDS)
        if len(asking):  # nobody answered these
            _record.failures["0"] += len(asking)
            _record.ended = time.perf_counter()
        self._end()

    def _ask(self, body: bytes, name: str, due: float) -> None:
        _record.late.append(1000 * (time.perf_counter() - due))
        headers = {"Content-Type": "application/json"}
        with self.client.post(
            "/predict", data=body.decode(), headers=headers, name=name, catch_response=True
        ) as answer:
            _record.ended = time.perf_counter()
            answer.request_meta["response_time"] = 1000 * (_record.ended - due)
            if answer.status_code == 200:
                _record.due.append(due)
                _record.milliseconds.append(answer.request_meta["response_time"])
                answer.success()
            else:
                _record.failures[str(answer.status_code or 0)] += 1
                answer.failure(f"status {answer.status_code}")

    def _connect(self) -> None:
        """As many connections as a backlog may need: clients of a service keep theirs, and opening them is no load."""
        asking = Group()
        for _ in range(_OPEN_CONNECTIONS):
            asking.spawn(lambda: self.client.client.urlopen(f"{self.host}/health/live").read())
        asking.join(timeout=_ANSWER_SECONDS)

    def _quietly(self, body: bytes) -> None:
        """Beside the statistics."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.host}/predict", body, headers)
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            answer.read()

    def _end(self) -> None:
        gevent.spawn(self.environment.runner.quit)
        gevent.sleep(_ANSWER_SECONDS)


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def _judge(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    if options is None or not _record.began:
        return
    run = _record.run()
    if options.measured:
        Path(options.measured).write_text(json.dumps(asdict(run)))
    objectives = Objectives(**{name: getattr(options, f"objective_{name}") for name in _LIMITS})
    missed = list(objectives.missed(run.measured))
    for sentence in missed:
        sys.stderr.write(f"loadtest: missed: {sentence}\n")
    environment.process_exit_code = 1 if missed else 0
