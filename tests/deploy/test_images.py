"""Dockerfile and compose file: linted, pinned, locked down, and made of files that are there."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from app.startup import check_exposure, load_settings
from tests.deploy.charts import CHART, ROOT

DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DIGEST = re.compile(r"^[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$")


def tool(name: str) -> str:
    """A command beside the Python that runs the tests, or another one."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


def instructions() -> list[str]:
    """Of the Dockerfile, a line each, without comments."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.M)
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]


def test_hadolint_finds_nothing_to_object_to() -> None:
    done = subprocess.run(
        [tool("hadolint"), DOCKER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_scripts_of_the_build_are_shell_that_parses() -> None:
    for script in DOCKER.glob("*.sh"):
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
        assert script.stat().st_mode & 0o100


def test_every_base_is_pinned_by_a_build_argument() -> None:
    lines = instructions()
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", "\n".join(lines), re.M))
    assert arguments
    assert all(DIGEST.match(image) for image in arguments.values())
    stages = {line.split()[-1] for line in lines if line.startswith("FROM")}
    for line in lines:
        if line.startswith("FROM"):
            base = line.split()[1]
            assert base in stages | {"scratch"} or base.strip("${}") in arguments, line


def test_the_images_run_as_a_user_with_a_number_and_without_rights() -> None:
    users = [line for line in instructions() if line.startswith("USER")]
    assert users[-1] == "USER 10001:10001"
    pods = re.findall(
        r'"jobcast.pod" \(list . (\d+)\)', (CHART / "templates" / "deployment.yaml").read_text()
    )
    assert pods == ["10001"]
    # The last stage is the default, and starts from the one that says so.
    assert instructions()[-2:] == [
        "FROM runtime AS service",
        "COPY --from=cpu-build /opt/jobcast /opt/jobcast",
    ]


def test_what_the_build_copies_is_let_through_to_it() -> None:
    allowed = {
        line[1:]
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = set()
    for line in instructions():
        if line.startswith("COPY") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version
    assert SERVICES["jobcast"]["image"] == f"jobcast:{version}"


def test_the_compose_file_is_valid() -> None:
    command = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_values_schema_is_one() -> None:
    command = [tool("check-jsonschema"), "--check-metaschema", CHART / "values.schema.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_compose_locks_its_services_down(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cpus"] and service["mem_limit"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if name != "jobcast":  # ours is built here; its Dockerfile has user and health check
        assert DIGEST.match(service["image"])
        assert re.fullmatch(r"\d+:\d+", service["user"])
        assert not service["user"].startswith("0:")
        assert service["healthcheck"]
    for volume in service.get("volumes", []):
        source, _, *options = volume.split(":")
        if source not in COMPOSE["volumes"]:
            assert (DOCKER / source).resolve().exists(), source
            assert options == ["ro"]


@pytest.mark.parametrize(("service", "value"), [("redis", "redis"), ("postgres", "database")])
def test_compose_and_chart_use_the_same_images(service: str, value: str) -> None:
    image = yaml.safe_load((CHART / "values.yaml").read_text())[value]["image"]
    assert SERVICES[service]["image"] == f"{image['repository']}:{image['tag']}@{image['digest']}"


def test_composes_stores_are_reached_by_the_service_alone() -> None:
    """They have no passwords."""
    assert COMPOSE["networks"]["stores"]["internal"] is True
    inside = {name for name, service in SERVICES.items() if "stores" in service.get("networks", [])}
    assert inside == {"jobcast", "redis", "postgres"}
    for name in ("redis", "postgres"):
        assert SERVICES[name]["networks"] == ["stores"]
        assert "ports" not in SERVICES[name]
        assert SERVICES["jobcast"]["depends_on"][name] == {"condition": "service_healthy"}


def test_outcomes_outlive_composes_database() -> None:
    (volume,) = SERVICES["postgres"]["volumes"]
    assert volume.partition(":")[0] in COMPOSE["volumes"]
    url = urlsplit(SERVICES["jobcast"]["environment"]["JOBCAST_DATABASE_URL"])
    # The image calls the database as its user, where nothing else is said.
    told = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert (url.hostname, url.username, url.path) == ("postgres", told, f"/{told}")


def test_the_service_accepts_what_compose_and_the_image_set(monkeypatch: pytest.MonkeyPatch) -> None:
    (defaults,) = [line for line in instructions() if line.startswith("ENV PATH")]
    variables = dict(pair.split("=", 1) for pair in defaults.split()[1:])
    variables |= {name: value for name, value in SERVICES["jobcast"]["environment"].items() if value}
    for name, value in variables.items():
        if name.startswith("JOBCAST_"):
            monkeypatch.setenv(name, value)
    settings = load_settings()
    check_exposure(settings)
    assert settings.host == settings.metrics_host == "0.0.0.0"
    grace = int(SERVICES["jobcast"]["stop_grace_period"].removesuffix("s"))
    assert settings.shutdown_grace_seconds + settings.drain_seconds + 10 < grace


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    provisioning = DOCKER / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (link,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert link["name"] == "trace_id"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "jobcast.yaml").read_text())["providers"]
    mounted = [volume.split(":") for volume in SERVICES["grafana"]["volumes"]]
    (dashboard,) = [
        source for source, to, _ in mounted if Path(to).parent == Path(provider["options"]["path"])
    ]
    assert json.loads((DOCKER / dashboard).read_text())["title"] == "Jobcast"
