"""The request's body: bounded while it streams, and its media type decided before a byte is read.

Covered: a Content-Length that is too large (refused at once) or lies, chunked bodies, compressed bodies and
charsets other than UTF-8 (both refused), bodies that trickle in. The head is app/protocol.py's.
"""

import asyncio
from collections.abc import Mapping
from email.message import Message
from typing import Literal

from starlette.requests import Request

from app.errors import BodyTooLarge, MalformedBody, RequestTimeout, UnsupportedMediaType
from app.timings import current

JSON_TYPES = ("application/json",)
RAW_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
#: Raw text of any format; only with `?kind=`, since it says nothing itself.
PLAIN_TYPES = ("text/plain",)

_LONGEST_TYPE = 256

Form = Literal["json", "raw"]


def body_form(headers: Mapping[str, str], *, has_kind: bool, raw_allowed: bool = True) -> Form:
    """Whether the body is the JSON envelope or the configuration file itself.

    Raises UnsupportedMediaType for anything else.
    """
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType(
            "compressed bodies are not accepted; send the body without Content-Encoding"
        )
    written = headers.get("content-type", "")
    if len(written) > _LONGEST_TYPE:  # the parser's time grows with the square of it
        raise UnsupportedMediaType(f"a Content-Type of more than {_LONGEST_TYPE} characters")
    content_type = Message()
    content_type["content-type"] = written
    media_type = content_type.get_content_type() if written else ""
    charset = content_type.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("only UTF-8 is accepted")
    if media_type in JSON_TYPES:
        return "json"
    if raw_allowed and (media_type in RAW_TYPES or (media_type in PLAIN_TYPES and has_kind)):
        return "raw"
    accepted = "application/json"
    if raw_allowed:
        accepted += ", or with ?kind=... the file itself as application/yaml or text/plain"
    raise UnsupportedMediaType(f"unsupported Content-Type; accepted: {accepted}")


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body, at most `limit` bytes, all of which must arrive within `seconds`.

    Raises BodyTooLarge as soon as it is known to be larger, and RequestTimeout.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {seconds:g} seconds") from None
    current().body_bytes = size
    return b"".join(chunks)


def decode_text(body: bytes) -> str:
    """The body as text, without a byte order mark. Raises MalformedBody."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"not UTF-8: byte {error.start} cannot be decoded") from None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {limit} bytes")
