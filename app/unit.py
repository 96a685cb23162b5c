"""What one config asks to predict."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.outcomes.identity import Identity
from model.calibration import BOUND_QUANTILES
from model.engines.base import Query
from model.errors import InvalidGiven
from model.jobs.job import Scope


@dataclass(frozen=True)
class Unit:
    """One thing to predict for: a job, or the workflow as a whole."""

    kind: str
    scope: Scope
    name: str
    needs: tuple[str, ...]
    prompt: tuple[int, ...]
    left_out_characters: int
    novelty: float
    #: Past runs in the prompt, or behind its evidence.
    past_runs: int = 0
    #: Target -> what a run had taken when it was cut off.
    bounds: Mapping[str, float] = field(default_factory=dict)
    #: Targets of which no past run tells: they are asked about by the prompt without any, since to the model past runs
    #: mean that what comes is known.
    untold: frozenset[str] = frozenset()
    untold_prompt: tuple[int, ...] = ()
    #: With an outcome store: which job it is there.
    identity: Identity | None = None

    def queries(self, question: Query) -> tuple[Query, ...]:
        """What the engine is asked for a question: each target once."""
        told = tuple(name for name in question.targets if name not in self.untold)
        untold = tuple(name for name in question.targets if name in self.untold)
        return tuple(
            replace(question, prompt=prompt, targets=targets)
            for prompt, targets in ((self.prompt, told), (self.untold_prompt, untold))
            if targets
        )


@dataclass(frozen=True)
class Units:
    """All that one config asks to predict; `warnings` are the reader's."""

    workflow: Unit | None
    jobs: tuple[Unit, ...]
    warnings: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Unit, ...]:
        """The workflow first, then its jobs."""
        return (self.workflow, *self.jobs) if self.workflow else self.jobs

    def question(self, question: Query) -> Query:
        """With the quantiles that have to be known too where runs were cut off."""
        bounded = any(unit.bounds.keys() & set(question.targets) for unit in self.all)
        wanted = {*question.quantiles, *(BOUND_QUANTILES if bounded else ())}
        return replace(question, quantiles=tuple(sorted(wanted)))

    def check_given(self, given: Mapping[str, float]) -> None:
        """Raises InvalidGiven where it is open whose values are known."""
        if given and len(self.all) != 1:
            raise InvalidGiven("values can be given for one job only; say which with `job`")
