"""`jobcast predict`: the service without HTTP, asked once, and its answer as a table."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.api.requests import parse_json
from app.api.schemas import PredictRequest, validated
from app.ask import Ask
from app.build import build_service
from app.errors import MalformedBody
from app.metrics import Metrics
from app.settings import Settings

#: A local prediction waits for the engine's start, so its deadline is generous.
DEADLINE_MS = 60_000


def question(
    kind: str,
    config: str,
    job: str | None = None,
    *,
    context: Sequence[str] | None = None,
    history: str | None = None,
    given: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    quantiles: Sequence[float] | None = None,
) -> Ask:
    """The same question as a request's, held to the same rules. Raises JobcastError.

    context: NAME=VALUE each, a value that begins as a JSON object or list does being one; given: TARGET=NUMBER each;
    history: the JSON of a request's `history`.
    """
    for text in (kind, job, *(context or ()), *(targets or ())):
        if text is not None and not _encodable(text):
            raise MalformedBody("the command line is not UTF-8")
    content: dict[str, object] = {"kind": kind, "config": config, "job": job, "deadline_ms": DEADLINE_MS}
    content["context"] = {
        name: _json("context", value) if value.startswith(("{", "[")) else value
        for name, value in _pairs("context", context)
    }
    try:
        content["given"] = {name: float(value) for name, value in _pairs("given", given)}
    except ValueError:
        raise MalformedBody("given must be TARGET=NUMBER") from None
    content["history"] = None if history is None else _json("history", history)
    content["targets"], content["quantiles"] = targets or None, quantiles or None
    return validated(PredictRequest, content).ask()


def _encodable(text: str) -> bool:
    """Python stands half a surrogate pair for each byte of the command line that it cannot decode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(option: str, text: str) -> object:
    try:
        return parse_json(text.encode())
    except MalformedBody as error:
        raise MalformedBody(f"{option}: {error.message}") from None


def _pairs(option: str, values: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = [(name, value) for name, found, value in (one.partition("=") for one in values or ()) if found]
    if len(pairs) < len(values or ()):
        raise MalformedBody(f"{option} must be a name, = and a value")
    if len({name for name, _ in pairs}) < len(pairs):
        raise MalformedBody(f"{option} has a name twice")
    return pairs


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
        table.add_row(Text(_plain(name)), *cells, f"{prediction['support']['novelty']:.2f}")
    console.print(table)
    for warning in dict.fromkeys(sentence for _, one in rows for sentence in one["warnings"]):
        console.print(Text(f"! {_plain(warning)}", "yellow"))


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
    """Names come from the input: no control characters on the terminal."""
    return "".join(c for c in text if c.isprintable())
