"""The alerting rules: promtool's own unit tests, that each alert has one, and that their series exist."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest.prometheus_server import MISSING
from tests.app.series import SERIES
from tests.deploy import charts
from tests.deploy.charts import CHART, MATRIX, ROOT, of_kind, render

RULES = CHART / "monitoring" / "rules.yaml"
UNIT_TESTS = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
needs_promtool = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_finds_nothing_to_object_to() -> None:
    done = promtool("check", "rules", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stderr


@needs_promtool
@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_stay_silent_as_their_unit_tests_say(file: Path) -> None:
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_a_unit_test_notices_a_rule_that_never_fires(tmp_path: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    broken = RULES.read_text().replace("jobcast_engine_up) == 0", "jobcast_engine_up) == 2")
    assert broken != RULES.read_text()
    (tmp_path / "rules.yaml").write_text(broken)
    unit_test = (Path(__file__).parent / "rules" / "engine.yaml").read_text()
    (tmp_path / "engine.yaml").write_text(re.sub(r"\[.*/rules\.yaml\]", "[rules.yaml]", unit_test))
    assert promtool("test", "rules", tmp_path / "engine.yaml").returncode != 0


def test_every_alert_has_a_unit_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    expected: dict[bool, set[str]] = {True: set(), False: set()}
    for file in UNIT_TESTS:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for case in group.get("alert_rule_test", []):
                expected[bool(case["exp_alerts"])].add(case["alertname"])
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert expected == {True: alerts, False: alerts}


def test_every_series_of_the_rules_is_the_services_own() -> None:
    told = {rule["record"] for rule in rules() if "record" in rule} | {"up"}
    # There where a Redis and a database are.
    told |= {"jobcast_shared_cache_up", "jobcast_database_up"}
    histograms = {name.removesuffix("_bucket") for name in SERIES if name.endswith("_bucket")}
    told |= SERIES.keys() | {f"{name}_{end}" for name in histograms for end in ("sum", "count")}
    for rule in rules():
        for name in re.findall(r"\bjobcast[\w:]+", re.sub(r"\"[^\"]*\"", "", rule["expr"])):
            assert name in told, name


def test_the_page_on_deployment_says_what_to_do_about_each_alert() -> None:
    page = (ROOT / "docs" / "deployment.md").read_text()
    rows = re.findall(r"^\| (`Jobcast.*?) \| (?:page|ticket)", page, re.M)
    told = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(told) == sorted(rule["alert"] for rule in rules() if "alert" in rule)


def test_every_alert_says_how_urgent_it_is_and_what_it_means() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(bool(charts.MISSING), reason=charts.MISSING)
def test_the_chart_ships_the_rules_as_they_are() -> None:
    (shipped,) = of_kind(render(MATRIX["watched"]), "PrometheusRule")
    assert shipped["apiVersion"] == "monitoring.coreos.com/v1"
    assert shipped["spec"] == yaml.safe_load(RULES.read_text())
    assert shipped["metadata"]["labels"]["release"] == "prometheus"
