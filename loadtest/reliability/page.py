"""docs/reliability.md from docs/reliability.json and docs/reliability-notes.md."""

import json
from pathlib import Path
from typing import Any

from loadtest.reliability.results import RESULTS

#: Experiment -> its heading, in the order of the page.
TITLES = {
    "schemathesis": "Every route under generated requests",
    "fuzz": "Fuzzed configurations",
    "hostile": "Hostile bodies",
    "redis": "Redis that fails",
    "database": "A database that fails",
    "overload": "Three times the capacity",
    "restart": "Stopping and restarting under load",
    "workers": "A worker that is killed",
    "access": "Keys and rates",
    "engine": "An engine that dies or hangs",
    "cache": "The cache",
    "canaries": "Secrets",
    "soak": "One hour of mixed load",
}


def write_page(results: Path = RESULTS) -> None:
    """Write the page beside its figures."""
    content = json.loads(results.read_text())
    notes = results.with_name("reliability-notes.md")
    parts = [
        "# Reliability",
        "What the service does under hostile input, faults beside it and more load than it can take. Written by "
        "`make reliability`; the same figures for machines: [reliability.json](reliability.json).",
        _table(
            ["experiment", "what", "measured", "bound", "verdict"],
            [
                [TITLES[name], bound["what"], _figure(bound), _bound(bound), _verdict(bound)]
                for name in TITLES
                for bound in content.get(name, {"bounds": []})["bounds"]
            ],
        ),
        notes.read_text().strip() if notes.exists() else "",
        *(_experiment(TITLES[name], content[name]) for name in TITLES if name in content),
    ]
    results.with_suffix(".md").write_text("\n\n".join(part for part in parts if part) + "\n")


def _experiment(title: str, found: dict[str, Any]) -> str:
    more = [[name, _plain(value)] for name, value in found["more"].items()]
    parts = [f"## {title}", found["how"], f"{found['measured_on']}, {found['machine']}."]
    if more:
        parts.append(_table(["figure", "measured"], more))
    return "\n\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _figure(bound: dict[str, Any]) -> str:
    return f"{_plain(bound['measured'])} {bound['unit']}".strip()


def _bound(bound: dict[str, Any]) -> str:
    limits = (("at most", bound["at_most"]), ("at least", bound["at_least"]))
    return " and ".join(f"{word} {_plain(limit)}" for word, limit in limits if limit is not None)


def _verdict(bound: dict[str, Any]) -> str:
    return "holds" if bound["holds"] else "**missed**"
