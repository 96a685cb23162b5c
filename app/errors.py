"""What only HTTP can meet, and how every error becomes a problem document (RFC 9457).

    JobcastError                        model/errors.py has the rest of the tree
    └── HttpError
        ├── MalformedBody               400 malformed_body
        ├── Unauthorized                401 unauthorized
        ├── NotFound                    404 not_found
        ├── OutcomesDisabled            404 outcomes_disabled
        ├── MethodNotAllowed            405 method_not_allowed
        ├── RequestTimeout              408 request_timeout
        ├── BodyTooLarge                413 body_too_large
        ├── HeadTooLarge                431 head_too_large
        └── UnsupportedMediaType        415 unsupported_media_type
    Overloaded
    └── RateLimited                     429 rate_limited
    JobcastError
    ├── InvalidOutcome                  422 invalid_outcome
    ├── UnknownRequest                  404 unknown_request     of an item of POST /outcomes
    └── OutcomesUnavailable             503 outcomes_unavailable

A problem never repeats the input. A 5xx of ours says nothing but the request id.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.json import dump
from model.errors import JobcastError, Overloaded

PROBLEM_JSON = "application/problem+json"


class HttpError(JobcastError):
    """A request that is wrong as HTTP, whatever it asks for."""

    status = 400


class MalformedBody(HttpError):
    code = "malformed_body"


class Unauthorized(HttpError):
    """No key, or not a valid one: the client is not told which."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("a valid API key is needed, as Authorization: Bearer or as X-API-Key")


class NotFound(HttpError):
    status = 404
    code = "not_found"


class OutcomesDisabled(HttpError):
    """The service has no outcome store."""

    status = 404
    code = "outcomes_disabled"


class MethodNotAllowed(HttpError):
    """`allow` lists the methods that the route has, for the `Allow` header."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str = "") -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(HttpError):
    status = 408
    code = "request_timeout"


class BodyTooLarge(HttpError):
    status = 413
    code = "body_too_large"


class HeadTooLarge(HttpError):
    status = 431
    code = "head_too_large"


class UnsupportedMediaType(HttpError):
    status = 415
    code = "unsupported_media_type"


class RateLimited(Overloaded):
    """The client has used up its rate; the service itself may have room."""

    code = "rate_limited"


class InvalidOutcome(JobcastError):
    """An outcome that says too little, too much, or what cannot be."""

    status = 422
    code = "invalid_outcome"


class UnknownRequest(JobcastError):
    """No prediction of this request id is known, or none of this caller."""

    status = 404
    code = "unknown_request"


class OutcomesUnavailable(JobcastError):
    """The database is away, or does not take what it is given."""

    status = 503
    code = "outcomes_unavailable"

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class ErrorEntry:
    """A line of the error table that clients can rely on."""

    status: int
    code: str
    when: str


ERROR_TABLE = (
    ErrorEntry(
        400,
        "malformed_body",
        "not JSON, not UTF-8, NaN or Infinity, wrong types, unknown fields, a key twice",
    ),
    ErrorEntry(401, "unauthorized", "keys are configured and the request has no valid one"),
    ErrorEntry(404, "not_found", "no such path"),
    ErrorEntry(404, "outcomes_disabled", "the service has no outcome store"),
    ErrorEntry(404, "unknown_request", "no prediction of this caller has this request id; of an item"),
    ErrorEntry(405, "method_not_allowed", "the path exists, with other methods"),
    ErrorEntry(408, "request_timeout", "the request did not arrive in time, however steadily it trickled"),
    ErrorEntry(413, "body_too_large", "over the byte limit, chunked or not"),
    ErrorEntry(415, "unsupported_media_type", "neither JSON, YAML nor plain text, or compressed"),
    ErrorEntry(422, "invalid_config", "the config does not parse or breaks its format; says where"),
    ErrorEntry(422, "config_too_deep", "the config is nested too deep"),
    ErrorEntry(422, "config_too_large", "the config expands to too much, or takes too long to read"),
    ErrorEntry(422, "unknown_kind", "no reader has this name; the known ones are listed"),
    ErrorEntry(422, "unknown_job", "`job` names none of the workflow's jobs"),
    ErrorEntry(422, "unknown_target", "the checkpoint lacks a target; the known ones are listed"),
    ErrorEntry(422, "invalid_quantile", "1 to 32 different numbers strictly between 0 and 1"),
    ErrorEntry(422, "invalid_history", "too many, out of order, negative, or of no job"),
    ErrorEntry(422, "invalid_given", "not a target, negative, or for more than one job"),
    ErrorEntry(
        422, "invalid_outcome", "no value or an impossible one, a time that cannot be, or no job; of an item"
    ),
    ErrorEntry(422, "value_out_of_range", "a number that the checkpoint cannot write"),
    ErrorEntry(429, "overloaded", "the queue is full or the deadline cannot be met; see Retry-After"),
    ErrorEntry(429, "rate_limited", "the key's rate is used up; see Retry-After and RateLimit"),
    ErrorEntry(431, "head_too_large", "the request line and the headers are over their byte limit"),
    ErrorEntry(500, "internal", "a defect of ours"),
    ErrorEntry(503, "engine_unavailable", "the engine is starting, dead or draining"),
    ErrorEntry(503, "outcomes_unavailable", "the outcome store cannot be reached; see Retry-After"),
    ErrorEntry(504, "deadline_exceeded", "accepted, but the deadline passed"),
)


def problem(error: BaseException, request_id: str) -> dict[str, object]:
    """The problem document of an error; anything that is not meant for a client becomes `internal`."""
    if not isinstance(error, JobcastError) or error.status == 500:
        status, code, detail = 500, "internal", "an internal error; quote the request id when you report it"
        extras: Mapping[str, object] = {}
    else:
        status, code, detail, extras = error.status, error.code, error.message, error.details()
    document: dict[str, object] = {
        "type": f"/docs#{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
        **extras,
    }
    if (seconds := _retry_after(error)) is not None:
        document["retry_after_seconds"] = round(seconds, 3)
    return document


def problem_response(error: BaseException, request_id: str) -> Response:
    """The HTTP answer for an error, with the headers that belong to it."""
    document = problem(error, request_id)
    headers = {}
    if (seconds := _retry_after(error)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers["Allow"] = error.allow
    if isinstance(error, BodyTooLarge | RequestTimeout | UnsupportedMediaType):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Response(dump(document), HTTPStatus(error_status(error)), headers, PROBLEM_JSON)


def error_status(error: BaseException) -> int:
    """The HTTP status of any exception."""
    return error.status if isinstance(error, JobcastError) else 500


def add_error_handlers(app: FastAPI) -> None:
    """Turn JobcastError and the router's own 404/405 into problems; the middleware does the rest."""

    async def jobcast_error(request: Request, error: Exception) -> Response:
        return problem_response(error, request.state.request_id)

    async def router_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            found: JobcastError = NotFound("no such path; /docs lists what there is")
        elif error.status_code == 405:
            allow = (error.headers or {}).get("Allow", "")
            found = MethodNotAllowed("this path does not have that method", allow=allow)
        else:
            found = MalformedBody("the request is not valid")
        return problem_response(found, request.state.request_id)

    app.add_exception_handler(JobcastError, jobcast_error)
    app.add_exception_handler(HTTPException, router_error)


def _retry_after(error: BaseException) -> float | None:
    return error.retry_after_seconds if isinstance(error, Overloaded | OutcomesUnavailable) else None
