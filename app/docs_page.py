"""The OpenAPI document as one page: no scripts, no outside resources, readable without a network."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #dde3ea; --back: #fbfcfd;
  --card: #fff; --code: #f2f5f8; --get: #1a7f5a; --post: #2456b8; --bad: #b3402e }
@media (prefers-color-scheme: dark) { :root { --ink: #dfe5ec; --soft: #98a4b3; --line: #2c3541;
  --back: #12161c; --card: #181e26; --code: #202833; --get: #4cc79a; --post: #7fa8f5; --bad: #f0907f } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 2.5rem 1.25rem 5rem; background: var(--back);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
h1 { font-size: 2rem; margin: 0 } h1 small { font-size: 1rem; font-weight: 400; color: var(--soft) }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.25rem }
h3 { margin: 1.25rem 0 .4rem; font-size: .9rem; color: var(--soft) }
p { margin: .4rem 0 } a { color: var(--post) }
nav { margin: 1rem 0; line-height: 2 } nav a { margin-right: 1rem }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin: 1rem 0;
  padding: 1rem 1.25rem }
article > header { display: flex; flex-wrap: wrap; gap: .75rem; align-items: baseline }
.verb { font: 700 .8rem ui-monospace, monospace; letter-spacing: .05em }
.get { color: var(--get) } .post { color: var(--post) }
.path, code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: .9em }
.path { font-weight: 600; font-size: 1rem } .soft { color: var(--soft) }
pre { background: var(--code); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto; margin: .3rem 0 }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .93rem }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0;
  border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 } tr:target { background: var(--code) }
.status { color: var(--bad) } summary { cursor: pointer; color: var(--soft); margin-top: .6rem }
"""

Json = Mapping[str, Any]


def docs_page(document: Json) -> str:
    """The whole page for an OpenAPI document."""
    schemas = document.get("components", {}).get("schemas", {})
    routes = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    links = " ".join(f'<a href="#{_anchor(m, p)}"><code>{escape(p)}</code></a>' for m, p, _ in routes)
    info = document["info"]
    parts = [
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('description', ''))}</p>",
        f'<nav>{links} <a href="#errors">Errors</a> <a href="/openapi.json">openapi.json</a></nav>',
        "<h2>Routes</h2>",
        *(_route(method, path, operation, schemas) for method, path, operation in routes),
        '<h2 id="errors">Errors</h2>',
        "<p>Every error is <code>application/problem+json</code> (RFC 9457) with a stable <code>code</code>. "
        "It never repeats the input.</p>",
        _errors(document.get("x-errors", ())),
        "<h2>Schemas</h2>",
        *(
            f'<article id="schema-{escape(name)}"><header><span class="path">{escape(name)}</span></header>'
            f"{_text(schema)}{_fields(schema)}</article>"
            for name, schema in sorted(schemas.items())
        ),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _route(method: str, path: str, operation: Json, schemas: Json) -> str:
    parts = [
        f'<article id="{_anchor(method, path)}"><header>',
        f'<span class="verb {escape(method)}">{escape(method.upper())}</span>',
        f'<span class="path">{escape(path)}</span>',
        f'<span class="soft">{escape(operation.get("summary", ""))}</span></header>',
        _text(operation),
    ]
    if parameters := operation.get("parameters"):
        rows = ((p["name"], p.get("description", "")) for p in parameters)
        parts.append(
            "<h3>Query parameters, with the file itself as the body</h3>" + _table(("name", ""), rows)
        )
    examples: dict[str, list[str]] = {}
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        examples.setdefault(_example(path, media, content.get("example")), []).append(media)
        if name := _reference(content.get("schema", {})):
            parts.append(f'<h3>Body <a href="#schema-{name}">{name}</a></h3>{_fields(schemas.get(name, {}))}')
    for example, media in examples.items():
        parts.append(f"<h3>{escape(', '.join(media))}</h3>{example}")
    parts.append("<details><summary>Answers</summary>")
    rows = (
        (status, answer.get("description", "").replace("`", ""))
        for status, answer in operation.get("responses", {}).items()
    )
    return "".join([*parts, _table(("status", ""), rows), "</details></article>"])


def _example(path: str, media: str, example: object) -> str:
    if isinstance(example, str):
        media = media if media == "text/plain" else "application/yaml"
        command = (
            f"curl --data-binary @ci.yml -H 'Content-Type: {media}' \\\n"
            f"  'localhost:8080{path}?kind=github-actions'"
        )
        return f"<pre>{escape(command)}</pre>"
    return f"<pre>{escape(json.dumps(example, indent=2))}</pre>"


def _fields(schema: Json) -> str:
    required = schema.get("required", ())
    rows = (
        (
            name + ("" if name in required else "?"),
            _kind(field) + (f" = {json.dumps(field['default'])}" if field.get("default") is not None else ""),
            field.get("description", ""),
        )
        for name, field in schema.get("properties", {}).items()
    )
    table = _table(("field", "type", ""), rows) if schema.get("properties") else ""
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        table += f'<p class="soft">and, by target name: <code>{escape(_kind(extra))}</code></p>'
    return table


def _kind(field: Json) -> str:
    if name := _reference(field):
        return name
    if choices := field.get("anyOf"):
        return " | ".join(map(_kind, choices))
    if field.get("type") == "array":
        return f"[{_kind(field.get('items', {}))}]"
    if field.get("type") == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return "{name: " + _kind(field["additionalProperties"]) + "}"
    return str(field.get("type", "any"))


def _errors(errors: Any) -> str:
    rows = "".join(
        f'<tr id="{escape(error["code"])}"><td class="status">{error["status"]}</td>'
        f"<td><code>{escape(error['code'])}</code></td><td>{escape(error['when'])}</td></tr>"
        for error in errors
    )
    head = "<tr><th>status</th><th>code</th><th>when</th></tr>"
    return f'<article class="scroll"><table>{head}{rows}</table></article>'


def _table(head: tuple[str, ...], rows: Any) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = ""
    for first, *rest in rows:
        others = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        body += f"<tr><td><code>{escape(first)}</code></td>{others}</tr>"
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _text(described: Json) -> str:
    paragraphs = described.get("description", "").split("\n\n")
    return "".join(f"<p>{_code(escape(paragraph))}</p>" for paragraph in paragraphs if paragraph)


def _code(text: str) -> str:
    """Markdown's backticks as code."""
    pieces = text.split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))


def _reference(schema: Json) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _anchor(method: str, path: str) -> str:
    return escape(f"{method}{path.replace('/', '-')}")
