"""The rendered pods against the service that runs in them: its settings, its probes, its stop, its Redis."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from app.auth.gate import OPEN
from app.supervisor import _STOP_SECONDS
from loadtest import redis_server
from loadtest.redis_server import RedisServer
from model.engines.vllm.launch import END_SECONDS
from tests.deploy.charts import MATRIX, MISSING, SECRET, container, pods, render, the

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
needs_redis = pytest.mark.skipif(bool(redis_server.MISSING), reason=redis_server.MISSING)


@pytest.mark.parametrize("scenario", MATRIX)
def test_the_service_accepts_every_setting(scenario: str, settings_of: Any) -> None:
    settings = settings_of(MATRIX[scenario])
    ports = {port["name"]: port["containerPort"] for port in container(render(MATRIX[scenario]))["ports"]}
    assert ports == {"http": settings.port, "metrics": settings.metrics_port}
    assert settings.host == settings.metrics_host != "127.0.0.1"


def test_numbers_reach_the_service_as_they_were_written(settings_of: Any) -> None:
    settings = settings_of(MATRIX["workers"])
    assert (settings.workers, settings.max_body_bytes, settings.rate_limit) == (4, 4194304, "600/minute")
    chosen = {"VLLM_COMPILED": True, "TLS_IN_FRONT": True, "READ_SECONDS": 0.5, "LOG_LEVEL": "debug"}
    settings = settings_of({"settings": chosen})
    assert {name: getattr(settings, name.lower()) for name in chosen} == chosen


def test_keys_are_read_where_the_secret_is_mounted(settings_of: Any) -> None:
    values = {"auth": {"keysSecret": "ours", "keysSecretKey": "hashed"}}
    mounts = {mount["name"]: mount for mount in container(render(values))["volumeMounts"]}
    file = settings_of(values).api_keys_file
    assert file == Path(mounts["keys"]["mountPath"]) / "hashed"
    # With subPath a Secret that changes would not reach the pod, and keys could not rotate.
    assert "subPath" not in mounts["keys"]


def test_redis_is_found_in_every_way(settings_of: Any) -> None:
    def url(scenario: str) -> str | None:
        secret = settings_of(MATRIX[scenario]).redis_url
        return secret.get_secret_value() if secret else None

    assert url("defaults") is None
    assert url("redis of the chart") == "redis://jobcast-redis:6379/0"
    assert url("redis with a password") == f"redis://:{SECRET}@jobcast-redis:6379/0"
    assert url("redis by URL") == "redis://redis.data:6379/0"
    assert url("redis by secret") == "redis://:password@host:26379/0"
    assert settings_of(MATRIX["redis by secret"]).cache_secret.get_secret_value() == SECRET


def test_pods_with_an_engine_on_a_gpu_run_the_image_that_has_it() -> None:
    manifests = render(MATRIX["vllm in the pods"])
    assert container(manifests)["image"].startswith("jobcast-gpu:")
    volumes = dict(pods(manifests))["jobcast"]["spec"]["volumes"]
    rooms = {one["name"]: one["emptyDir"]["sizeLimit"] for one in volumes if "emptyDir" in one}
    assert rooms == {"tmp": "8Gi", "shared-memory": "2Gi"}
    assert container(render(MATRIX["defaults"]))["image"].startswith("jobcast:")


def test_names_that_look_like_numbers_stay_names() -> None:
    values = {
        "checkpoint": {"source": "pvc", "pvc": {"claim": "2025", "path": "2"}},
        "auth": {"keysSecret": "7"},
    }
    manifests = render(values, release="123")
    pod = dict(pods(manifests))["123-jobcast"]
    assert pod["metadata"]["labels"]["app.kubernetes.io/instance"] == "123"
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert volumes["keys"]["secret"]["secretName"] == "7"
    assert volumes["checkpoint"]["persistentVolumeClaim"]["claimName"] == "2025"
    mounts = [mount for one in pod["spec"]["containers"] for mount in one["volumeMounts"]]
    assert [mount["subPath"] for mount in mounts if "subPath" in mount] == ["2"]


@pytest.mark.parametrize("pre_stop", [1, 5, 90])
def test_a_vllm_server_has_time_to_answer_what_it_was_asked(pre_stop: int) -> None:
    values = {**MATRIX["front ends and vllm servers"], "shutdown": {"preStopSeconds": pre_stop}}
    pod = dict(pods(render(values)))["jobcast-vllm"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > pre_stop + END_SECONDS


def test_front_ends_ask_every_server_by_its_own_name(settings_of: Any) -> None:
    values = MATRIX["front ends and vllm servers"]
    manifests = render(values)
    settings = settings_of(values)
    servers = the(manifests, "StatefulSet", "jobcast-vllm")
    assert servers["spec"]["serviceName"] == "jobcast-vllm"
    assert the(manifests, "Service", "jobcast-vllm")["spec"]["clusterIP"] == "None"
    assert settings.vllm_urls == tuple(
        f"http://jobcast-vllm-{place}.jobcast-vllm:8001" for place in range(servers["spec"]["replicas"])
    )
    assert settings.vllm_api_key.get_secret_value() == SECRET
    assert container(manifests, "jobcast-vllm")["args"] == [
        *("vllm-server", "--host", "0.0.0.0", "--port", "8001"),
        *("--max-num-seqs", "64"),
    ]


def test_the_probes_ask_routes_that_need_no_key() -> None:
    told = container(render({}))
    paths = {name: told[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert set(paths.values()) == OPEN
    assert paths["liveness"] == "/health/live"
    assert paths["readiness"] == "/health/ready"


@pytest.mark.parametrize("shutdown", [{}, {"preStopSeconds": 30, "graceSeconds": 60, "drainSeconds": 60}])
def test_a_pod_is_not_killed_before_it_has_drained(shutdown: dict[str, int], settings_of: Any) -> None:
    values = {"shutdown": shutdown, "workers": 2}
    manifests, settings = render(values), settings_of(values)
    ((_, template),) = pods(manifests)
    before = container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = before + settings.shutdown_grace_seconds + settings.drain_seconds + _STOP_SECONDS
    assert longest < template["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize(
    ("scenario", "ports"),
    [
        ("defaults", {53}),
        ("redis of the chart", {53, 6379}),
        ("redis by secret", {53, 26379}),
        ("database of the chart", {53, 5432}),
        ("database by secret", {53, 6432}),
        ("front ends and vllm servers", {53, 8001}),
        ("front ends and servers elsewhere", {53, 8001, 443}),
        ("checkpoint from a bucket", {53, 8001, 9000}),
        ("watched", {53, 4318}),
    ],
)
def test_pods_reach_what_they_need_and_nothing_else(scenario: str, ports: set[int]) -> None:
    policy = the(render(MATRIX[scenario]), "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} == ports


def test_servers_answer_only_those_who_need_them() -> None:
    values = {**MATRIX["front ends and vllm servers"], **MATRIX["placed"]}
    manifests = render(values)
    for name in ("jobcast-vllm", "jobcast-redis", "jobcast-postgres"):
        (rule,) = the(manifests, "NetworkPolicy", name)["spec"]["ingress"]
        (peer,) = rule["from"]
        labels = peer["podSelector"]["matchLabels"]
        selected = [
            one for one, pod in pods(manifests) if labels.items() <= pod["metadata"]["labels"].items()
        ]
        assert selected == ["jobcast"]
    for name in ("jobcast-redis", "jobcast-postgres"):
        assert "egress" not in the(manifests, "NetworkPolicy", name)["spec"]


@pytest.mark.parametrize("values", [{"settings": {"LOG_LEVEL": "debug"}}, {"engine": {"threads": 4}}])
def test_changed_settings_replace_the_pods(values: Any) -> None:
    checksums = [
        template["metadata"]["annotations"]["checksum/configuration"]
        for one in ({}, values)
        for _, template in pods(render(one))
    ]
    assert checksums[0] != checksums[1]


@needs_redis
def test_the_charts_redis_is_a_cache_behind_its_password(tmp_path: Path) -> None:
    """The rendered configuration and command, in a real Redis."""
    manifests = render(MATRIX["redis with a password"])
    file = tmp_path / "redis.conf"
    file.write_text(the(manifests, "ConfigMap", "jobcast-redis")["data"]["redis.conf"])
    port = RedisServer(tmp_path).port
    # The port and the directory alone are the test's own.
    file.write_text(
        file.read_text().replace("port 6379", f"port {port}").replace("dir /tmp", f"dir {tmp_path}")
    )
    shell, option, line = container(manifests, "jobcast-redis")["command"]
    command = [shell, option, line.replace("/etc/redis/redis.conf", str(file))]
    variables = {"PATH": os.environ["PATH"], "REDIS_PASSWORD": "letters0and1digits"}
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as process:
        try:
            redis_server.wait_for("loading:0", Redis(port=port, password="letters0and1digits"))
            with Redis(port=port, password="letters0and1digits") as client:
                told = client.config_get("maxmemory*", "save", "appendonly")
                assert told["maxmemory"] == str(256 * 1024**2)
                assert told["maxmemory-policy"] == "allkeys-lru"
                assert (told["save"], told["appendonly"]) == ("", "no")
            with Redis(port=port) as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
            told = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert b"redis-server" in told
            assert b"letters0and1digits" not in told
        finally:
            process.terminate()
        # Nothing stands between the signal and Redis, which stops by itself.
        assert process.wait(10) == 0
