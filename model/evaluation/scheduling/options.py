"""The conventions of the study; none was chosen on its results."""

from dataclasses import asdict, dataclass

GB = 1e9
GIB = float(2**30)
HOUR = 3600.0

#: The level of the memory allocation, of the order of the queue and of the reservation.
MEMORY_LEVEL = 0.95
ORDER_LEVEL = 0.5
RESERVATION_LEVEL = 0.9

#: What a method without quantiles (or a rule that people use as it is) is multiplied with.
FACTORS = (1.0, 2.0)


@dataclass(frozen=True)
class Options:
    """How large the replays are, and their seed.

    jobs: of one trace; draws: traces per source and load; loads: share of the capacity that perfect knowledge
    would use; nodes, cores: of the replayed cluster; least_memory: bytes of its nodes, at least.
    """

    seed: int = 0
    jobs: int = 500
    draws: int = 10
    loads: tuple[float, ...] = (0.7, 0.9)
    nodes: int = 4
    cores: int = 8
    least_memory: float = 32 * GIB

    def parameters(self) -> dict[str, object]:
        """Everything that changes a result, JSON-able."""
        return {**asdict(self), "loads": list(self.loads)}


def rounded(value: float) -> float:
    """Five figures: what the JSON keeps."""
    return float(f"{value:.5g}")
