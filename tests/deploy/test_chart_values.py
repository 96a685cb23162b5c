"""Values: every one of them does something, and a wrong one is refused by name."""

from typing import Any

import pytest
import yaml

from scripts.chart import documented_values
from tests.deploy.charts import CHART, MATRIX, MISSING, refusal, render

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

#: The scenario that shows a value, where the defaults do not.
SHOWN_IN = {
    "podDisruptionBudget.maxUnavailable": "defaults",
    "serviceAccount.name": "placed",
    "checkpoint.pvc": "checkpoint from a claim",
    "checkpoint.oci": "checkpoint from an image",
    "checkpoint.s3": "checkpoint from a bucket",
    "checkpoint.sizeLimit": "checkpoint from a bucket",
    "redis.url": "redis by URL",
    "redis.urlSecret": "redis by secret",
    "redis.peers": "redis by URL",
    "redis.port": "redis by URL",
    "redis.image": "redis of the chart",
    "redis.passwordSecret": "redis with a password",
    "redis.maxMemory": "redis of the chart",
    "redis.resources": "redis of the chart",
    "database.urlSecret": "database by secret",
    "database.caSecret": "database by secret",
    "database.peers": "database by secret",
    "database.port": "database by secret",
    "database.image": "database of the chart",
    "database.passwordSecret": "database of the chart",
    "database.storage": "database of the chart",
    "database.maxConnections": "database of the chart",
    "database.resources": "database of the chart",
    "cacheSecret.key": "database of the chart",
    "vllm": "front ends and vllm servers",
    "vllm.urls": "front ends and servers elsewhere",
    "vllm.peers": "front ends and servers elsewhere",
    "autoscaling": "hpa",
    "autoscaling.kind": "defaults",
    "autoscaling.prometheusUrl": "keda",
    "tracing": "watched",
    "monitoring": "watched",
}
#: Another value, where one more, "not" or "other" would not be valid.
OTHERS: dict[str, Any] = {
    "image.pullPolicy": "Always",
    "image.pullSecrets": ["other"],
    "engine.kind": "vllm-server",
    "listen": "::",
    "settings": {"LOG_LEVEL": "debug"},
    "checkpoint.source": "oci",
    "checkpoint.oci.path": "/other",
    "checkpoint.s3.url": "s3://other",
    "checkpoint.s3.repository": "registry.example.org/aws-cli",
    "checkpoint.s3.endpoint": "https://other",
    "redis.source": "chart",
    "redis.url": "redis://other:6379/0",
    "redis.maxMemory": "1gb",
    "database.source": "chart",
    "vllm.source": "urls",
    "vllm.urls": ["http://other:8001"],
    "vllm.args": ["--other"],
    "autoscaling.kind": "hpa",
    "autoscaling.prometheusUrl": "http://other:9090",
    "service.type": "NodePort",
    "tracing.endpoint": "http://other:4318/v1/traces",
    "tracing.ratio": 0.5,
    "monitoring.serviceMonitor.interval": "15s",
    "topologySpread.whenUnsatisfiable": "DoNotSchedule",
    "affinity": {"nodeAffinity": {}},
}
#: What has to be said beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "checkpoint.source": {"checkpoint.oci.repository": "other", "checkpoint.oci.tag": "v1"},
    "database.source": {"database.passwordSecret.name": "other", "cacheSecret.name": "other"},
    "vllm.source": {"vllm.urls": ["http://other:8001"]},
    "serviceAccount.create": {"serviceAccount.name": "other"},
}


#: Of PostgreSQL, what has to be said at least.
DATABASE = {"source": "chart", "passwordSecret": {"name": "postgres"}}
CACHE_SECRET = {"cacheSecret": {"name": "cache"}}


@pytest.mark.parametrize("path", [path for path, _, _ in documented_values()])
def test_every_value_changes_the_manifests(path: str) -> None:
    scenario = next((SHOWN_IN[prefix] for prefix in _prefixes(path) if prefix in SHOWN_IN), "defaults")
    values = _merged(MATRIX[scenario])
    changed = _merged(values)
    for name, value in {**BESIDE.get(path, {}), path: _other(path, _at(values, path))}.items():
        _set(changed, name, value)
    assert render(changed) != render(values)


def test_every_value_has_a_comment() -> None:
    documented = {path for path, _, _ in documented_values()}
    for path in _leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
        assert documented & set(_prefixes(path)), path


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"image": {"tag": "latest"}}, "image.tag"),
        ({"image": {"digest": "0123"}}, "image.digest"),
        ({"engine": {"kind": "fake"}}, "engine.kind"),
        ({"engine": {"kind": "vllm"}}, "resources.limits: engine.kind vllm needs a GPU"),
        ({"settings": {"MAX_BACH": 1}}, "MAX_BACH"),
        ({"settings": {"MAX_BATCH": 0}}, "settings.MAX_BATCH"),
        ({"settings": {"LOG_LEVEL": "loud"}}, "settings.LOG_LEVEL"),
        ({"settings": {"API_KEYS": "a:sha256:00"}}, "API_KEYS"),
        ({"settings": {"REDIS_URL": "redis://other"}}, "REDIS_URL"),
        ({"auth": {"keysSecret": ""}}, "auth.keysSecret"),
        ({"redis": {"ulr": "redis://host"}}, "ulr"),
        ({"redis": {"source": "url"}}, "redis.url"),
        ({"redis": {"source": "url", "url": "redis://:password@host"}}, "redis.url"),
        ({"redis": {"source": "secret"}}, "redis.urlSecret.name"),
        ({"redis": {"source": "chart", "image": {"tag": "latest"}}}, "redis.image.tag"),
        ({"redis": {"cacheSecret": {"name": "cache"}}}, "cacheSecret"),
        ({"settings": {"DATABASE_URL": "postgresql://other/jobcast"}}, "DATABASE_URL"),
        ({"database": {"url": "postgresql://other/jobcast"}}, "url"),
        ({"database": {"source": "sqlite"}}, "database.source"),
        ({"database": {"source": "secret"}, **CACHE_SECRET}, "database.urlSecret.name"),
        ({"database": {"source": "chart"}, **CACHE_SECRET}, "database.passwordSecret.name"),
        ({"database": DATABASE}, "cacheSecret.name: database.source needs it"),
        ({"database": {**DATABASE, "image": {"tag": "latest"}}, **CACHE_SECRET}, "database.image.tag"),
        ({"database": {**DATABASE, "storage": {"size": "8 GB"}}, **CACHE_SECRET}, "database.storage.size"),
        ({"database": DATABASE, **CACHE_SECRET, "replicas": 20}, "database.maxConnections"),
        (
            {"database": DATABASE, **CACHE_SECRET, "autoscaling": {"kind": "hpa", "maxReplicas": 20}},
            "database.maxConnections",
        ),
        ({"engine": {"kind": "vllm-server"}, "vllm": {"source": "urls"}}, "vllm.urls"),
        ({"checkpoint": {"source": "pvc"}}, "checkpoint.pvc.claim"),
        ({"checkpoint": {"source": "oci"}}, "checkpoint.oci.repository"),
        ({"checkpoint": {"source": "oci", "oci": {"repository": "model"}}}, "checkpoint.oci.tag"),
        ({"checkpoint": {"source": "s3"}}, "checkpoint.s3.url"),
        ({"autoscaling": {"kind": "both"}}, "autoscaling.kind"),
        ({"autoscaling": {"kind": "hpa", "cpuUtilization": 0}}, "autoscaling.cpuUtilization"),
        ({"autoscaling": {"kind": "keda", "cpuUtilization": 0}}, "autoscaling.queueDepth"),
        ({"autoscaling": {"kind": "hpa", "minReplicas": 9}}, "autoscaling.maxReplicas"),
        ({"resources": {"limits": {"cpu": "1 core"}}}, "resources.limits.cpu"),
        ({"resources": {"limits": {"memory": None}}}, "resources.limits"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"tracing": {"endpoint": "collector:4318"}}, "tracing.endpoint"),
        ({"shutdown": {"drainSeconds": "20"}}, "shutdown.drainSeconds"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    assert said in refusal(values)


def _other(path: str, value: Any) -> Any:
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [{"key": "other"}]
    if isinstance(value, dict):
        return (
            {**value, "limits": {**value["limits"], "cpu": "7"}} if "limits" in value else {"other": "other"}
        )
    if path.endswith("digest"):
        return "sha256:" + "1" * 64
    return "3Gi" if value.endswith("i") else "other"


def _prefixes(path: str) -> list[str]:
    """The path and all above it, the longest first."""
    names = path.split(".")
    return [".".join(names[:end]) for end in range(len(names), 0, -1)]


def _leaves(values: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        nested = (
            _leaves(value, f"{above}{name}.") if isinstance(value, dict) and value else [f"{above}{name}"]
        )
        found += nested
    return found


def _merged(values: Any) -> dict[str, Any]:
    """A copy that can be changed."""
    return {name: _merged(value) if isinstance(value, dict) else value for name, value in values.items()}


def _at(values: dict[str, Any], path: str) -> Any:
    """What a value is, here or by default."""
    found: Any = values
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        found = yaml.safe_load((CHART / "values.yaml").read_text())
        for name in path.split("."):
            found = found[name]
    return found


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        values = values.setdefault(name, {})
    values[last] = value
