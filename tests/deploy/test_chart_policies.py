"""What a cluster's policies ask of every pod, for every scenario of the matrix."""

import re
from typing import Any

import pytest

from tests.deploy.charts import MATRIX, MISSING, of_kind, pods, render

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.parametrize("scenario", MATRIX),
]


def containers(scenario: str) -> list[dict[str, Any]]:
    found = []
    for _, template in pods(render(MATRIX[scenario])):
        found += [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]
    assert found
    return found


def test_no_pod_runs_as_root_or_with_rights(scenario: str) -> None:
    for _, template in pods(render(MATRIX[scenario])):
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["runAsGroup"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not any(template["spec"].get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        assert not any("hostPath" in volume for volume in template["spec"]["volumes"])
    for container in containers(scenario):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_no_pod_has_a_token_of_its_service_account(scenario: str) -> None:
    manifests = render(MATRIX[scenario])
    accounts = of_kind(manifests, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    for _, template in pods(manifests):
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["enableServiceLinks"] is False
        assert template["spec"]["serviceAccountName"] != "default"


def test_every_container_has_requests_and_limits(scenario: str) -> None:
    for container in containers(scenario):
        for part in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][part].keys()
    for _, template in pods(render(MATRIX[scenario])):
        for volume in template["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


def test_every_server_has_three_probes(scenario: str) -> None:
    for _, template in pods(render(MATRIX[scenario])):
        for container in template["spec"]["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_every_image_has_a_version(scenario: str) -> None:
    for container in containers(scenario):
        _, _, tag = container["image"].partition("@")[0].rpartition(":")
        assert re.fullmatch(r"v?\d[\w.-]*", tag), container["image"]


def test_secrets_are_referred_to_and_never_rendered(scenario: str) -> None:
    manifests = render(MATRIX[scenario])
    assert not of_kind(manifests, "Secret")
    for container in containers(scenario):
        for variable in container.get("env", []):
            if re.search("(KEY|SECRET|PASSWORD|AUTH)(?!.*_FILE$)", variable["name"]):
                assert set(variable["valueFrom"]) == {"secretKeyRef"}


def test_every_pod_is_behind_a_network_policy_unless_they_are_off(scenario: str) -> None:
    manifests = render(MATRIX[scenario])
    policies = of_kind(manifests, "NetworkPolicy")
    if scenario == "without network policies":
        assert policies == []
        return
    selected = [policy["spec"]["podSelector"]["matchLabels"] for policy in policies]
    for _, template in pods(manifests):
        assert any(labels.items() <= template["metadata"]["labels"].items() for labels in selected)
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"].get("egress", []):
            assert rule["ports"], "a rule without ports opens all of them"
