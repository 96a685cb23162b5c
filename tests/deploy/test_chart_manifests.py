"""What the chart renders is what Kubernetes accepts, for every scenario of the matrix."""

import json

import kubernetes_validate
import pytest

from tests.deploy.charts import CHART, MATRIX, MISSING, Manifest, helm, of_kind, pods, render, the
from tests.deploy.kubernetes import VERSIONS, validate

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

#: Of operators, which Kubernetes' own schemas do not know: their tests look at every field.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}


def test_helm_finds_nothing_to_object_to() -> None:
    for values in MATRIX.values():
        done = helm("lint", str(CHART), "--strict", values=values)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("scenario", MATRIX)
def test_every_manifest_is_valid_in_three_versions_of_kubernetes(scenario: str) -> None:
    validated = 0
    for manifest in render(MATRIX[scenario]):
        if manifest["kind"] not in CUSTOM:
            validate(json.dumps(manifest))
            validated += 1
    assert validated >= 5


def test_the_validation_sees_a_field_that_does_not_exist() -> None:
    manifest = the(render({}), "Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["resource"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


def test_the_defaults_render_these_objects() -> None:
    assert {(one["kind"], one["metadata"]["name"]) for one in render({})} == {
        ("Deployment", "jobcast"),
        ("NetworkPolicy", "jobcast"),
        ("PodDisruptionBudget", "jobcast"),
        ("Service", "jobcast"),
        ("Service", "jobcast-metrics"),
        ("ServiceAccount", "jobcast"),
    }


@pytest.mark.parametrize("scenario", MATRIX)
def test_every_name_fits_and_every_object_is_in_the_namespace(scenario: str) -> None:
    manifests = render(MATRIX[scenario], release="a-release-with-a-name-of-fifty-three-characters-xxxxx")
    for manifest in manifests:
        assert len(manifest["metadata"]["name"]) <= 63
        if manifest["kind"] == "StatefulSet":
            # Its pods' label controller-revision-hash is the name, a hyphen and a hash of ten characters.
            assert len(manifest["metadata"]["name"]) <= 52
        assert manifest["metadata"]["namespace"] == "predictions"
        assert manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


@pytest.mark.parametrize("scenario", MATRIX)
def test_whatever_is_selected_or_mounted_is_there(scenario: str) -> None:
    """Selectors meet pods, volumes are declared, and ConfigMaps are rendered."""
    manifests = render(MATRIX[scenario])
    labels = [template["metadata"]["labels"] for _, template in pods(manifests)]
    names = {one["metadata"]["name"] for one in of_kind(manifests, "ConfigMap")}
    for selector in _selectors(manifests):
        assert sum(selector.items() <= one.items() for one in labels) == 1, selector
    for name, template in pods(manifests):
        spec = template["spec"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        claims = {claim["metadata"]["name"] for claim in _claims(manifests, name)}
        mounted: set[str] = set()
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            mounted |= {mount["name"] for mount in container["volumeMounts"]}
            assert "envFrom" not in container  # an upgrade would change it under the pods that run
        assert mounted == volumes.keys() | claims
        for volume in volumes.values():
            assert "configMap" not in volume or volume["configMap"]["name"] in names


def _claims(manifests: list[Manifest], workload: str) -> list[Manifest]:
    """The claims that a StatefulSet makes for its pods."""
    of_sets = {one["metadata"]["name"]: one["spec"] for one in of_kind(manifests, "StatefulSet")}
    return of_sets.get(workload, {}).get("volumeClaimTemplates", [])  # type: ignore[no-any-return]


def test_what_a_stateful_set_cannot_change_has_no_version_in_it() -> None:
    """Or the next version of the chart would be refused."""
    manifests = render(MATRIX["database of the chart"])
    (claim,) = _claims(manifests, "jobcast-postgres")
    postgres = the(manifests, "StatefulSet", "jobcast-postgres")
    assert claim["metadata"]["labels"] == postgres["spec"]["selector"]["matchLabels"]


def _selectors(manifests: list[Manifest]) -> list[dict[str, str]]:
    found = [one["spec"]["selector"] for one in of_kind(manifests, "Service")]
    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        found += [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, kind)]
    return found + [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(manifests, "NetworkPolicy")]
