"""What the tests of the outcome store share: databases, apps over them, and what is in them."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.postgres_server import MISSING, PostgresServer, postgres_server
from tests.app.series import value_of

#: Far more than the service's own: a slow machine must not look like a broken database.
PATIENCE_MS = 5000.0


@dataclass(frozen=True)
class TestDatabase:
    """An empty database; `rows` sees past the service."""

    __test__ = False

    url: str
    path: Path | None = None
    server: PostgresServer | None = None

    @property
    def sqlite(self) -> bool:
        return self.server is None

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        if self.server is not None:
            return self.server.ask(statement)
        assert self.path is not None
        with sqlite3.connect(self.path) as connection:
            return list(connection.execute(statement))

    def contents(self) -> bytes:
        """All that somebody reads who has the database."""
        if self.server is not None:
            return self.server.contents()
        assert self.path is not None
        return b"".join(file.read_bytes() for file in self.path.parent.glob(f"{self.path.name}*"))

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"database_url": self.url, "database_timeout_ms": PATIENCE_MS, **more}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    if MISSING:
        pytest.skip(MISSING)
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> TestDatabase:
    """Each test runs on both."""
    if request.param == "sqlite":
        return sqlite_database(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    server.ask("DROP TABLE IF EXISTS jobcast_schema, jobcast_predictions, jobcast_outcomes")
    return TestDatabase(server.url, server=server)


def sqlite_database(directory: Path) -> TestDatabase:
    path = directory / "outcomes.db"
    return TestDatabase(f"sqlite:///{path}", path=path)


async def predict(client: httpx.AsyncClient, body: dict[str, object], **headers: str) -> dict[str, Any]:
    response = await client.post("/predict", json=body, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def report(client: httpx.AsyncClient, *outcomes: object, **headers: str) -> list[Any]:
    """The statuses of outcomes that were kept or known, the codes of the others."""
    response = await client.post("/outcomes", json={"outcomes": outcomes}, headers=headers)
    assert response.status_code == 200, response.text
    return [one.get("code", one["status"]) for one in response.json()["outcomes"]]


def past_runs(answer: dict[str, Any]) -> list[int]:
    """Of the workflow, where there is one, and of each job."""
    whole = [answer["workflow"]["direct"]] if "workflow" in answer else []
    return [unit["input"]["past_runs"] for unit in [*whole, *answer["predictions"]]]


async def counted(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    return value_of((await client.get("/metrics")).text, name, **labels)
