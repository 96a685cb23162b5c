"""Fixtures: the app over the fakes of fakes.py."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.app.fakes import MakeApp, TinyCheckpoint, WatchedEngine, running, tiny_read
from tests.app.stored import store_checkpoint


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory with everything but real weights."""
    return store_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def engine() -> WatchedEngine:
    return WatchedEngine()


@pytest.fixture
def checkpoint() -> TinyCheckpoint:
    return TinyCheckpoint()


@pytest.fixture
def make_app(engine: WatchedEngine, checkpoint: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> MakeApp:
    """On a machine of four cores, whatever this one has."""
    monkeypatch.setattr("app.build.usable_cores", lambda: 4)

    def make(**settings: Any) -> FastAPI:
        return create_app(
            Settings(drain_seconds=2, **settings), checkpoint=checkpoint, engine=engine, read=tiny_read
        )

    return make


@pytest.fixture
async def client(make_app: MakeApp) -> AsyncIterator[httpx.AsyncClient]:
    async with running(make_app()) as client:
        yield client
