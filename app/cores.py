"""How many cores this process may use: what the kernel lets it run on, and what its container is allowed."""

import contextlib
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = _CGROUPS) -> int:
    """At least one. Of a limit such as Kubernetes' 1500m the whole cores: threads beyond it only get throttled."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = _allowed(cgroups)
    return cores if allowed is None else max(1, min(cores, int(allowed)))


def _allowed(cgroups: Path) -> float | None:
    """Cores of the container's limit, by control groups of version 2 or 1; None: no limit, or not known."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (cgroups / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        limit = int((cgroups / "cpu" / "cpu.cfs_quota_us").read_text())
        share = limit / int((cgroups / "cpu" / "cpu.cfs_period_us").read_text())
        return share if limit > 0 else None
    return None
