"""The chart, rendered by a real helm, over a matrix of values."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "jobcast"
#: From the package helm-binary, beside the Python that runs the tests; or another one.
HELM = shutil.which("helm", path=Path(sys.executable).parent) or shutil.which("helm")
MISSING = "" if HELM else "helm is not installed"

#: What every Secret holds, where its value matters.
SECRET = base64.b64encode(b"something that nobody guesses").decode()

Manifest = dict[str, Any]
Values = Mapping[str, Any]

_PEERS = [{"namespaceSelector": {"matchLabels": {"team": "data"}}}]
#: Every branch of the chart is in one of them; tests add to it where they need one value more.
MATRIX: dict[str, Values] = {
    "defaults": {},
    "one pod without keys": {"replicas": 1, "auth": {"allowAnonymous": True}},
    "workers": {"workers": 4, "settings": {"RATE_LIMIT": "600/minute", "MAX_BODY_BYTES": 4194304}},
    "redis of the chart": {"redis": {"source": "chart"}},
    "redis with a password": {"redis": {"source": "chart", "passwordSecret": {"name": "redis"}}},
    "redis by URL": {"redis": {"source": "url", "url": "redis://redis.data:6379/0", "peers": _PEERS}},
    "redis by secret": {
        "redis": {
            "source": "secret",
            "urlSecret": {"name": "redis"},
            "port": 26379,
        },
        "cacheSecret": {"name": "cache"},
    },
    "database of the chart": {
        "database": {"source": "chart", "passwordSecret": {"name": "postgres"}},
        "cacheSecret": {"name": "cache"},
        "settings": {"DATABASE_CONNECTIONS": 8, "OUTCOME_DAYS": 90},
    },
    "database by secret": {
        "database": {
            "source": "secret",
            "urlSecret": {"name": "postgres"},
            "caSecret": {"name": "authority"},
            "peers": _PEERS,
            "port": 6432,
        },
        "cacheSecret": {"name": "cache"},
    },
    "vllm in the pods": {
        "engine": {"kind": "vllm"},
        "resources": {
            "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 1},
            "limits": {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": 1},
        },
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "front ends and vllm servers": {
        "engine": {"kind": "vllm-server"},
        "vllm": {"replicas": 2, "apiKeySecret": {"name": "vllm"}, "args": ["--max-num-seqs", "64"]},
    },
    "front ends and servers elsewhere": {
        "engine": {"kind": "vllm-server"},
        "vllm": {"source": "urls", "urls": ["http://gpu-1:8001", "https://gpu-2"], "peers": _PEERS},
    },
    "hpa": {"autoscaling": {"kind": "hpa", "queueDepth": 8}},
    "keda": {"autoscaling": {"kind": "keda", "queueDepth": 8}},
    "checkpoint from a claim": {"checkpoint": {"source": "pvc", "pvc": {"claim": "models", "path": "v2"}}},
    "checkpoint from an image": {
        "engine": {"kind": "vllm-server"},
        "checkpoint": {"source": "oci", "oci": {"repository": "registry.example.org/model", "tag": "v2"}},
    },
    "checkpoint from a bucket": {
        "engine": {"kind": "vllm-server"},
        "checkpoint": {
            "source": "s3",
            "s3": {
                "url": "s3://models/v2",
                "endpoint": "http://minio.data:9000",
                "credentialsSecret": "minio",
            },
        },
    },
    "watched": {
        "monitoring": {
            part: {"enabled": True, "labels": {"release": "prometheus"}}
            for part in ("serviceMonitor", "rules", "dashboard")
        },
        "tracing": {"endpoint": "http://tempo.monitoring:4318/v1/traces", "ratio": 0.1},
    },
    "placed": {
        "image": {
            "repository": "registry.example.org/jobcast",
            "digest": "sha256:" + "0" * 64,
            "pullSecrets": ["registry"],
        },
        "redis": {"source": "chart"},
        "database": {
            "source": "chart",
            "passwordSecret": {"name": "postgres"},
            "storage": {"size": "20Gi", "className": "fast"},
        },
        "cacheSecret": {"name": "cache"},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "pool", "operator": "Equal", "value": "cpu", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "high",
        "podAnnotations": {"team": "data"},
        "podLabels": {"team": "data"},
        "service": {"type": "LoadBalancer", "port": 8080, "annotations": {"balancer": "internal"}},
        "serviceAccount": {"create": False, "name": "shared"},
        "networkPolicy": {
            "clients": _PEERS,
            "extraEgress": [{"to": _PEERS, "ports": [{"port": 443, "protocol": "TCP"}]}],
        },
    },
    "without network policies": {
        "engine": {"kind": "vllm-server"},
        "redis": {"source": "chart"},
        "database": {"source": "chart", "passwordSecret": {"name": "postgres"}},
        "cacheSecret": {"name": "cache"},
        "networkPolicy": {"enabled": False},
        "listen": "::",
    },
}


def helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Helm with values on its standard input."""
    assert HELM, MISSING
    command = [HELM, *arguments, *(["--values", "-"] if values is not None else [])]
    text = json.dumps(values) if values is not None else None
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def render(values: Values, release: str = "jobcast") -> list[Manifest]:
    """The manifests of these values. Raises AssertionError with what helm says."""
    return json.loads(_rendered(json.dumps(values), release))  # type: ignore[no-any-return]


@cache
def _rendered(values: str, release: str) -> str:
    done = helm("template", release, str(CHART), "--namespace", "predictions", values=json.loads(values))
    assert done.returncode == 0, done.stderr
    # As JSON, so that nobody can change what others will get.
    return json.dumps([one for one in yaml.safe_load_all(done.stdout) if one])


def refusal(values: Values) -> str:
    """What helm says of values that it refuses."""
    done = helm("template", "jobcast", str(CHART), values=values)
    assert done.returncode != 0, "these values were accepted"
    return done.stderr


def of_kind(manifests: list[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    """Those of one kind, in all or with one name."""
    found = [one for one in manifests if one["kind"] == kind]
    return found if name is None else [one for one in found if one["metadata"]["name"] == name]


def the(manifests: list[Manifest], kind: str, name: str = "jobcast") -> Manifest:
    """The one of this kind and name."""
    (found,) = of_kind(manifests, kind, name)
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod template of each workload."""
    for one in manifests:
        if "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]


def container(manifests: list[Manifest], pod: str = "jobcast") -> Manifest:
    """The container of a workload."""
    (template,) = [template for name, template in pods(manifests) if name == pod]
    (found,) = template["spec"]["containers"]
    return found  # type: ignore[no-any-return]


def environment(manifests: list[Manifest]) -> dict[str, str]:
    """Variables of the service's container; all Secrets hold the same word."""
    found: dict[str, str] = {}
    for variable in container(manifests).get("env", []):
        value = variable.get("value", SECRET)
        if variable["name"] == "JOBCAST_REDIS_URL" and "valueFrom" in variable:
            value = "redis://:password@host:26379/0"
        if variable["name"] == "JOBCAST_DATABASE_URL" and "valueFrom" in variable:
            value = "postgresql://user:password@host:6432/outcomes?sslmode=verify-full"
        # As Kubernetes does: from the variables that stand before it.
        found[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found
