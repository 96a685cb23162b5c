"""What every reader returns. No reader touches the network, a clock or the file system.

raw config, context --read--> Reading(jobs, workflow) --model.text--> canonical text
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

#: A job's body: text and numbers in ordered mappings and sequences. Readers order mappings
#: deterministically (whatever the order of the input); the serializer keeps the order it is given.
Value: TypeAlias = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"] | None

Scope = Literal["workflow", "job"]

#: Ages of past runs are told apart in so many steps.
AGE_STEPS = 16


@dataclass(frozen=True)
class Outcome:
    """One past run: target name -> measured value, how long ago, and whether the config was the same."""

    values: Mapping[str, float]
    age_seconds: float
    same_config: bool | None = None
    #: False: the run was cut off, so its values are lower bounds.
    complete: bool = True

    @property
    def age_step(self) -> int:
        """The age in doubling steps from an hour on, so that equal requests a minute apart stay equal."""
        hours = self.age_seconds / 3600
        return 0 if hours < 1 else min(1 + math.floor(math.log2(hours)), AGE_STEPS - 1)


@dataclass(frozen=True)
class Job:
    """One unit to predict for.

    `body` goes into the canonical text in its own order: what stays the same from run to run and from stage
    to stage first, what changes last, so that prompts share long prefixes.
    `requested` holds the author's own resource requests in units of the targets
    (`runtime_seconds`, `peak_memory_bytes`, `cpu_cores`), where the format has them.
    """

    kind: str
    scope: Scope
    name: str
    body: Mapping[str, Value]
    needs: tuple[str, ...] = ()
    requested: Mapping[str, float] = field(default_factory=dict)
    context: Mapping[str, Value] = field(default_factory=dict)
    history: tuple[Outcome, ...] = ()
    #: As the config spells the name, where `name` is a masked form of it.
    written_name: str | None = None

    def answers_to(self, name: str) -> bool:
        """Whether a client that says `name` means this job."""
        return name in (self.name, self.written_name)

    def with_history(self, history: Sequence[Outcome]) -> "Job":
        """The same job with past outcomes, newest first."""
        return replace(self, history=tuple(history))


@dataclass(frozen=True)
class Reading:
    """What one config holds: the run as a whole (where the kind has such a scope) and its jobs.

    `warnings` are sentences for the caller, free of input text.
    """

    jobs: tuple[Job, ...]
    workflow: Job | None = None
    warnings: tuple[str, ...] = ()


class Reader(Protocol):
    """Reads one format. Raises `InvalidConfig` (or a child) with line/column or path."""

    def __call__(
        self, kind: str, config: str | Mapping[str, object], context: Mapping[str, object]
    ) -> Reading: ...
