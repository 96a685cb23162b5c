"""What requests are checked with. Strict: no coercion, no unknown fields, no NaN.

A validation error becomes `malformed_body` in words that hold our field names and never the input.
"""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from app.errors import MalformedBody

Number = Annotated[float, Field(allow_inf_nan=False)]
#: More faults are not told apart: a million of them would take the event loop's time for seconds. Lists of the input
#: fail fast for the same reason.
_MOST_FAULTS = 1000
_Model = TypeVar("_Model", bound=BaseModel)
#: The names of all requests' fields; any other key is the input's own.
_FIELDS: set[str] = set()


class StrictModel(BaseModel):
    """A request, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        _FIELDS.update(cls.model_fields)


#: pydantic's error types in our words; each follows the name of a field.
_PHRASES = {
    "missing": "is required",
    "finite_number": "must be finite",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "too_short": "has too few entries",
    "too_long": "has too many entries",
    "string_too_long": "is too long",
}


def validated(model: type[_Model], content: object) -> _Model:
    """The content as a model. Raises MalformedBody, free of input."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        if error.error_count() > _MOST_FAULTS:
            raise MalformedBody(f"more than {_MOST_FAULTS} faults") from None
        found = error.errors(include_url=False, include_input=False)
        sentences = dict.fromkeys(_sentence(model, one) for one in found)
        raise MalformedBody("; ".join(list(sentences)[:5])) from None


def _sentence(model: type[BaseModel], error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown field; known: {', '.join(model.model_fields)}"
    if error["loc"][:1] == ("config",):
        return "config must be text or an object" if len(error["loc"]) > 1 else "config is required"
    path = ""
    for part in error["loc"]:  # may hold the input's own keys, which stay out
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _FIELDS:
            path += f".{part}" if path else part
    limits = [str(value) for value in error.get("ctx", {}).values() if isinstance(value, int)]
    phrase = _PHRASES.get(error["type"], "is not valid")
    return f"{path or 'the body'} {phrase}" + (f" (limit {limits[0]})" if limits else "")
