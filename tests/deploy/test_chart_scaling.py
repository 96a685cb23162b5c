"""How many pods there are, who changes that, and who watches them."""

from typing import Any

import pytest

from tests.deploy.charts import MATRIX, MISSING, of_kind, refusal, render, the

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_pods_that_are_scaled_have_no_fixed_number() -> None:
    assert the(render({}), "Deployment")["spec"]["replicas"] == 2
    for scenario in ("hpa", "keda"):
        assert "replicas" not in the(render(MATRIX[scenario]), "Deployment")["spec"]


def test_one_autoscaler_at_a_time() -> None:
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    for scenario in MATRIX:
        assert sum(len(of_kind(render(MATRIX[scenario]), kind)) for kind in kinds) <= 1
    assert "autoscaling" in refusal({"autoscaling": {"hpa": True, "keda": True}})


def test_the_scaled_object_asks_for_the_depth_of_its_own_queues() -> None:
    (scaled,) = of_kind(render(MATRIX["keda"]), "ScaledObject")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    assert scaled["spec"] == {
        "scaleTargetRef": {"name": "jobcast"},
        "minReplicaCount": 2,
        "maxReplicaCount": 8,
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "name": "jobcast",
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
            }
        },
        "triggers": [
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "metadata": {
                    "serverAddress": "http://prometheus-operated.monitoring:9090",
                    "query": 'sum(jobcast_queue_depth{namespace="predictions",job="jobcast-metrics"})',
                    "threshold": "8",
                    "ignoreNullValues": "false",
                },
            },
        ],
    }


def test_the_service_monitor_finds_the_metrics_and_nothing_else() -> None:
    manifests = render(MATRIX["watched"])
    (monitor,) = of_kind(manifests, "ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "30s"}]
    labels = monitor["spec"]["selector"]["matchLabels"]
    found = [
        one for one in of_kind(manifests, "Service") if labels.items() <= one["metadata"]["labels"].items()
    ]
    assert [one["metadata"]["name"] for one in found] == ["jobcast-metrics"]
    assert [port["name"] for port in found[0]["spec"]["ports"]] == ["metrics"]


@pytest.mark.parametrize(
    ("values", "budget"),
    [
        ({"replicas": 1}, 0),
        ({"replicas": 2}, 1),
        ({"replicas": 2, "autoscaling": {"kind": "hpa", "minReplicas": 1}}, 0),
        ({"replicas": 1, "autoscaling": {"kind": "keda", "minReplicas": 2}}, 1),
    ],
)
def test_there_is_a_disruption_budget_where_two_pods_are_kept(values: dict[str, Any], budget: int) -> None:
    assert len(of_kind(render(values), "PodDisruptionBudget")) == budget
