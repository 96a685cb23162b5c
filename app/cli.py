"""The `jobcast` command: serve the model, ask it about a file without a server, or measure it."""

import asyncio
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app.ask import Ask
from app.build import build_service
from app.logging import configure_logging
from app.metrics import Metrics
from app.settings import Settings
from model.errors import JobcastError

cli = typer.Typer(
    name="jobcast",
    help="Predict what a workflow job will need before it runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

#: A local prediction waits for the engine's start, so its deadline is generous.
LOCAL_DEADLINE_MS = 60_000


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: JOBCAST_HOST, or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: JOBCAST_PORT, or 8080.")] = None,
) -> None:
    """Serve predictions over HTTP; all other settings are JOBCAST_* variables."""
    from app.main import create_app
    from app.server import serve as run

    chosen = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = Settings(**chosen)  # type: ignore[arg-type]
    run(create_app(settings), settings)


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def vllm_server(
    context: typer.Context,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8001,
) -> None:
    """Start a vLLM server that JOBCAST_ENGINE=vllm-server asks; further options go to vLLM as they are."""
    from model.checkpoint import Checkpoint
    from model.engines.vllm.launch import launch

    settings = Settings(engine="torch")  # the checkpoint's path alone is of interest
    launch(Checkpoint.load(settings.checkpoint), host, port, context.args)


@cli.command()
def predict(
    file: Annotated[Path, typer.Argument(help="The configuration file; - reads standard input.")],
    kind: Annotated[str, typer.Option(help="Its format, such as github-actions.")],
    job: Annotated[str | None, typer.Option(help="Only the job of this name.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Default: all.")] = None,
    quantile: Annotated[list[float] | None, typer.Option(help="Default: 0.1, 0.5, 0.9.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as the service gives it.")
    ] = False,
) -> None:
    """Predict for one file, here, without a server."""
    try:
        config = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot be read: {type(error).__name__}", param_hint="FILE") from None
    configure_logging("error")
    ask = Ask(kind, config, job, targets=target, quantiles=quantile, deadline_ms=LOCAL_DEADLINE_MS)
    answer = asyncio.run(_predict(Settings(), ask))
    if as_json:
        from app.json import dump

        typer.echo(dump(answer).decode())
    else:
        _print(answer)


@cli.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def evaluate(context: typer.Context) -> None:
    """Measure checkpoints beside the baselines on the corpus; `jobcast evaluate --help` lists the options."""
    try:
        from model.evaluation.__main__ import command
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("app", "model"):
            raise
        typer.echo(
            f"jobcast: evaluate needs the package {missing.name}, which the service does not: "
            "pip install 'jobcast[evaluate]'",
            err=True,
        )
        raise typer.Exit(2) from None
    command(context.args, prog_name="jobcast evaluate")


async def _predict(settings: Settings, ask: Ask) -> dict[str, Any]:
    service = build_service(settings, Metrics())
    service.start()
    try:
        await service.started()
        return await service.predict(ask, request_id=uuid.uuid4().hex, arrived=time.perf_counter())
    finally:
        await service.close()


def _print(answer: dict[str, Any]) -> None:
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


def main() -> None:
    """Entry point: errors that are meant for people go to stderr as one sentence."""
    try:
        cli()
    except JobcastError as error:
        typer.echo(f"jobcast: {error.message}", err=True)
        raise SystemExit(2 if error.status < 500 else 1) from None


if __name__ == "__main__":
    main()
