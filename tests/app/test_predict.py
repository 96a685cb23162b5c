"""POST /predict: what is asked is what is answered."""

import httpx
import pytest

from app.api.schemas import PredictResponse
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, ask, running

pytestmark = pytest.mark.anyio

FLOW = {"kind": "flow", "config": "lint: ruff\nbuild: make\ntest: pytest"}


async def test_a_single_job_gets_every_target_with_the_default_quantiles(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/predict", json=ask())).json()
    PredictResponse.model_validate(answer)
    assert answer["model"] == {"name": "tiny", "version": "sha256:tiny"}
    assert "workflow" not in answer
    (job,) = answer["predictions"]
    assert (job["name"], job["scope"], job["needs"], job["source"]) == ("text", "job", [], "model")
    for target in ("runtime_seconds", "peak_memory_bytes", "cpu_cores"):
        assert list(job[target]) == ["0.1", "0.5", "0.9"]
        assert sorted(job[target].values()) == list(job[target].values())
    assert job["support"]["runtime_seconds"] == {"trained": True, "records": 7}
    assert job["support"]["novelty"] == 0.25
    assert job["input"]["tokens"] > 0
    assert job["warnings"] == ["no peak_memory_bytes of scope job was in the training data of kind text"]


async def test_a_workflow_answers_for_the_whole_run_and_for_its_jobs(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/predict", json=FLOW)).json()
    PredictResponse.model_validate(answer)
    direct = answer["workflow"]["direct"]
    assert direct["source"] == "model"
    assert direct["support"]["runtime_seconds"] == {"trained": False, "records": 0}
    assert direct["warnings"] == [
        "a part was left out",
        "no record of scope workflow was in the training data of kind flow",
    ]
    assert answer["workflow"]["composed"] is None
    assert [job["name"] for job in answer["predictions"]] == ["lint", "build", "test"]
    assert answer["predictions"][2]["needs"] == ["lint", "build"]


async def test_all_jobs_of_a_workflow_ride_in_one_engine_call(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    await client.post("/predict", json=FLOW)
    assert [len(batch) for batch in engine.batches] == [4]


async def test_equal_jobs_of_a_matrix_are_computed_once(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    config = "\n".join(f"job {place}: make" for place in range(200))
    answer = (await client.post("/predict", json={"kind": "flow", "config": config})).json()
    assert len(answer["predictions"]) == 200
    assert [len(batch) for batch in engine.batches] == [2]  # the workflow and the one distinct job


async def test_one_job_of_a_workflow_is_answered_alone(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/predict", json=FLOW | {"job": "build"})).json()
    assert "workflow" not in answer
    assert [job["name"] for job in answer["predictions"]] == ["build"]
    assert answer["predictions"][0]["warnings"][0] == "a part was left out"


async def test_the_only_job_may_be_named(client: httpx.AsyncClient) -> None:
    assert (await client.post("/predict", json=ask(job="text"))).status_code == 200


async def test_quantile_keys_are_shortest_decimals_and_the_median_stays_inside(
    client: httpx.AsyncClient, checkpoint: TinyCheckpoint
) -> None:
    body = ask(quantiles=[0.99, 0.25, 0.00001], targets=["cpu_cores"])
    (job,) = (await client.post("/predict", json=body)).json()["predictions"]
    assert list(job["cpu_cores"]) == ["0.00001", "0.25", "0.99"]
    assert "runtime_seconds" not in job
    assert "runtime_seconds" not in job["support"]
    assert checkpoint.calibrated == [(0.00001, 0.25, 0.5, 0.99)]


async def test_given_targets_condition_the_rest(client: httpx.AsyncClient, engine: WatchedEngine) -> None:
    (job,) = (await client.post("/predict", json=ask(given={"cpu_cores": 2}))).json()["predictions"]
    assert "cpu_cores" not in job
    assert "runtime_seconds" in job
    assert engine.batches[0][0].given == {"cpu_cores": 2.0}


async def test_history_reaches_the_job_it_names(
    client: httpx.AsyncClient, checkpoint: TinyCheckpoint
) -> None:
    history = [
        {"runtime_seconds": 300, "peak_memory_bytes": None, "age_seconds": 60, "job": None},
        {"runtime_seconds": 20, "age_seconds": 60, "same_config": True, "status": "timeout", "job": "build"},
    ]
    response = await client.post("/predict", json=FLOW | {"history": history})
    assert response.status_code == 200
    histories = {job.name: job.history for job in checkpoint.prompted}
    assert dict(histories["flow"][0].values) == {"runtime_seconds": 300.0}
    assert histories["flow"][0].complete
    assert histories["build"][0].same_config is True
    assert not histories["build"][0].complete
    assert histories["lint"] == histories["test"] == ()


@pytest.mark.parametrize(
    "media",
    ["application/yaml", "application/x-yaml; charset=UTF-8", "text/yaml", "text/x-yaml", "text/plain"],
)
async def test_the_file_itself_is_accepted_with_query_parameters(
    client: httpx.AsyncClient, media: str, checkpoint: TinyCheckpoint
) -> None:
    query = "kind=text&targets=cpu_cores,runtime_seconds&quantiles=0.5,0.95&event=push&repository=octo/app"
    response = await client.post(f"/predict?{query}", content="all: test", headers={"Content-Type": media})
    (job,) = response.json()["predictions"]
    assert list(job["runtime_seconds"]) == ["0.5", "0.95"]
    assert "peak_memory_bytes" not in job
    assert checkpoint.prompted[0].context == {"event": "push", "repository": "octo/app"}


async def test_both_forms_of_one_config_get_one_answer(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    await client.post("/predict", json=ask("all: test"))
    raw = await client.post(
        "/predict?kind=text", content="all: test", headers={"Content-Type": "application/yaml"}
    )
    assert raw.json()["predictions"][0]["source"] == "cache"
    assert len(engine.batches) == 1


async def test_every_answer_says_its_id_and_times(client: httpx.AsyncClient) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    response = await client.post(
        "/predict", json=ask(), headers={"X-Request-Id": "build-42", "traceparent": trace}
    )
    assert response.json()["request_id"] == response.headers["X-Request-Id"] == "build-42"
    assert response.headers["traceparent"] == trace
    assert float(response.headers["X-Queue-Time-Ms"]) >= 0
    assert float(response.headers["X-Inference-Time-Ms"]) > 0


@pytest.mark.parametrize("taken", ["", "a b", "x" * 129, "né".encode("latin-1")])
async def test_a_request_id_that_is_not_plain_is_replaced(
    client: httpx.AsyncClient, taken: str | bytes
) -> None:
    response = await client.get("/health/live", headers={b"X-Request-Id": taken})  # type: ignore[dict-item]
    assert len(response.headers["X-Request-Id"]) == 32


async def test_a_batch_isolates_its_bad_items(client: httpx.AsyncClient, engine: WatchedEngine) -> None:
    bad = [{"kind": "text"}, 7, ask("!bug"), {"kind": "no", "config": ""}, ask(targets=["gpu"])]
    response = await client.post("/predict/batch", json={"requests": [ask("a"), *bad, ask("b")]})
    assert response.status_code == 200
    first, *problems, last = response.json()["responses"]
    assert [one["predictions"][0]["name"] for one in (first, last)] == ["text", "text"]
    assert [one["code"] for one in problems] == [
        "malformed_body",
        "malformed_body",
        "internal",
        "unknown_kind",
        "unknown_target",
    ]
    assert [one["status"] for one in problems] == [400, 400, 500, 422, 422]
    assert sum(len(batch) for batch in engine.batches) == 2


async def test_a_batch_has_a_limit(make_app: MakeApp) -> None:
    async with running(make_app(max_batch_items=2)) as client:
        response = await client.post("/predict/batch", json={"requests": [ask()] * 3})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")
    assert "2" in response.json()["detail"]


async def test_a_run_that_was_cut_off_raises_the_answer_above_it(
    client: httpx.AsyncClient, checkpoint: TinyCheckpoint
) -> None:
    """In a single prediction as in a batch, with the quantiles that were asked for."""
    usual = (await client.post("/predict", json=ask(targets=["runtime_seconds"]))).json()["predictions"][0]
    bound = 1000 * usual["runtime_seconds"]["0.9"]
    killed = {"runtime_seconds": bound, "age_seconds": 60.0, "status": "timeout"}
    question = ask(targets=["runtime_seconds"], history=[killed])
    single = (await client.post("/predict", json=question)).json()["predictions"][0]
    batch = (await client.post("/predict/batch", json={"requests": [question]})).json()["responses"][0]
    for answer in (single, batch["predictions"][0]):
        values = answer["runtime_seconds"]
        assert list(values) == ["0.1", "0.5", "0.9"]
        assert bound <= values["0.1"] < values["0.5"] < values["0.9"]
        assert answer["input"]["past_runs"] == 1
    # Once a run has ended, what came before it counts no more.
    ended = {"runtime_seconds": 3.0, "age_seconds": 30.0}
    later = (
        await client.post("/predict", json=ask(targets=["runtime_seconds"], history=[ended, killed]))
    ).json()
    assert later["predictions"][0]["runtime_seconds"]["0.9"] < bound


async def test_targets_that_no_past_run_tells_of_are_asked_about_without_any(
    client: httpx.AsyncClient, engine: WatchedEngine
) -> None:
    runs = [{"runtime_seconds": 3.0, "cpu_cores": 0.0, "age_seconds": 60.0}]  # zero: nobody measured it
    bare = (await client.post("/predict", json=ask())).json()["predictions"][0]
    known = (await client.post("/predict", json=ask(history=runs))).json()["predictions"][0]
    assert known["runtime_seconds"] != bare["runtime_seconds"]
    assert known["peak_memory_bytes"] == bare["peak_memory_bytes"]
    assert known["cpu_cores"] == bare["cpu_cores"]
    assert [query.targets for query in engine.batches[-1]] == [
        ("runtime_seconds",),
        ("peak_memory_bytes", "cpu_cores"),
    ]
    batch = (await client.post("/predict/batch", json={"requests": [ask(history=runs)]})).json()["responses"][
        0
    ]
    assert batch["predictions"][0]["peak_memory_bytes"] == known["peak_memory_bytes"]
    assert batch["predictions"][0]["source"] == "cache"
