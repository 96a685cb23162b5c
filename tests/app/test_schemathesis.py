"""Generated requests against every route: the OpenAPI document promises what the service answers."""

import asyncio
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings
from loadtest.reliability.contract import check_routes
from tests.app.fakes import TinyCheckpoint, WatchedEngine
from tests.app.outcomes import sqlite_database
from tests.app.serving import served

pytestmark = pytest.mark.anyio


async def test_every_answer_is_one_that_the_document_promises(tmp_path: Path) -> None:
    settings = Settings(**sqlite_database(tmp_path).settings())
    app = create_app(settings, checkpoint=TinyCheckpoint(), engine=WatchedEngine())
    async with served(app) as port:
        reports = await asyncio.to_thread(check_routes, f"http://127.0.0.1:{port}", 80)
    routes = {"POST /predict", "POST /predict/batch", "POST /outcomes", "GET /metrics"}
    assert {report.route for report in reports} >= routes
    for report in reports:
        assert report.failures == {} and report.cases >= 80
        assert all(status < 500 for status in report.statuses)
    predict = next(report for report in reports if report.route == "POST /predict")
    assert {200, 400, 422} <= predict.statuses.keys()
    outcomes = next(report for report in reports if report.route == "POST /outcomes")
    assert {200, 400} <= outcomes.statuses.keys()
