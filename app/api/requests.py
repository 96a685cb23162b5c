"""From a request's bytes to a PredictRequest: the JSON envelope, or the file itself with query parameters."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from app.api.schemas import PredictRequest, validated
from app.body import Form, body_form, decode_text, read_body
from app.errors import MalformedBody
from app.settings import Settings

#: Query parameters of the raw form, and what each says.
RAW_PARAMETERS = {
    "kind": "The format of the file; required.",
    "job": "Restricts a workflow to the job of this name.",
    "targets": "Comma separated; default: all.",
    "quantiles": "Comma separated; default: 0.1,0.5,0.9.",
    "event": "context.event",
    "repository": "context.repository",
    "runner": "context.runner",
    "series": "Your own name of the recurring job; default: worked out from the job.",
    "deadline_ms": "When the answer is of no use any more.",
}
#: Bytes that take well under a millisecond.
_PARSED_AT_ONCE = 64 * 1024
CONTEXT_PARAMETERS = ("event", "repository", "runner")


@dataclass(frozen=True)
class RawRequest:
    """A request of POST /predict as it came: not parsed yet, since equal bytes need not be."""

    form: Form
    parameters: Sequence[tuple[str, str]]
    body: bytes

    @property
    def parts(self) -> tuple[bytes, ...]:
        """All that tells it from another one."""
        query = (text.encode("utf-8", "surrogatepass") for pair in self.parameters for text in pair)
        return (self.form.encode(), self.body, *query)

    async def parsed(self) -> PredictRequest:
        """What it says. Raises MalformedBody."""
        if self.form == "json":
            return validated(PredictRequest, await read_json(self.body))
        return validated(PredictRequest, _raw(self.parameters, decode_text(self.body)))


def caller_of(request: Request) -> str:
    """Who asks, for fair turns: the name of the key, or else the address."""
    return client_of(request) or (request.client.host if request.client else "")


def client_of(request: Request) -> str:
    """To whom request ids and idempotency keys belong: the name of the key; everybody where there are none."""
    named: str | None = getattr(request.state, "client_name", None)
    return named or ""


async def read_predict_request(request: Request, limit: int, seconds: float) -> RawRequest:
    """The request of POST /predict. Raises UnsupportedMediaType, BodyTooLarge, RequestTimeout, MalformedBody."""
    parameters = request.query_params
    form = body_form(request.headers, has_kind="kind" in parameters)
    if form == "json" and parameters:
        raise MalformedBody(
            "query parameters belong to the raw form; "
            "to send a file that is JSON itself, use Content-Type: text/plain"
        )
    return RawRequest(form, parameters.multi_items(), await read_body(request, limit, seconds))


async def read_items(request: Request, settings: Settings, field: str, model: type[BaseModel]) -> list[Any]:
    """The items of a batch, the list in this field of the body, each still to be checked; counted against the rate.

    Raises UnsupportedMediaType, BodyTooLarge, RequestTimeout, MalformedBody, RateLimited.
    """
    body_form(request.headers, has_kind=False, raw_allowed=False)
    body = await read_body(request, settings.max_body_bytes, settings.body_seconds)
    items: list[Any] = getattr(validated(model, await read_json(body)), field)
    if len(items) > settings.max_batch_items:
        raise MalformedBody(f"a batch holds at most {settings.max_batch_items} {field}")
    await request.state.meter.take(max(1, len(items)))
    return items


async def read_json(body: bytes) -> object:
    """What `parse_json` says; a large body is parsed beside the event loop."""
    return parse_json(body) if len(body) <= _PARSED_AT_ONCE else await asyncio.to_thread(parse_json, body)


def parse_json(body: bytes) -> object:
    """Strict JSON: no NaN, no Infinity, nothing beyond a double, no key twice in an object. Raises MalformedBody.

    RFC 8259 leaves repeated keys open, and parsers differ: what a proxy in front checked need not be what is read here.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"not JSON: line {error.lineno}, column {error.colno}") from None
    try:
        json.loads(body, object_pairs_hook=_refuse_repeated_keys)
    except RecursionError:
        raise MalformedBody("JSON nested too deep") from None
    return parsed


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise MalformedBody("a key that appears twice in one JSON object")


def _raw(parameters: Sequence[tuple[str, str]], text: str) -> dict[str, Any]:
    names = [name for name, _ in parameters]
    if not set(names) <= RAW_PARAMETERS.keys():
        raise MalformedBody(f"unknown query parameter; known: {', '.join(RAW_PARAMETERS)}")
    if len(set(names)) < len(names):
        raise MalformedBody("a query parameter appears twice")
    given = dict(parameters)
    content: dict[str, Any] = {
        "config": text,
        **{name: given[name] for name in ("kind", "job", "series") if name in given},
    }
    content["context"] = {name: given[name] for name in CONTEXT_PARAMETERS if name in given}
    if "targets" in given:
        content["targets"] = given["targets"].split(",")
    try:
        if "quantiles" in given:
            content["quantiles"] = [float(_digits(quantile)) for quantile in given["quantiles"].split(",")]
        if "deadline_ms" in given:
            content["deadline_ms"] = int(_digits(given["deadline_ms"]))
    except ValueError:
        raise MalformedBody("quantiles and deadline_ms must be numbers") from None
    return content


def _digits(text: str) -> str:
    """The text of a number as JSON would write it: Python also takes `1_0`, blanks and the digits of any script."""
    if not text.isascii() or "_" in text or text != text.strip():
        raise ValueError
    return text
