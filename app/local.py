"""`jobcast predict`: the service without HTTP, asked once, and its answer as a table."""

import time
import uuid
from typing import Any

from rich.console import Console
from rich.table import Table

from app.ask import Ask
from app.build import build_service
from app.metrics import Metrics
from app.settings import Settings


async def predict_here(settings: Settings, ask: Ask) -> dict[str, Any]:
    """The answer to one question, from an engine that is started for it. Raises JobcastError."""
    # Nobody reports what came of it, and the store is the service's.
    service = build_service(settings.model_copy(update={"database_url": None}), Metrics(), lazily=True)
    service.start()
    try:
        await service.started()
        return await service.predict(ask, request_id=uuid.uuid4().hex, arrived=time.perf_counter())
    finally:
        await service.close()


def print_answer(answer: dict[str, Any]) -> None:
    """A line per unit, a column per target."""
    console = Console()
    rows = [("the whole run", answer["workflow"]["direct"])] if "workflow" in answer else []
    rows += [(prediction["name"], prediction) for prediction in answer["predictions"]]
    targets = [name for name in rows[0][1]["support"] if name != "novelty"] if rows else []
    table = Table(title=answer["model"]["name"], title_justify="left")
    table.add_column("job")
    for target in targets:
        table.add_column(target, justify="right")
    table.add_column("novelty", justify="right")
    for name, prediction in rows:
        cells = [_cell(target, prediction) for target in targets]
        table.add_row(_plain(name), *cells, f"{prediction['support']['novelty']:.2f}")
    console.print(table)
    for warning in dict.fromkeys(sentence for _, one in rows for sentence in one["warnings"]):
        console.print(f"! {_plain(warning)}", style="yellow")


def _cell(target: str, prediction: dict[str, Any]) -> str:
    lines = [f"{quantile}: {_readable(target, value)}" for quantile, value in prediction[target].items()]
    if not prediction["support"][target]["trained"]:
        lines.append("(untrained)")
    return "\n".join(lines)


def _readable(target: str, value: float) -> str:
    """A value with a unit that people read: 5 min 12 s, 1.2 GB."""
    if target.endswith("_seconds"):
        if value < 60:
            return f"{value:.3g} s"
        minutes, seconds = divmod(round(value), 60)  # rounded first: 59.9 s make a minute
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
    if target.endswith("_bytes"):
        for unit in ("B", "kB", "MB", "GB"):
            if value < 1000:
                return f"{value:.3g} {unit}"
            value /= 1000
        return f"{value:.3g} TB"
    return f"{value:.3g}"


def _plain(text: str) -> str:
    """Names come from the input: no markup, no control characters on the terminal."""
    return "".join(c for c in text if c.isprintable()).replace("[", r"\[")
