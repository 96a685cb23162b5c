"""What stops a start: every fault of the configuration as one line that names its variable, never a value.

A value may be a secret in the wrong place, and a typo in a name would otherwise leave a default in force unseen.
"""

import asyncio
import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from app.outcomes import InvalidDatabaseUrl, OtherVersion
from app.settings import Settings
from model.errors import CheckpointError, JobcastError

_PREFIX = "JOBCAST_"
#: Read elsewhere than in the settings.
_OTHERS = {"JOBCAST_DATA"}
#: What Kubernetes sets in every pod beside a service called jobcast.
_SERVICE_LINK = re.compile(
    r"JOBCAST_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)

#: pydantic's error types in our words; braces hold its context, which are our own limits.
_PHRASES = {
    "less_than_equal": "must be at most {le}",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "literal_error": "must be one of {expected}",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "finite_number": "must be finite",
    "bool_parsing": "must be true or false",
    "path_type": "must be a path",
}


class ConfigurationError(JobcastError):
    """The service cannot start as it is configured; one line per fault."""

    code = "configuration_invalid"

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@contextmanager
def reporting_faults() -> Iterator[None]:
    """Errors that are meant for people go to stderr, one line each, and end the process.

    Exit status 2 where the configuration or the request is at fault, 1 where the service is.
    """
    try:
        yield
    except JobcastError as error:
        lines = error.lines if isinstance(error, ConfigurationError) else (" ".join(error.message.split()),)
        sys.stderr.write("".join(f"jobcast: {line}\n" for line in lines))
        at_fault = isinstance(error, ConfigurationError | CheckpointError) or error.status < 500
        raise SystemExit(2 if at_fault else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def load_settings(**chosen: object) -> Settings:
    """The settings of the environment; `chosen` are those of the command line, None where it says nothing.

    Raises ConfigurationError.
    """
    given = {name: value for name, value in chosen.items() if value is not None}
    faults = [*_unknown_variables(os.environ)]
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except SettingsError as error:
        # Raised for the JSON of a list; only the field's name is taken from the message.
        found = re.search(r'field "(\w+)"', str(error))
        raise ConfigurationError(
            *faults, f"{_variable(found[1] if found else '')}: must be a JSON list"
        ) from None
    except ValidationError as error:
        lines = [_fault(one, given) for one in error.errors(include_url=False, include_input=False)]
        raise ConfigurationError(*faults, *lines) from None
    if faults:
        raise ConfigurationError(*faults)
    return settings


def check_exposure(settings: Settings) -> None:
    """Raises ConfigurationError where other machines could ask without a key, and nobody said that they may."""
    keyed = settings.api_keys is not None or settings.api_keys_file is not None
    if keyed and settings.allow_anonymous:
        raise ConfigurationError(
            "JOBCAST_ALLOW_ANONYMOUS: contradicts JOBCAST_API_KEYS and JOBCAST_API_KEYS_FILE"
        )
    if not keyed and not settings.allow_anonymous and not is_loopback(settings.host):
        raise ConfigurationError(
            "JOBCAST_HOST: other machines can reach this address and no key is configured; set "
            "JOBCAST_API_KEYS_FILE or JOBCAST_API_KEYS, or JOBCAST_ALLOW_ANONYMOUS=true to let everyone ask"
        )


def check_database(settings: Settings) -> None:
    """Raises ConfigurationError where the database is none of ours; one that is away is waited for by the service."""
    if settings.database_url is None:
        return
    from app.outcomes.database import check_version
    from app.outcomes.urls import check_file, parsed_url

    try:
        url = parsed_url(settings.database_url.get_secret_value())
        check_file(url)
        asyncio.run(check_version(url))
    except (InvalidDatabaseUrl, OtherVersion) as fault:
        raise ConfigurationError(f"JOBCAST_DATABASE_URL: {fault}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; names but localhost could lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = {_variable(name) for name in Settings.model_fields} | _OTHERS
    for name in sorted(environment):
        upper = name.upper()  # as pydantic-settings reads them
        if upper.startswith(_PREFIX) and upper not in known and not _SERVICE_LINK.fullmatch(upper):
            nearest = difflib.get_close_matches(upper, known, 1)
            # The name is echoed: without it nobody finds the typo, and it is no place for a secret.
            shown = "".join(c for c in name if c.isprintable())[:80]
            yield f"{shown}: no such setting" + (f"; did you mean {nearest[0]}?" if nearest else "")


def _fault(error: ErrorDetails, given: Mapping[str, object]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "value_error":
        sentence = str(context["error"])  # a validator of ours
    else:
        sentence = _PHRASES.get(error["type"], "is not valid").format(**context)
    name = str(error["loc"][0]) if error["loc"] else ""
    if not name:
        return sentence
    return f"{f'--{name}' if name in given else _variable(name)}: {sentence}"


def _variable(field: str) -> str:
    return f"{_PREFIX}{field.upper()}"
