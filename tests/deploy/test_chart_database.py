"""The chart's PostgreSQL, and one elsewhere, against the service and a real server."""

from typing import Any

import pytest

from tests.deploy.charts import MATRIX, MISSING, SECRET, container, environment, refusal, render, the

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_the_database_is_found_in_every_way(settings_of: Any) -> None:
    def url(scenario: str) -> str | None:
        secret = settings_of(MATRIX[scenario]).database_url
        return secret.get_secret_value() if secret else None

    assert url("defaults") is None
    assert url("database of the chart") == f"postgresql://jobcast:{SECRET}@jobcast-postgres:5432/jobcast"
    assert url("database by secret") == environment(render(MATRIX["database by secret"]))["JOBCAST_DATABASE_URL"]
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
