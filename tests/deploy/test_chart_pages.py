"""What is written about the chart is so: its table of values, its schema, its notes, and the README's steps."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.chart import readme, settings_schema
from tests.deploy.charts import (
    CHART,
    HELM,
    MATRIX,
    MISSING,
    ROOT,
    Values,
    environment,
    helm,
    of_kind,
    pods,
    render,
    the,
)
from tests.deploy.kubernetes import validate

needs_helm = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def test_the_table_of_values_is_up_to_date() -> None:
    assert (CHART / "README.md").read_text() == readme(), "run make chart"


def test_the_schema_knows_the_services_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"]["settings"] == settings_schema(), "run make chart"


def test_the_schema_lists_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global", "enabled"} == values.keys()
    _same_names(schema["properties"], schema["$defs"], values)


def _same_names(properties: dict[str, Any], definitions: dict[str, Any], values: dict[str, Any]) -> None:
    for name, value in values.items():
        told = properties[name]
        if "$ref" in told:
            told = definitions[told["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and isinstance(told.get("additionalProperties"), bool) and value:
            assert told["additionalProperties"] is False
            assert told["properties"].keys() == value.keys(), name
            _same_names(told["properties"], definitions, value)


@needs_helm
def test_the_readmes_steps_render_what_they_prepare(tmp_path: Path) -> None:
    """Followed literally, but for the commands that need a registry or a cluster: those are recorded."""
    (steps,) = re.findall(r"## Kubernetes\n.*?```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("make", "docker", "kubectl", "jobcast"):
        (commands / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/asked"\n')
        (commands / name).chmod(0o755)
    (tmp_path / "helm").mkdir()
    (tmp_path / "helm" / "jobcast").symlink_to(CHART)
    assert HELM
    path = os.pathsep.join([str(commands), str(Path(HELM).parent), os.environ["PATH"]])
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", steps], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True
    )
    asked = (tmp_path / "asked").read_text()
    manifests = [one for one in yaml.safe_load_all((tmp_path / "jobcast.yaml").read_text()) if one]
    for manifest in manifests:
        validate(json.dumps(manifest))

    pod = the(manifests, "Deployment")["spec"]["template"]["spec"]
    assert f"docker push {pod['containers'][0]['image']}\n" in asked
    (keys,) = [volume for volume in pod["volumes"] if volume["name"] == "keys"]
    secret, file = keys["secret"]["secretName"], environment(manifests)["JOBCAST_API_KEYS_FILE"]
    assert f"create secret generic {secret} --from-file={Path(file).name}\n" in asked
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {"jobcast"}
    assert asked.count("kubectl --namespace jobcast ") == 3
    (port,) = the(manifests, "Service")["spec"]["ports"]
    assert f"port-forward service/jobcast 8080:{port['port']}\n" in asked


@needs_helm
@pytest.mark.parametrize("anonymous", [False, True])
def test_the_notes_show_a_request_that_fits(tmp_path: Path, anonymous: bool) -> None:
    notes = _notes(tmp_path, {"auth": {"allowAnonymous": anonymous}, "service": {"port": 81}})
    assert "kubectl --namespace n port-forward service/jobcast 8080:81" in notes
    assert ("Authorization: Bearer" in notes) is not anonymous
    assert ("create secret generic jobcast-keys --from-file=keys=FILE" in notes) is not anonymous
    (command,) = re.findall(r"^  curl (?:.*\\\n)*.*$", notes, re.M)
    # One command to the shell, to the end of the notes.
    assert command.count("\n") == (1 if anonymous else 2)
    assert notes.rstrip().endswith(command)
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0


@needs_helm
@pytest.mark.parametrize(
    ("scenario", "secrets"),
    [
        ("defaults", {"jobcast-keys"}),
        ("database by secret", {"jobcast-keys", "cache"}),
        ("database of the chart", {"jobcast-keys", "cache", "postgres"}),
    ],
)
def test_the_notes_make_the_secrets_that_pods_wait_for(
    tmp_path: Path, scenario: str, secrets: set[str]
) -> None:
    notes = _notes(tmp_path, MATRIX[scenario])
    made = re.findall(
        r"^  kubectl --namespace n create secret generic (\S+) --from-(?:file|literal)=(\S+?)=", notes, re.M
    )
    assert {name for name, _ in made} == secrets
    referred = {
        (reference["name"], reference["key"])
        for _, template in pods(render(MATRIX[scenario]))
        for variable in template["spec"]["containers"][0].get("env", [])
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert {pair for pair in made if pair[0] != "jobcast-keys"} <= referred


def _notes(directory: Path, values: Values) -> str:
    """Helm prints them where there is a cluster only; as part of a manifest it renders them without one."""
    shutil.copytree(CHART, directory / "chart")
    (directory / "chart" / "templates" / "NOTES.txt").rename(directory / "chart" / "notes.txt")
    manifest = 'kind: Notes\ntext: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
    (directory / "chart" / "templates" / "notes.yaml").write_text(manifest)
    shown = ("--namespace", "n", "--show-only", "templates/notes.yaml")
    done = helm("template", "jobcast", str(directory / "chart"), *shown, values=values)
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["text"])


@needs_helm
def test_alerts_and_dashboard_are_off_where_nobody_asked_for_them() -> None:
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert of_kind(render({}), kind) == []
        assert len(of_kind(render(MATRIX["watched"]), kind)) == 1
