"""What the benchmark is held to: ratios, which hold on any machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Content = Mapping[str, Any]

#: What is measured together, round by round: before vLLM starts, with vLLM in the process, and beside two others of it.
ALONE, WITH_VLLM, BESIDE_VLLM = "one prediction", "with vLLM", "beside vLLM"


@dataclass(frozen=True)
class Goal:
    """A ratio with a bound: at most, or at least. measured: None where a way was not there."""

    name: str
    measured: Callable[[Content], float | None]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> str:
        """As people read it."""
        return f"at most {self.at_most}" if self.at_most is not None else f"at least {self.at_least}"

    def missed(self, value: float | None) -> bool:
        """Whether it was measured, and is on the wrong side."""
        if value is None:
            return False
        return value > self.at_most if self.at_most is not None else value < (self.at_least or 0.0)


def _medians(over: str, under: str, within: str = ALONE) -> Callable[[Content], float | None]:
    def ratio(content: Content) -> float | None:
        ways = content.get(within, {})
        return ways[over]["median"] / ways[under]["median"] if over in ways and under in ways else None

    return ratio


def _throughput(content: Content) -> float | None:
    """Answers a second of the better engine at 32 clients, over what bare batched prefill allows."""
    at = {
        name: load["per_second"]
        for name, loads in content["clients"].items()
        for load in loads
        if load["clients"] == 32
    }
    return max(value for name, value in at.items() if name != "prefill") / at["prefill"] if at else None


GOALS = (
    Goal("torch / its own prefill", _medians("torch", "prefill"), at_most=1.6),
    Goal("vllm / its own prefill", _medians("vllm", "vllm prefill", WITH_VLLM), at_most=2.2),
    Goal("generate, nine numbers / torch", _medians("generate", "torch"), at_least=4.0),
    Goal("64 samples, shared KV / torch", _medians("samples", "torch"), at_least=2.0),
    Goal("64 samples of regress-lm / torch", _medians("regress-lm", "torch"), at_least=30.0),
    Goal("template without prefix filling / torch", _medians("template", "torch"), at_least=1.3),
    Goal("32 clients: better engine / batched prefill", _throughput, at_least=0.85),
)
