"""A few hundred cases per reader."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import DEFAULT_CHECKPOINT
from loadtest.reliability.mutation import mutated
from model.checkpoint import Checkpoint
from model.jobs import KINDS
from tests.fuzz import structured
from tests.fuzz.targets import read_and_prompt

CASES = 150
_FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return Checkpoint.load(DEFAULT_CHECKPOINT)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_configs_are_read_or_refused(checkpoint: Checkpoint, kind: str) -> None:
    outcomes = {read_and_prompt(checkpoint, kind, mutated(kind, 1, number), {}) for number in range(CASES)}
    assert "ok" in outcomes  # else the changes are too coarse to reach anything


@pytest.mark.parametrize("kind", KINDS)
@_FEW
@given(data=st.data())
def test_objects_are_read_or_refused(checkpoint: Checkpoint, kind: str, data: st.DataObject) -> None:
    config, context = data.draw(structured.objects(kind)), data.draw(structured.contexts)
    read_and_prompt(checkpoint, kind, config, context)


@pytest.mark.parametrize("kind", KINDS)
@_FEW
@given(data=st.data())
def test_lines_are_read_or_refused(checkpoint: Checkpoint, kind: str, data: st.DataObject) -> None:
    read_and_prompt(checkpoint, kind, data.draw(structured.lines(kind)), {})
