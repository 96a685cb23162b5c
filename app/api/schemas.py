"""Request and response models. Strict: no coercion, no unknown fields, no NaN.

A validation error becomes `malformed_body` in words that hold our field names and never the input.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from app.ask import Ask, PastRun
from app.errors import MalformedBody
from model.jobs import KINDS

Number = Annotated[float, Field(allow_inf_nan=False)]
_Model = TypeVar("_Model", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class HistoryEntry(_Request):
    """A past run: its values by target name, how long ago it was, how it ended."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | None]

    age_seconds: Number = Field(description="Seconds since it ended; entries come newest first.")
    same_config: bool | None = Field(None, description="Whether the canonical text was the same.")
    status: str = Field("success", max_length=64, description="Anything else: the values are lower bounds.")
    job: str | None = Field(
        None, description="The job it belongs to; null: the whole workflow, or the only job."
    )


class PredictRequest(_Request):
    """What to predict, from a configuration as it is written."""

    kind: str = Field(
        description="The format of the config.", max_length=128, json_schema_extra={"enum": list(KINDS)}
    )
    config: str | dict[str, Any] = Field(description="The raw text, or the same thing as an object.")
    job: str | None = Field(None, description="Restricts a workflow to the job of this name.")
    context: dict[str, Any] | None = Field(None, description="Repository, event, runner, machine, stage ...")
    targets: list[str] | None = Field(None, min_length=1, max_length=64, description="Default: all.")
    quantiles: list[Number] | None = Field(None, description="1 to 32 in (0, 1). Default: 0.1, 0.5, 0.9.")
    given: dict[str, Number] | None = Field(
        None, description="Known targets; the rest is predicted from them."
    )
    history: list[HistoryEntry] | None = Field(None, description="At most 20 past runs, newest first.")
    deadline_ms: int | None = Field(
        None, ge=10, le=60_000, description="When the answer is of no use any more."
    )

    def ask(self) -> Ask:
        """The same, free of HTTP."""
        return Ask(
            kind=self.kind,
            config=self.config,
            job=self.job,
            context=self.context or {},
            targets=self.targets,
            quantiles=self.quantiles,
            given=self.given or {},
            history=[
                PastRun(run.__pydantic_extra__, run.age_seconds, run.same_config, run.status, run.job)
                for run in self.history or ()
            ],
            deadline_ms=self.deadline_ms,
        )


class BatchRequest(_Request):
    """Several requests; each fails alone."""

    requests: list[Any]


class TargetSupport(BaseModel):
    """How many training records of this kind and scope had this target."""

    trained: bool
    records: int


class Support(BaseModel):
    """Per target, and how unusual the input is: 0 all seen in training, 1 nothing seen."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, TargetSupport]

    novelty: float


class InputReport(BaseModel):
    """What became of the input."""

    tokens: int
    left_out_characters: int


class Direct(BaseModel):
    """A forecast: per target, quantile -> value in the target's unit."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, float]]

    source: str = Field(description="model, cache or fallback")
    support: Support
    input: InputReport
    warnings: list[str]


class Prediction(Direct):
    """The forecast for one job."""

    name: str
    scope: str
    needs: list[str]


class Workflow(BaseModel):
    """The run as a whole. `composed`, from the jobs through the graph, is null in this version."""

    direct: Direct
    composed: dict[str, Any] | None = None


class ModelName(BaseModel):
    """The checkpoint that answered."""

    name: str
    version: str


class PredictResponse(BaseModel):
    """The answer; `workflow` is there when the kind has such a scope."""

    request_id: str
    model: ModelName
    workflow: Workflow | None = None
    predictions: list[Prediction]


class Problem(BaseModel):
    """RFC 9457; `code` is stable. Some have more members, such as line and column."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str


class BatchResponse(BaseModel):
    """One answer or problem per request, in order."""

    responses: list[PredictResponse | Problem]


_FIELDS = {name for model in (PredictRequest, HistoryEntry, BatchRequest) for name in model.model_fields}
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
