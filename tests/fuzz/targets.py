"""What must hold of any input whatever: an answer within the bounds, or a refusal that is the client's to mend."""

import time
from collections.abc import Mapping

import orjson

from model.checkpoint import Checkpoint
from model.errors import JobcastError
from model.jobs import read
from model.jobs.time_limit import time_limit

READ_SECONDS = 2.0
#: Prompts are made for the first jobs only: a matrix has hundreds that differ in a word.
JOBS_PROMPTED = 4


def read_and_prompt(
    checkpoint: Checkpoint, kind: str, config: str | Mapping[str, object], context: Mapping[str, object]
) -> str:
    """The error's code, or "ok". Raises whatever else happens, AssertionError where the result is out of bounds."""
    started = time.perf_counter()
    try:
        first = _prompts(checkpoint, kind, config, context)
    except JobcastError as error:
        assert error.status < 500, error.code
        assert orjson.dumps(error.details()) is not None
        return error.code
    finally:
        seconds = time.perf_counter() - started
        assert seconds < 2 * READ_SECONDS, f"took {seconds:.1f} s"
    assert first == _prompts(checkpoint, kind, config, context), "equal input, different prompts"
    return "ok"


def _prompts(
    checkpoint: Checkpoint, kind: str, config: str | Mapping[str, object], context: Mapping[str, object]
) -> list[tuple[int, ...]]:
    with time_limit(READ_SECONDS):
        reading = read(kind, config, context)
        jobs = [*([reading.workflow] if reading.workflow else []), *reading.jobs]
        assert jobs, "neither a workflow nor a job"
        # What goes into the answer as it is must be possible to write.
        orjson.dumps(
            [[job.name, list(job.needs), dict(job.requested)] for job in jobs] + list(reading.warnings)
        )
        prompts = [checkpoint.prompt(job) for job in jobs[:JOBS_PROMPTED]]
    for prompt in prompts:
        assert 0 < len(checkpoint.encoder.text_part(prompt.ids)) <= checkpoint.token_budget
        assert prompt.left_out_characters >= 0
        assert 0 <= checkpoint.novelty(prompt) <= 1
    return [prompt.ids for prompt in prompts]
