"""Writes what the chart tells of its values: `make chart`.

helm/jobcast/README.md           the table of values, from values.yaml and its comments
helm/jobcast/values.schema.json  its part `settings`, from the service's own settings

tests/deploy/test_chart_pages.py fails where either is not as this would write it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from app.settings import Settings

CHART = Path(__file__).resolve().parents[1] / "helm" / "jobcast"
#: Settings with values of their own in the chart, or that are secrets: not to be given a second time.
OWN = {
    *("host", "port", "metrics_host", "metrics_port", "workers", "engine", "engine_threads", "checkpoint"),
    *("api_keys", "api_keys_file", "allow_anonymous", "redis_url", "database_url", "cache_secret"),
    *("otlp_endpoint", "trace_ratio"),
    *("vllm_urls", "vllm_api_key", "shutdown_grace_seconds", "drain_seconds"),
}  # fmt: skip
_BOUNDS = ("type", "enum", "minimum", "maximum", "exclusiveMinimum")
_HEAD = """# jobcast

{description} [docs/deployment.md](../../docs/deployment.md) says how it is meant to be run.

Needs Kubernetes {kubernetes}. Written by `make chart` from values.yaml.

| value | default | |
|---|---|---|
"""


def main() -> None:
    """Writes both files."""
    (CHART / "README.md").write_text(readme())
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"]["settings"] = settings_schema()
    (CHART / "values.schema.json").write_text(json.dumps(schema, indent=2) + "\n")


def readme() -> str:
    """The chart's page: a row for every value."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    head = _HEAD.format(
        description=chart["description"], kubernetes=chart["kubeVersion"].removesuffix("-0").lstrip(">=")
    )
    rows = [f"| `{name}` | `{default}` | {comment} |\n" for name, default, comment in documented_values()]
    return head + "".join(rows)


def documented_values() -> Iterator[tuple[str, str, str]]:
    """Path, default and comment of every value; a mapping with comments on its own values is told by those."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    values = yaml.safe_load("\n".join(lines))
    comment: list[str] = []
    path: list[tuple[int, str]] = []
    for line in lines:
        if matched := re.match(r"( *)# (.*)", line):
            comment.append(matched[2])
            continue
        if matched := re.match(r"( *)([\w.]+):", line):
            indent = len(matched[1])
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, matched[2])]
            if comment:
                names = [name for _, name in path]
                yield ".".join(names), json.dumps(_at(values, names)), " ".join(comment)
        comment = []


def settings_schema() -> dict[str, Any]:
    """Of `settings`: the variables that the chart does not set itself, with the bounds that the service gives them."""
    properties = {}
    for name, told in sorted(Settings.model_json_schema()["properties"].items()):
        if name not in OWN:
            plain = next((one for one in told.get("anyOf", ()) if one.get("type") != "null"), told)
            bounds = {key: plain[key] for key in _BOUNDS if key in plain}
            if bounds["type"] == "array":  # one variable, separated by commas
                bounds = {"type": "string"}
            properties[name.upper()] = bounds
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _at(values: Any, names: list[str]) -> Any:
    for name in names:
        values = values[name]
    return values


if __name__ == "__main__":
    main()
