"""What one vLLM request asks for, as its sampling parameters carry it. Needs no vLLM.

`extra_args` (in the OpenAI API: `vllm_xargs`) holds two scalars:

    jobcast_id    the name of the walk; prompts that share it must differ, or may share their walk (equal prompts)
    jobcast_tau   the quantile in (0, 1); a uniform random one makes the answer a sample of the model's distribution
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ID, TAU = "jobcast_id", "jobcast_tau"
_LONGEST_ID = 64


@dataclass(frozen=True)
class Ask:
    """One quantile walk: its name and its tau."""

    name: str
    tau: float

    def to_extra_args(self) -> dict[str, str | float]:
        """What `ask_of` reads."""
        return {ID: self.name, TAU: self.tau}


def ask_of(params: Any) -> Ask | None:
    """The ask of vLLM's SamplingParams; None where it has none. Raises ValueError for one that is not sound.

    The value is greedy decoding of exactly the number's tokens: temperature 0, one sequence, end tokens ignored.
    """
    given: Mapping[str, Any] = params.extra_args or {}
    if ID not in given and TAU not in given:
        return None
    name, tau = given.get(ID), given.get(TAU)
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_ID:
        raise ValueError(f"{ID} must be a string of 1 to {_LONGEST_ID} characters")
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not math.isfinite(tau) or not 0 < tau < 1:
        raise ValueError(f"{TAU} must be a number between 0 and 1")
    if params.n != 1:
        raise ValueError("a quantile walk is a single sequence: n must be 1")
    if params.temperature != 0:
        raise ValueError("a quantile walk decodes greedily: temperature must be 0")
    return Ask(name, float(tau))
