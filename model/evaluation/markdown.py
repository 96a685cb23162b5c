"""Small pieces of Markdown that all sections of the report share."""

from collections.abc import Sequence

NOTHING = "–"
_UNITS = {"runtime_seconds": "runtime", "peak_memory_bytes": "memory", "cpu_cores": "CPU"}


def short(target: str) -> str:
    """A target as tables name it."""
    return _UNITS.get(target, target)


def text(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def bounds(interval: Sequence[float] | None) -> str:
    """A 95 % interval."""
    return NOTHING if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"


def plus_minus(spread: Sequence[float | None]) -> str:
    """Mean and standard deviation."""
    mean, deviation = spread
    return text(mean) if deviation is None else f"{text(mean)} ± {text(deviation)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a sentence where it would be empty."""
    if not rows:
        return "Nothing was measured here."
    ruler = ["---"] * len(head)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ruler, *rows])


def section(title: str, *parts: str) -> str:
    """A second-level heading and its paragraphs; empty ones are left out."""
    return "\n\n".join([f"## {title}", *(part.strip("\n") for part in parts if part.strip())])
