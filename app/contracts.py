"""What the service needs of the predictor, as protocols: the seams where tests put fakes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.jobs.job import Job, Reading
from model.prompt import Prompt, Standing
from model.targets import Target


class Checkpoint(Protocol):
    """A verified checkpoint: all that is known without running the engine."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def targets(self) -> tuple[Target, ...]: ...

    @property
    def token_budget(self) -> int: ...

    @property
    def summary(self) -> Mapping[str, object]: ...

    def prompt(self, job: Job) -> Prompt: ...

    def support(self, kind: str, scope: str) -> Mapping[str, int]:
        """Target name -> number of training records of this kind and scope."""
        ...

    def novelty(self, prompt: Prompt) -> float:
        """0: all of it was seen in training; 1: nothing was."""
        ...

    def standing(self, prompt: Sequence[int]) -> Standing:
        """What a prompt says beside its text."""
        ...

    def calibrate(
        self,
        place: str,
        quantiles: Sequence[float],
        values: Sequence[float],
        standing: Standing,
        *,
        given: bool = False,
    ) -> tuple[float, ...]:
        """Calibrated values; `quantiles` must include 0.5."""
        ...


class ReadConfig(Protocol):
    """Raw config and context -> jobs; pure. Raises UnknownKind, InvalidConfig."""

    def __call__(
        self, kind: str, config: str | Mapping[str, object], context: Mapping[str, object]
    ) -> Reading: ...
