"""What the vLLM engines are made of, without vLLM: walks, asks, requests, and the engine that asks servers."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.decoding import quantile_walk, run_walk
from model.engines.base import Query
from model.engines.fake import FakeEngine
from model.engines.sampling import joint_draws
from model.engines.vllm.alphabet import Alphabet
from model.engines.vllm.asks import Ask, ask_of
from model.engines.vllm.requests import forecasts_of, requests_of
from model.engines.vllm.server import RetryBudget, ServerSettings, VllmServerEngine
from model.engines.vllm.walks import ENDED, Walks
from model.errors import EngineUnavailable
from model.evidence.expert import Evidence
from model.numbers import NumberCode, Prefix
from tests.model.jobs_fixtures import encoder

TARGETS = ("runtime_seconds", "peak_memory_bytes", "cpu_cores")


def alphabet_of(code: NumberCode) -> Alphabet:
    """Token ids from 100 on, each position's symbols among shared ones, as in a checkpoint."""
    spelled = list(dict.fromkeys(token for p in range(code.length) for token in code.alphabet(p)))
    symbols = tuple(
        np.array([100 + spelled.index(token) for token in code.alphabet(p)]) for p in range(code.length)
    )
    return Alphabet(code, 100, 100 + len(spelled), symbols)


@dataclass
class Model:
    """Logits over an alphabet's tokens that depend on a request and on what it has written."""

    alphabet: Alphabet
    seed: int

    def row(self, request: int, written: Sequence[int]) -> np.ndarray:
        draw = np.random.default_rng([self.seed, request, *written])
        return draw.normal(0, 2, self.alphabet.end - self.alphabet.first)

    def value(self, request: int, tau: float) -> float:
        """By the reference walk."""

        def logits(prefix: Prefix) -> np.ndarray:
            written = [int(self.alphabet.symbols[p][symbol]) for p, symbol in enumerate(prefix)]
            return self.row(request, written)[self.alphabet.columns[len(prefix)]]

        return run_walk(quantile_walk(self.alphabet.code, [tau]), logits)[0]


CODES = [
    NumberCode(),
    NumberCode(-6, 15, (1, 1, 1)),
    NumberCode(widths=(2, 1)),
    NumberCode(-3, 4, (1, 2), signed=True),
]


@settings(max_examples=60)
@given(st.sampled_from(CODES), st.integers(0, 10_000), st.integers(1, 12))
@example(CODES[2], 384, 4)
def test_walks_keep_apart_whatever_order_they_are_advanced_in(code: NumberCode, seed: int, size: int) -> None:
    """Requests at different positions in one batch, in changing order, some computed too early or twice."""
    alphabet = alphabet_of(code)
    model, walks, draw = Model(alphabet, seed), Walks(alphabet), np.random.default_rng(seed)
    asks = [Ask(f"{seed}-{i}", float(draw.uniform(0.001, 0.999))) for i in range(size)]
    written: list[list[int]] = [[] for _ in asks]
    while any(len(tokens) < code.length for tokens in written):
        running = [i for i, tokens in enumerate(written) if len(tokens) < code.length]
        batch = draw.permutation(running)[: draw.integers(1, len(running) + 1)].tolist()
        positions = [len(written[i]) for i in batch]
        # Logits of a prompt that is read only in part, as chunked prefill shows them.
        early = [np.random.default_rng(i).normal(size=alphabet.end - alphabet.first) for i in batch]
        walks.advance([asks[i] for i in batch], [7] * len(batch), positions, np.array(early))
        rows = np.array([model.row(i, written[i]) for i in batch])
        tokens = walks.advance([asks[i] for i in batch], [7] * len(batch), positions, rows)
        for i, token in zip(batch, tokens, strict=True):
            written[i].append(token)
    for i, ask in enumerate(asks):
        expected = model.value(i, ask.tau)
        assert ENDED.pop(ask.name) == pytest.approx(expected, rel=1e-12)
        seen = np.array([model.row(i, written[i][:p]) for p in range(code.length)])
        # The same sums in another order: behind an improbable symbol tau is the difference of two near numbers.
        assert walks.followed(ask.tau, written[i], seen) == pytest.approx(expected, rel=1e-9)


def test_prompts_that_share_a_name_are_walks_of_their_own() -> None:
    alphabet = alphabet_of(NumberCode())
    model, walks, ask = Model(alphabet, 1), Walks(alphabet), Ask("shared", 0.3)
    written: list[list[int]] = [[], []]
    ends = []
    for position in range(alphabet.code.length):
        for prompt in (0, 1):
            row = model.row(prompt, written[prompt])[None]
            written[prompt] += walks.advance([ask], [prompt], [position], row)
            if position == alphabet.code.length - 1:
                ends.append(ENDED.pop("shared"))
    assert ends == pytest.approx([model.value(0, 0.3), model.value(1, 0.3)])


def test_equal_prompts_under_one_name_may_be_at_different_positions() -> None:
    alphabet = alphabet_of(NumberCode())
    model, walks, ask = Model(alphabet, 3), Walks(alphabet), Ask("equal", 0.42)
    ahead: list[int] = []
    behind: list[int] = []
    while len(behind) < alphabet.code.length:
        running = [one for one in (ahead, behind) if len(one) < alphabet.code.length]
        if len(ahead) < 2:  # the second is scheduled two steps later
            running = [ahead]
        rows = np.array([model.row(0, one) for one in running])
        tokens = walks.advance([ask] * len(running), [5] * len(running), [len(one) for one in running], rows)
        for one, token in zip(running, tokens, strict=True):
            one.append(token)
    assert ahead == behind
    assert ENDED.pop("equal") == pytest.approx(model.value(0, 0.42))


@pytest.mark.parametrize("code", CODES)
def test_a_forgotten_walk_writes_a_number_and_says_that_it_is_lost(code: NumberCode) -> None:
    alphabet = alphabet_of(code)
    model, walks, ask = Model(alphabet, 4), Walks(alphabet), Ask("lost", 0.9)
    for position in range(1, code.length):
        (token,) = walks.advance([ask], [0], [position], model.row(0, [])[None])
        assert token in alphabet.symbols[position]
    assert np.isnan(ENDED.pop("lost"))


def test_a_preempted_walk_goes_on_where_it_was() -> None:
    alphabet = alphabet_of(NumberCode())
    model, walks, ask = Model(alphabet, 2), Walks(alphabet), Ask("preempted", 0.7)
    written: list[int] = []
    for position in range(alphabet.code.length):
        for again in range(2):  # the same position once more, after others were served
            (token,) = walks.advance([ask], [0], [position], model.row(0, written)[None])
            walks.advance([Ask(f"other {again}", 0.2)], [1], [0], model.row(9, [])[None])
        written.append(token)
    assert ENDED.pop("preempted") == pytest.approx(model.value(0, 0.7))


def test_tokens_beside_the_walk_are_taken_at_an_edge_and_refused_elsewhere() -> None:
    alphabet = alphabet_of(NumberCode(widths=(1, 1, 1)))
    walks = Walks(alphabet)
    rows = np.zeros((alphabet.code.length, alphabet.end - alphabet.first))
    exponents = len(alphabet.symbols[0])
    edge = 5 / exponents  # between the fifth and the sixth exponent, which are all alike
    low, high = (
        walks.followed(
            edge + side * 1e-9,
            [int(alphabet.symbols[0][4]), *(int(alphabet.symbols[p][9]) for p in (1, 2, 3))],
            rows,
        )
        for side in (-1, 1)
    )
    assert low == pytest.approx(high, rel=1e-3)
    wrong = [int(alphabet.symbols[0][2]), *(int(alphabet.symbols[p][9]) for p in (1, 2, 3))]
    for tokens in (wrong, [1, 2, 3, 4], wrong[:2]):
        with pytest.raises((EngineUnavailable, ValueError)):
            walks.followed(0.9, tokens, rows[: len(tokens)])


def params(n: int = 1, temperature: float = 0.0, **extra: Any) -> Any:
    return SimpleNamespace(extra_args=extra or None, n=n, temperature=temperature)


def test_an_ask_is_read_back_and_a_bad_one_is_refused() -> None:
    ask = Ask("a", 0.25)
    assert ask_of(params(**ask.to_extra_args())) == ask
    assert ask_of(params()) is ask_of(params(other=1)) is None
    sound = ask.to_extra_args()
    bad: list[Mapping[str, Any]] = [
        *({**sound, "jobcast_tau": tau} for tau in (0, 1, 1.5, -0.1, "0.5", None, True, float("nan"))),
        *({**sound, "jobcast_id": name} for name in ("", "x" * 65, 7, None)),
        *({**sound, **more} for more in ({"n": 2}, {"temperature": 0.7})),
        {"jobcast_tau": 0.5},
        {"jobcast_id": "a"},
    ]
    for wrong in bad:
        with pytest.raises(ValueError, match="must be"):
            ask_of(params(**wrong))


def some_prompt(seed: int, length: int = 20) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(60, 500, length).tolist())


QUERIES = [
    Query(some_prompt(0), TARGETS, (0.5, 0.1, 0.9)),
    Query(some_prompt(1), ("cpu_cores",), (0.5,), {"runtime_seconds": 12.0}),
    Query((*some_prompt(2), *encoder().evidence_ids(Evidence({"cpu_cores": 2.0}, 3))), TARGETS, (0.2, 0.8)),
]


def test_a_query_is_a_request_per_target_and_quantile() -> None:
    one = encoder()
    requests = list(requests_of(QUERIES, one))
    assert len(requests) == 9 + 1 + 6
    assert requests[9].tokens == (
        *QUERIES[1].prompt,
        *one.given_ids({"runtime_seconds": 12.0}),
        one.target_ids["cpu_cores"],
    )
    scaled = [request.scale for request in requests if request.scale != 1.0]
    assert scaled == [pytest.approx(2.0, rel=1e-2)] * 2
    # Walks of one target see logits of different batches: values a hair apart are put in order.
    values = [float(i) for i in range(len(requests))]
    first, second, third = forecasts_of(QUERIES, requests, values, 0.1, 0.2)
    assert first.values["runtime_seconds"] == (1.0, 1.0, 2.0)
    assert second.values == {"cpu_cores": (9.0,)}
    assert third.values["cpu_cores"] == (14 * scaled[0], 15 * scaled[0])


def test_joint_draws_follow_the_conditionals() -> None:
    class Watched(FakeEngine):
        def logits(self, query: Query, target: str, prefix: Prefix) -> np.ndarray:
            if target == "cpu_cores" and not prefix:  # as large as the runtime is: known from `given`
                row = np.full(self.code.sizes[0], -50.0)
                row[self.code.encode(query.given["runtime_seconds"])[0]] = 0.0
                return row
            return super().logits(query, target, prefix)

    engine = Watched()
    engine.start()
    query = Query(some_prompt(5), ("runtime_seconds", "cpu_cores"), ())
    drawn = joint_draws(engine, query, 400, np.random.default_rng(0))
    assert {name: len(values) for name, values in drawn.items()} == {"runtime_seconds": 400, "cpu_cores": 400}
    sizes = [np.floor(np.log10(drawn[name])) for name in query.targets]
    assert len(set(sizes[0].tolist())) > 1
    assert (sizes[0] == sizes[1]).all()
    # The first target is drawn from its own distribution.
    taus = np.linspace(0.05, 0.95, 19)
    (exact,) = engine.predict([Query(query.prompt, ("runtime_seconds",), tuple(taus.tolist()))])
    below = (drawn["runtime_seconds"] <= np.array(exact.values["runtime_seconds"])[:, None]).mean(axis=1)
    assert np.abs(below - taus).max() < 0.08


# Servers


@dataclass
class Backend:
    """Answers as a vLLM server with our processor would, from the fake engine's logits."""

    model: str = "v1"
    status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    alive: bool = True
    drop: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        alphabet, fake = Alphabet.of(encoder()), FakeEngine()
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            walks, written, seen = Walks(alphabet), [], []
            ask = ask_of(params(**body["vllm_xargs"]))
            assert ask is not None
            for position in range(body["max_tokens"]):
                row = np.full(alphabet.end - alphabet.first, -20.0)
                prefix = tuple(
                    int(np.flatnonzero(alphabet.symbols[p] == token)[0]) for p, token in enumerate(written)
                )
                row[alphabet.columns[position]] = fake.logits(
                    Query(tuple(prompt[:-1]), (), ()), str(prompt[-1]), prefix
                )
                written += walks.advance([ask], [index], [position], row[None])
                seen.append(row)
            ENDED.pop(ask.name)
            choices.append(
                {
                    "index": index,
                    "logprobs": {
                        "tokens": [f"token_id:{token}" for token in written],
                        "top_logprobs": [
                            {f"token_id:{alphabet.first + i}": float(v) for i, v in enumerate(row)}
                            for row in seen
                        ],
                    },
                }
            )
        return {"choices": choices[::-1]}  # the order is in the index


@contextmanager
def running(backend: Backend) -> Iterator[Backend]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200 if backend.alive else 503, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            backend.asked.append({**body, "authorization": self.headers.get("Authorization")})
            if backend.drop:
                self.connection.close()
            elif body["model"] != backend.model:
                self.answer(404, {})
            else:
                self.answer(backend.status, backend.complete(body) if backend.status == 200 else {})

        def answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    backend.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield backend
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asking(*backends: Backend, **chosen: Any) -> VllmServerEngine:
    given = {"start_seconds": 5.0, "connect_seconds": 1.0, **chosen}
    return VllmServerEngine(encoder(), ServerSettings(tuple(one.url for one in backends), "v1", **given))


def expected(query: Query) -> dict[str, list[float]]:
    one, fake = encoder(), FakeEngine()
    found = {}
    for target in query.targets:
        ask, scale = one.ask(target, one.estimates(query.prompt))
        prompt = (*query.prompt, *one.given_ids(query.given))
        values = run_walk(
            quantile_walk(fake.code, query.quantiles),
            lambda prefix, p=prompt, a=ask: fake.logits(Query(p, (), ()), str(a), prefix),  # type: ignore[misc]
        )
        found[target] = [scale * value for value in values]
    return found


def test_servers_answer_with_the_exact_quantiles_in_turn() -> None:
    with running(Backend()) as first, running(Backend()) as second:
        engine = asking(first, second, api_key="k")
        assert not engine.health()
        engine.start()
        assert engine.health()
        for _ in range(2):
            for query, forecast in zip(QUERIES, engine.predict(QUERIES), strict=True):
                wanted = expected(query)
                assert {t: pytest.approx(v) for t, v in wanted.items()} == forecast.values
        assert first.asked and second.asked
        assert {one["authorization"] for one in first.asked} == {"Bearer k"}
        names = [one["vllm_xargs"]["jobcast_id"] for one in (*first.asked, *second.asked)]
        assert len(set(names)) == len(names)  # no two requests share their walks
        engine.close()
        assert not engine.health()
        with pytest.raises(EngineUnavailable):
            engine.predict(QUERIES)


@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}, {"status": 503}])
def test_a_failing_back_end_is_left_alone_and_its_batch_tried_elsewhere(fault: dict[str, Any]) -> None:
    with running(Backend()) as sound, running(Backend()) as broken:
        engine = asking(sound, broken)
        engine.start()
        for name, value in fault.items():
            setattr(broken, name, value)
        broken.alive = False
        before = len(broken.asked)
        for _ in range(4):
            (forecast,) = engine.predict(QUERIES[:1])
            assert set(forecast.values) == set(TARGETS)
        assert len(broken.asked) - before <= 3  # one batch of three quantiles found it out
        engine.close()


def test_without_a_back_end_there_is_an_error_and_retries_have_a_budget() -> None:
    with running(Backend()) as only:
        engine = asking(only, retries_at_start=1)
        engine.start()
        only.status = 500
        before = len(only.asked)
        for _ in range(5):
            with pytest.raises(EngineUnavailable, match="no vLLM server"):
                engine.predict(QUERIES[1:2])
        assert len(only.asked) - before <= 5 + 1 + 1  # the first attempts, and what the budget allows
        engine.close()
    budget = RetryBudget(0.1, 2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(11):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]


def test_a_server_of_another_checkpoint_or_none_is_refused_at_the_start() -> None:
    with running(Backend(model="v2")) as other, pytest.raises(EngineUnavailable, match="this checkpoint"):
        asking(other).start()
    with running(Backend(alive=False)) as down, pytest.raises(EngineUnavailable, match="no vLLM server"):
        asking(down, start_seconds=0.1).start()
    with pytest.raises(ValueError, match="URL"):
        VllmServerEngine(encoder(), ServerSettings((), "v1"))
