"""JSON out: one serializer for every answer."""

import orjson
from starlette.responses import Response


def dump(document: object) -> bytes:
    """Compact JSON; tuples count as lists."""
    return orjson.dumps(document, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


class JsonResponse(Response):
    """An answer whose content is any JSON-able value."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return dump(content)
