"""Request and response models of POST /outcomes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas import Problem
from app.api.validation import Number, StrictModel
from app.outcomes.report import Report
from model.jobs import KINDS

Text = Annotated[str, Field(min_length=1, max_length=256)]


class OutcomeReport(StrictModel):
    """What one job took. Which job: `request_id`, or `kind` and `config`, with the `context` it was predicted with."""

    request_id: str | None = Field(
        None, min_length=1, max_length=160, description="Of the answer that predicted it."
    )
    kind: str | None = Field(
        None,
        description="The format of the config.",
        max_length=128,
        json_schema_extra={"enum": [*KINDS, None]},
    )
    config: str | dict[str, Any] | None = Field(
        None, description="The raw text, or the same thing as an object."
    )
    context: dict[str, Any] | None = Field(None, description="As in the request for its prediction.")
    series: Text | None = Field(None, description="Your own name of the recurring job, as in that request.")
    job: str | None = Field(
        None, description="Which of several jobs it was; null: the whole workflow, or the only job."
    )
    runtime_seconds: Number | None = None
    peak_memory_bytes: Number | None = None
    cpu_cores: Number | None = None
    status: str = Field("success", max_length=64, description="Anything else: the values are lower bounds.")
    finished_at: str | None = Field(None, max_length=64, description="RFC 3339, with its zone. Default: now.")
    idempotency_key: Text | None = Field(
        None, description="Of two outcomes with the same key the first counts."
    )

    def report(self) -> Report:
        """The same, free of HTTP."""
        return Report(
            values={
                "runtime_seconds": self.runtime_seconds,
                "peak_memory_bytes": self.peak_memory_bytes,
                "cpu_cores": self.cpu_cores,
            },
            request_id=self.request_id,
            kind=self.kind,
            config=self.config,
            context=self.context,
            series=self.series,
            job=self.job,
            status=self.status,
            finished_at=self.finished_at,
            idempotency_key=self.idempotency_key,
        )


class OutcomesRequest(StrictModel):
    """Several outcomes; each fails alone."""

    outcomes: list[Any]


class OutcomeVerdict(BaseModel):
    """Kept, or known already."""

    status: Literal["accepted", "duplicate"]


class OutcomesResponse(BaseModel):
    """One verdict or problem per outcome, in order."""

    outcomes: list[OutcomeVerdict | Problem]
