"""No canary comes out: not in answers, headers, logs and metrics, nor in what the model and the cache get to see."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from app.cache import MemoryStore
from app.main import create_app
from app.settings import Settings
from model.checkpoint import Checkpoint
from model.engines.fake import FakeEngine
from model.jobs.job import Job
from model.prompt import Prompt
from tests.app.fakes import MakeApp, TinyCheckpoint, running
from tests.app.outcomes import counted, sqlite_database
from tests.canaries import Canary, leaked
from tests.canary_configs import CONFIGS, Deal
from tests.canary_requests import Sent, requests

pytestmark = pytest.mark.anyio

#: Each round puts another form into each place; loadtest/reliability/canaries.py goes through all of them.
ROUNDS = 6


class WatchedCheckpoint(Checkpoint):
    """The shipped one, with all that it gave the engine to read."""

    texts: list[str]

    @classmethod
    def shipped(cls, path: Path) -> "WatchedCheckpoint":
        loaded = Checkpoint.load(path)
        watched = cls.__new__(cls)
        watched.__dict__.update(loaded.__dict__, texts=[])
        return watched

    def prompt(self, job: Job) -> Prompt:
        prompt = super().prompt(job)
        self.texts.append(prompt.text)
        return prompt


async def send(client: httpx.AsyncClient, sent: Sent) -> httpx.Response:
    return await client.request(
        sent.method, sent.path, content=sent.content, headers=sent.headers, params=sent.parameters
    )


def shown(response: httpx.Response) -> str:
    """All of a response that a client sees."""
    return "\n".join([*(f"{name}: {value}" for name, value in response.headers.items()), response.text])


async def test_no_canary_leaves_the_service_or_reaches_the_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    checkpoint = WatchedCheckpoint.shipped(Settings().checkpoint)
    engine = FakeEngine(checkpoint.manifest.number_code)
    database = sqlite_database(tmp_path)
    settings = Settings(**database.settings(default_deadline_ms=60_000, log_level="debug"))
    app = create_app(settings, checkpoint=checkpoint, engine=engine)
    dealt: list[Canary] = []
    found: list[tuple[str, list[str]]] = []
    answered: Counter[str] = Counter()
    async with running(app) as client:
        for number in range(ROUNDS):
            deal = Deal(number)
            for sent in requests(deal):
                response = await send(client, sent)
                assert response.status_code < 500, (sent.place, response.text)
                answered[sent.place] += response.status_code == 200
                if forms := leaked(deal.dealt, shown(response)):
                    found.append((sent.place, forms))
            dealt += deal.dealt
        metrics = (await client.get("/metrics")).text
        reported = await counted(client, "jobcast_outcomes_total", result="accepted")
    store = app.state.service._cache._store
    assert isinstance(store, MemoryStore)
    kept = {key.hex(): dict(values) for key, values in store._kept.items()}
    assert found == []
    assert leaked(dealt, capsys.readouterr().out) == []
    assert leaked(dealt, metrics) == []
    assert leaked(dealt, "\n".join(checkpoint.texts)) == []
    assert leaked(dealt, repr(kept)) == []
    stored = database.contents().decode("latin-1")
    assert leaked(dealt, stored) == []
    # And the search looked at something: enough secrets, every kind answered, prompts and cache filled.
    assert len({canary.secret for canary in dealt}) == len(dealt) > 2000
    assert {kind for kind in CONFIGS if not answered[f"{kind}, object"]} == set()
    assert len(kept) > 100
    assert reported == 3 * ROUNDS
    assert len(database.rows("SELECT * FROM jobcast_predictions")) > 100
    assert "***" in "\n".join(checkpoint.texts)


async def test_names_are_masked_alike_and_answer_to_both_spellings(make_app: MakeApp) -> None:
    first, second = f"ghp_{'a1B2' * 9}", f"ghp_{'c3D4' * 9}"
    flow = {"kind": "flow", "config": f"build {first}: make\nbuild {second}: make\nplain: make"}
    async with running(make_app()) as client:
        answer = (await client.post("/predict", json=flow)).json()
        names = [(one["name"], one["needs"]) for one in answer["predictions"]]
        assert names == [
            ("build ***", []),
            ("build *** #2", ["build ***"]),
            ("plain", ["build ***", "build *** #2"]),
        ]
        for asked, name in ((f"build {second}", "build *** #2"), ("build *** #2", "build *** #2")):
            one = (await client.post("/predict", json={**flow, "job": asked})).json()["predictions"]
            assert [(unit["name"], unit["needs"]) for unit in one] == [(name, ["build ***"])]
        run = {"runtime_seconds": 1, "age_seconds": 1}
        for asked in (f"build {second}", "build *** #2"):
            history = [{**run, "job": asked}]
            assert (await client.post("/predict", json={**flow, "history": history})).status_code == 200


@pytest.mark.parametrize("taken", ["a1B2" * 9, f"ghp_{'a1B2' * 9}", "AKIAABCDEFGH234567IJ"])
async def test_a_request_id_that_looks_like_a_secret_is_replaced(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    response = await client.get("/models", headers={"X-Request-Id": taken})
    assert response.headers["X-Request-Id"] != taken
    assert taken not in capsys.readouterr().out


async def test_paths_of_errors_end_at_the_first_secret() -> None:
    app = create_app(checkpoint=TinyCheckpoint(), engine=FakeEngine())
    key = f"ghp_{'a1B2' * 9} and so on"
    config: Mapping[str, Sequence[str]] = {"jobs": {f"x {key}": []}}  # type: ignore[dict-item]
    async with running(app) as client:
        response = await client.post("/predict", json={"kind": "github-actions", "config": config})
    assert response.json()["path"] == "jobs.x ***"
