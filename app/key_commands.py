"""`jobcast key`: makes keys, and the lines that stand for them."""

import sys
from typing import Annotated

import typer

from app.auth.keys import ApiKey, check_name, check_strength, digest_of, new_key
from app.startup import ConfigurationError

keys = typer.Typer(help="Make API keys and the lines of JOBCAST_API_KEYS_FILE.", no_args_is_help=True)

_Name = Annotated[
    str, typer.Argument(help="Whose key it is: a-z, 0-9, dot, dash, underscore. Stands in logs.")
]


@keys.command()
def new(name: _Name) -> None:
    """Make a key; it is printed once and kept nowhere."""
    key = new_key()
    line = _line(name, key)
    typer.echo(f"key   {key}\nline  {line}")


@keys.command(name="hash")
def hash_key(name: _Name) -> None:
    """Read a key from standard input; print its line."""
    key = sys.stdin.readline().rstrip("\r\n")
    try:
        check_strength(key)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    typer.echo(_line(name, key))


def _line(name: str, key: str) -> str:
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return ApiKey(name, digest_of(key)).line()
