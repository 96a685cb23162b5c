"""The chart's PostgreSQL, and one elsewhere, against the service and a real server."""

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loadtest import postgres_server
from loadtest.ports import free_port
from loadtest.postgres_server import _PROGRAMS
from loadtest.reliability.running import running_service
from tests.deploy.charts import MATRIX, MISSING, SECRET, container, environment, refusal, render, the

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
needs_postgres = pytest.mark.skipif(bool(postgres_server.MISSING), reason=postgres_server.MISSING)
_PASSWORD = "letters0and1digits"


def test_the_database_is_found_in_every_way(settings_of: Any) -> None:
    def url(scenario: str) -> str | None:
        secret = settings_of(MATRIX[scenario]).database_url
        return secret.get_secret_value() if secret else None

    assert url("defaults") is None
    assert url("database of the chart") == f"postgresql://jobcast:{SECRET}@jobcast-postgres:5432/jobcast"
    assert (
        url("database by secret") == environment(render(MATRIX["database by secret"]))["JOBCAST_DATABASE_URL"]
    )
    settings = settings_of(MATRIX["database of the chart"])
    assert (settings.database_connections, settings.outcome_days) == (8, 90)
    assert settings.cache_secret.get_secret_value() == SECRET


def test_the_authority_of_the_databases_certificate_is_mounted_where_postgresql_looks() -> None:
    manifests = render(MATRIX["database by secret"])
    (volume,) = [
        one
        for one in the(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]
        if one.get("secret", {}).get("secretName") == "authority"
    ]
    mounts = {mount["name"]: mount for mount in container(manifests)["volumeMounts"]}
    mounted = mounts[volume["name"]]
    assert environment(manifests)["PGSSLROOTCERT"] == f"{mounted['mountPath']}/ca.crt"
    assert "PGSSLROOTCERT" not in environment(render(MATRIX["database of the chart"]))


def test_the_charts_database_has_connections_for_all_pods(settings_of: Any) -> None:
    """The chart counts with the service's own default."""
    values = dict(MATRIX["database of the chart"], settings={}, replicas=7, workers=2)
    pods_in_a_rollout, kept_for_the_superuser = 7 + 1, 3
    settings = settings_of({**values})
    needed = settings.workers * settings.database_connections * pods_in_a_rollout + kept_for_the_superuser
    database = dict(MATRIX["database of the chart"]["database"])
    arguments = container(
        render({**values, "database": {**database, "maxConnections": needed}}), "jobcast-postgres"
    )["args"]
    assert f"max_connections={needed}" in arguments
    assert str(needed) in refusal({**values, "database": {**database, "maxConnections": needed - 1}})


@needs_postgres
def test_the_charts_database_lets_the_service_in_and_no_superuser() -> None:
    """The rendered files and arguments in a real PostgreSQL, made as the image makes it."""
    with _database_of_the_chart() as (port, logs):
        service: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "dbname": "jobcast",
            "connect_timeout": 5,
        }
        with psycopg.connect(user="jobcast", password=_PASSWORD, **service) as connection:
            told = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            assert connection.execute(told).fetchone() == (False, False, False)
            assert connection.execute("SHOW max_connections").fetchone() == ("100",)
            connection.execute("CREATE TABLE tried ()")
        for name, password in (("jobcast", "another"), ("jobcast", None), ("postgres", _PASSWORD)):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(user=name, password=password, **service)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(user="jobcast", password=_PASSWORD, **{**service, "dbname": "postgres"})
        # What the probes ask, and the answer while it runs.
        probes = container(render(MATRIX["database of the chart"]), "jobcast-postgres")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = [*probes[probe]["exec"]["command"]]
            assert _probed(command, port) == 0, probe
            assert _probed(command, free_port()) != 0, probe

        url = f"postgresql://jobcast:{_PASSWORD}@127.0.0.1:{port}/jobcast"
        with running_service({"engine": "fake", "database_url": url}) as running:
            assert running.metric("jobcast_database_up") == 1
        assert _PASSWORD not in logs.read_text(errors="replace")


def _probed(command: list[str], port: int) -> int:
    """Exit status of a probe, of a server on another port than a pod's."""
    variables = {"PATH": f"{_PROGRAMS}:{os.environ['PATH']}", "PGPORT": str(port)}
    return subprocess.run(command, env=variables, check=False, timeout=20).returncode


@contextmanager
def _database_of_the_chart() -> Iterator[tuple[int, Path]]:
    """Its port, and the file with all that it wrote."""
    manifests = render(MATRIX["database of the chart"])
    files = the(manifests, "ConfigMap", "jobcast-postgres")["data"]
    program, *arguments = container(manifests, "jobcast-postgres")["args"]
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if os.geteuid() == 0 else {}
    port = free_port()
    # A path that the other user may walk, and short enough for a socket's.
    with tempfile.TemporaryDirectory() as directory:
        data, hba, first, logs = (
            Path(directory) / name for name in ("data", "pg_hba.conf", "first.sql", "logs")
        )
        # Whoever runs the tests is the superuser; in the image it is postgres.
        hba.write_text(files["pg_hba.conf"].replace("postgres", user))
        first.write_text(files["first.sql"])
        arguments = [one.replace("/etc/postgresql/pg_hba.conf", str(hba)) for one in arguments]
        for path in (Path(directory), hba, first):
            shutil.chown(path, user)
        variables = {
            "PATH": f"{_PROGRAMS}:{os.environ['PATH']}",
            "POSTGRES_PASSWORD": _PASSWORD,
            "PGHOST": directory,
        }
        variables |= {"PGPORT": str(port), "LC_ALL": "C"}

        def run(*command: str) -> None:
            subprocess.run(
                command, env=variables, cwd="/", check=True, capture_output=True, timeout=60, **as_user
            )

        run("initdb", "--pgdata", str(data), "--username", user, "--encoding", "UTF8", "--no-sync")
        options = [program, "-D", str(data), *arguments, "-c", f"unix_socket_directories={directory}"]
        options += ["-c", "fsync=off", "-c", "shared_buffers=16MB"]
        with (
            logs.open("wb") as log,
            subprocess.Popen(options, env=variables, cwd="/", stdout=log, stderr=log, **as_user) as process,
        ):
            try:
                _wait_for(lambda: _probed(["pg_isready", "--quiet", "--host=127.0.0.1"], port) == 0, process)
                run("createdb", "--username", user, "jobcast")
                run(
                    *("psql", "--set", "ON_ERROR_STOP=1", "--username", user, "--no-password", "--no-psqlrc"),
                    *("--dbname", "jobcast", "--file", str(first)),
                )
                yield port, logs
            finally:
                # As the image asks to be stopped.
                process.send_signal(signal.SIGINT)
                try:
                    assert process.wait(30) == 0
                finally:
                    process.kill()


def _wait_for(reached: Callable[[], bool], process: "subprocess.Popen[bytes]", seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None and time.monotonic() < until, "PostgreSQL did not start"
        time.sleep(0.05)
