"""The `jobcast` command: serve the model, ask it about a file without a server, or measure it."""

import asyncio
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from app.key_commands import keys
from app.settings import MULTIPROCESS_DIRECTORY
from app.sockets import bind, listen
from app.startup import check_database, check_exposure, load_settings, reporting_faults

cli = typer.Typer(
    name="jobcast",
    help="Predict what a workflow job will need before it runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

cli.add_typer(keys, name="key")


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Default: JOBCAST_HOST, or 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: JOBCAST_PORT, or 8080.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: JOBCAST_WORKERS, or 1.")] = None,
) -> None:
    """Serve predictions over HTTP; all other settings are JOBCAST_* variables."""
    settings = load_settings(host=host, port=port, workers=workers)
    check_exposure(settings)
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(one) for one in bind(settings.host, settings.port)]
        metrics_sockets = None
        if settings.metrics_port is not None:
            bound = bind(settings.metrics_host, settings.metrics_port, prefix="JOBCAST_METRICS_")
            metrics_sockets = [open_sockets.enter_context(one) for one in bound]
            listen(metrics_sockets, prefix="JOBCAST_METRICS_")
        if settings.workers > 1:
            from app.supervisor import supervise

            raise typer.Exit(supervise(settings, sockets, metrics_sockets))
        os.environ.pop(MULTIPROCESS_DIRECTORY, None)  # nobody else needs the series of one process
        from app.main import create_app
        from app.server import serve as run

        check_database(settings)
        app = create_app(settings)
        listen(sockets)
        run(app, settings, sockets, metrics_sockets=metrics_sockets)


@cli.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def vllm_server(
    context: typer.Context,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option()] = 8001,
) -> None:
    """Start a vLLM server that JOBCAST_ENGINE=vllm-server asks; further options go to vLLM as they are."""
    from model.checkpoint import Checkpoint
    from model.engines.vllm.launch import launch

    settings = load_settings(engine="torch")  # the checkpoint's path alone is of interest
    launch(Checkpoint.load(settings.checkpoint, lazily=True), host, port, context.args)


@cli.command()
def predict(
    file: Annotated[Path, typer.Argument(help="The configuration file; - reads standard input.")],
    kind: Annotated[str, typer.Option(help="Its format, such as github-actions.")],
    job: Annotated[str | None, typer.Option(help="Only the job of this name.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What else is known: repository, runner, machine, stage ..."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(help="Past runs, a JSON list as in a request; - reads standard input.")
    ] = None,
    given: Annotated[
        list[str] | None, typer.Option(metavar="TARGET=NUMBER", help="A known target; repeatable.")
    ] = None,
    target: Annotated[list[str] | None, typer.Option(help="Default: all.")] = None,
    quantile: Annotated[list[float] | None, typer.Option(help="Default: 0.1, 0.5, 0.9.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer as the service gives it.")
    ] = False,
) -> None:
    """Predict for one file, here, without a server."""
    if history is not None and str(file) == str(history) == "-":
        raise typer.BadParameter("standard input can be read once", param_hint="--history")
    config = _text(file, "FILE")
    past = None if history is None else _text(history, "--history")
    os.environ.pop(MULTIPROCESS_DIRECTORY, None)
    from app.local import predict_here, print_answer, question
    from app.logging import configure_logging

    configure_logging("error")
    ask = question(
        kind, config, job, context=context, history=past, given=given, targets=target, quantiles=quantile
    )
    answer = asyncio.run(predict_here(load_settings(), ask))
    if as_json:
        from app.json import dump

        typer.echo(dump(answer).decode())
    else:
        print_answer(answer)


def _text(file: Path, hint: str) -> str:
    """The text of a file, or of standard input for `-`; a mark of its byte order is none of it."""
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot be read: {type(error).__name__}", param_hint=hint) from None


@cli.command()
def batch(
    source: Annotated[Path, typer.Argument(help="A request per line (.jsonl) or row (.parquet).")],
    output: Annotated[Path, typer.Argument(help="An answer per record, in order: .jsonl or .parquet.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop what is there, finished or not.")
    ] = False,
    readers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read; default: by the cores.")
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="On Ray Data; needs the extra `ray`.")] = False,
    ray_address: Annotated[str | None, typer.Option(help="The cluster; default: Ray's own choice.")] = None,
    engines: Annotated[int, typer.Option(min=1, help="With --ray: engines at a time.")] = 1,
) -> None:
    """Predict for a file of requests; interrupted, the same command goes on where it was.

    Exit status 3: every record has its line, but some are problems.
    """
    os.environ.pop(MULTIPROCESS_DIRECTORY, None)
    from app.batch.command import batch as run
    from app.logging import configure_logging

    configure_logging("error")
    raise typer.Exit(
        run(
            source,
            output,
            load_settings(),
            overwrite=overwrite,
            readers=readers,
            ray=ray,
            ray_address=ray_address,
            engines=engines,
        )
    )


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


def main() -> None:
    """Entry point: errors that are meant for people go to stderr, a line each."""
    with reporting_faults():
        cli()


if __name__ == "__main__":
    main()
