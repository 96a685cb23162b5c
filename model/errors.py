"""Every failure a caller can meet, with its HTTP status and stable code.

    JobcastError                        500 internal
    ├── InvalidConfig                   422 invalid_config      line / column / path say where
    │   ├── ConfigTooDeep               422 config_too_deep
    │   └── ConfigTooLarge              422 config_too_large
    ├── UnknownKind                     422 unknown_kind
    ├── UnknownJob                      422 unknown_job         `job` names none of the workflow's jobs
    ├── UnknownTarget                   422 unknown_target
    ├── InvalidQuantile                 422 invalid_quantile
    ├── InvalidHistory                  422 invalid_history
    ├── InvalidGiven                    422 invalid_given
    ├── ValueOutOfRange                 422 value_out_of_range  a number the number code cannot write
    ├── Overloaded                      429 overloaded
    ├── EngineUnavailable               503 engine_unavailable
    ├── DeadlineExceeded                504 deadline_exceeded
    └── CheckpointError                 500 checkpoint_invalid  stops the start; never sent to a client

The service adds what only HTTP can meet (`app/errors.py`): malformed_body, not_found and the like.
A message never repeats the caller's input: it says what is wrong and where, not what stood there.
"""

from typing import ClassVar

from model.redact import MASK, mask_secrets

#: A path is made of the caller's keys, which may be of any length and hold anything.
MAX_PATH = 200


class JobcastError(Exception):
    """Base of all errors; `message` is safe to send to a client."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def details(self) -> dict[str, int | str | float]:
        """Machine-readable extras for the problem document, such as line and column."""
        return {}


class InvalidConfig(JobcastError):
    """The configuration does not parse or breaks its format.

    `line` and `column` count from 1; `path` is dotted (`jobs.build.steps[2].uses`). Any may be None.
    """

    status = 422
    code = "invalid_config"

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message)
        self.line, self.column = line, column
        self.path = None if path is None else _shown(path)

    def details(self) -> dict[str, int | str | float]:
        found = {"line": self.line, "column": self.column, "path": self.path}
        return {name: value for name, value in found.items() if value is not None}


def _shown(path: str) -> str:
    """The path up to its first secret, clipped; masked first, since a cut secret is hard to tell."""
    before, mark, _ = mask_secrets(path[: MAX_PATH * 10]).partition(MASK)
    shown = before + mark
    return shown if len(shown) <= MAX_PATH else shown[: MAX_PATH - 1] + "…"


class ConfigTooDeep(InvalidConfig):
    code = "config_too_deep"


class ConfigTooLarge(InvalidConfig):
    code = "config_too_large"


class UnknownKind(JobcastError):
    status = 422
    code = "unknown_kind"


class UnknownJob(JobcastError):
    status = 422
    code = "unknown_job"


class UnknownTarget(JobcastError):
    status = 422
    code = "unknown_target"


class InvalidQuantile(JobcastError):
    status = 422
    code = "invalid_quantile"


class InvalidHistory(JobcastError):
    status = 422
    code = "invalid_history"


class InvalidGiven(JobcastError):
    status = 422
    code = "invalid_given"


class ValueOutOfRange(JobcastError):
    status = 422
    code = "value_out_of_range"


class Overloaded(JobcastError):
    """The queue is full or the deadline cannot be met. retry_after_seconds: by the queue; None: it never will be."""

    status = 429
    code = "overloaded"

    def __init__(self, message: str, *, retry_after_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineUnavailable(JobcastError):
    status = 503
    code = "engine_unavailable"


class DeadlineExceeded(JobcastError):
    status = 504
    code = "deadline_exceeded"


class CheckpointError(JobcastError):
    code = "checkpoint_invalid"
