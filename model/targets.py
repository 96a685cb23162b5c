"""The registry of targets: what can be predicted, in which unit.

The unit is part of the name. A checkpoint declares its own targets; these three are the default, not a limit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One predicted quantity; a non-negative real unless `signed`."""

    name: str
    unit: str
    description: str
    signed: bool = False


RUNTIME_SECONDS = Target("runtime_seconds", "s", "Wall-clock time from start to end.")
PEAK_MEMORY_BYTES = Target("peak_memory_bytes", "B", "Largest resident memory of the job.")
CPU_CORES = Target("cpu_cores", "cores", "Mean cores in use: CPU seconds / wall seconds.")

DEFAULT_TARGETS = (RUNTIME_SECONDS, PEAK_MEMORY_BYTES, CPU_CORES)
