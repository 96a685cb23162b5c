"""Every query of the dashboard against a real Prometheus that scrapes the running service under load."""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest

from loadtest import prometheus_server, redis_server
from loadtest.ports import free_port
from loadtest.prometheus_server import PrometheusServer
from loadtest.reliability.running import RunningService, running_service
from model.targets import DEFAULT_TARGETS
from tests.app.collector import running_collector
from tests.deploy import charts
from tests.deploy.charts import CHART, MATRIX, ROOT, render, the

MISSING = prometheus_server.MISSING or redis_server.MISSING
needs_servers = pytest.mark.skipif(bool(MISSING), reason=MISSING)
DASHBOARD = json.loads((CHART / "monitoring" / "dashboard.json").read_text())
#: Grafana's variables, as they stand when everything is chosen.
VARIABLES = {"$namespace": ".*", "$job": ".*", "$__rate_interval": "15s"}
TARGETS = [target.name for target in DEFAULT_TARGETS]
TRACE = "0af7651916cd43dd8448eb211c80319c"


def queries() -> list[tuple[str, str]]:
    """Title of the panel and query, of every target of every panel."""
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found.append((panel["title"], expression))
    return found


@dataclass(frozen=True)
class Watched:
    service: RunningService
    prometheus: PrometheusServer


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Compose's own Prometheus configuration, every second instead of every fifteen."""
    database = f"sqlite:///{tmp_path_factory.mktemp('outcomes')}/outcomes.db"
    metrics_port = free_port()
    configuration = (ROOT / "docker" / "prometheus" / "prometheus.yml").read_text()
    for given, chosen in {
        "/etc/prometheus/rules.yaml": str(CHART / "monitoring" / "rules.yaml"),
        "jobcast:9090": f"127.0.0.1:{metrics_port}",
        "15s": "1s",
    }.items():
        assert given in configuration
        configuration = configuration.replace(given, chosen)
    with redis_server.redis_server() as redis, running_collector() as collector:
        settings = {"redis_url": redis.url, "database_url": database, "database_timeout_ms": 2000}
        settings |= {"metrics_port": metrics_port, "otlp_endpoint": collector.url}
        with (
            running_service({"engine": "fake", **settings}) as service,
            prometheus_server.prometheus_server(configuration) as prometheus,
        ):
            yield Watched(service, prometheus)


def ask(service: RunningService, place: int) -> int:
    """Every other question is a new one, so that both the cache and the engine have something to do.

    What the job took is what was predicted for it.
    """
    headers = {"Content-Type": "text/plain", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    answer = httpx.post(
        f"{service.url}/predict?kind=text",
        content=f"make {place if place % 2 else 0}",
        headers=headers,
        timeout=20,
    )
    told = answer.json()
    outcome = {target: told["predictions"][0][target]["0.5"] for target in TARGETS}
    taken = httpx.post(
        f"{service.url}/outcomes",
        json={"outcomes": [{"request_id": told["request_id"], **outcome}]},
        timeout=20,
    )
    # A machine that is busy enough makes the database late; the next question's outcome finds it again.
    assert taken.status_code == 503 or taken.json() == {"outcomes": [{"status": "accepted"}]}
    return answer.status_code


@needs_servers
def test_every_query_returns_data_from_a_service_under_load(watched: Watched) -> None:
    told = queries()
    assert len(told) > 20
    until = time.monotonic() + 60
    missing = told
    with ThreadPoolExecutor(2) as threads:
        # A rate wants two scrapes with requests between them, and the recording rules come after that.
        for first in itertools.count(0, 30):
            if not missing or time.monotonic() > until:
                break
            asked = threads.map(lambda place: ask(watched.service, place), range(first, first + 30))
            assert set(asked) == {200}
            missing = [one for one in missing if not _has_data(watched.prometheus, one[1])]
    assert missing == []


def _has_data(prometheus: PrometheusServer, expression: str) -> bool:
    return any(sample["value"][1] != "NaN" for sample in prometheus.query(expression))


@needs_servers
def test_a_point_of_the_latency_panel_leads_to_a_trace(watched: Watched) -> None:
    (panel,) = [one for one in DASHBOARD["panels"] if one["title"] == "Duration of /predict"]
    assert all(target["exemplar"] for target in panel["targets"])
    (expression, *_) = [query for title, query in queries() if title == panel["title"]]
    began, until = time.time() - 300, time.monotonic() + 30
    found: set[str] = set()
    while not found and time.monotonic() < until:
        ask(watched.service, 0)
        series = watched.prometheus.exemplars(expression, began, time.time() + 5)
        found = {exemplar["labels"]["trace_id"] for one in series for exemplar in one["exemplars"]}
        time.sleep(0.2)
    assert found == {TRACE}


@needs_servers
def test_a_service_that_is_well_fires_no_alert(watched: Watched) -> None:
    ask(watched.service, 0)
    time.sleep(2)
    assert watched.prometheus.query("count(ALERTS)") == []
    assert watched.prometheus.query("jobcast:predict_errors:ratio_rate5m")[0]["value"][1] == "0"


def test_every_panel_says_what_it_shows_and_none_covers_another() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


@pytest.mark.skipif(bool(charts.MISSING), reason=charts.MISSING)
def test_the_chart_ships_the_dashboard_as_it_is() -> None:
    shipped = the(render(MATRIX["watched"]), "ConfigMap", "jobcast-dashboard")
    assert json.loads(shipped["data"]["jobcast.json"]) == DASHBOARD
    assert shipped["metadata"]["labels"]["grafana_dashboard"] == "1"
