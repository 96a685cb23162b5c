"""Request and response models of predictions; outcome_schemas.py has those of outcomes."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.api.validation import Number, StrictModel, validated
from app.ask import Ask, PastRun
from model.jobs import KINDS

__all__ = ["BatchRequest", "BatchResponse", "PredictRequest", "PredictResponse", "Problem", "validated"]


class HistoryEntry(StrictModel):
    """A past run: its values by target name, how long ago it was, how it ended."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number | None]

    age_seconds: Number = Field(description="Seconds since it ended; entries come newest first.")
    same_config: bool | None = Field(None, description="Whether the canonical text was the same.")
    status: str = Field("success", max_length=64, description="Anything else: the values are lower bounds.")
    job: str | None = Field(
        None, description="The job it belongs to; null: the whole workflow, or the only job."
    )


class PredictRequest(StrictModel):
    """What to predict, from a configuration as it is written."""

    kind: str = Field(
        description="The format of the config.", max_length=128, json_schema_extra={"enum": list(KINDS)}
    )
    config: str | dict[str, Any] = Field(description="The raw text, or the same thing as an object.")
    job: str | None = Field(None, description="Restricts a workflow to the job of this name.")
    context: dict[str, Any] | None = Field(None, description="Repository, event, runner, machine, stage ...")
    targets: list[str] | None = Field(
        None, fail_fast=True, min_length=1, max_length=64, description="Default: all."
    )
    quantiles: list[Number] | None = Field(
        None, fail_fast=True, description="1 to 32 in (0, 1). Default: 0.1, 0.5, 0.9."
    )
    given: dict[str, Number] | None = Field(
        None, description="Known targets; the rest is predicted from them."
    )
    history: list[HistoryEntry] | None = Field(
        None,
        fail_fast=True,
        description="At most 20 past runs, newest first. Absent: those that were reported; empty: none.",
    )
    series: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Your own name of the recurring job, under which its outcomes are found; default: worked out.",
    )
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
            history=None
            if self.history is None
            else [
                PastRun(run.__pydantic_extra__, run.age_seconds, run.same_config, run.status, run.job)
                for run in self.history
            ],
            deadline_ms=self.deadline_ms,
            series=self.series,
        )


class BatchRequest(StrictModel):
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
    past_runs: int = Field(description="How many past runs it took into account, sent or reported.")


class Direct(BaseModel):
    """A forecast: per target, quantile -> value in the target's unit."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, dict[str, float]]

    source: str = Field(description="model or cache")
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
