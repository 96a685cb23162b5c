"""The keys that count now: read at the start, and again whenever their file changes.

A file is looked at once a second from a thread, never by a request. What counts is what the path leads to in the end
(modification time, inode, size), since a mounted secret changes by a symbolic link that is swapped. A new file that is
broken or empty changes nothing but the metric and one line of log: half-written files must not lock everyone out.
"""

import asyncio
import contextlib
import time
from pathlib import Path

import structlog

from app.auth.keys import ApiKey, digest_of, parse_keys
from app.metrics import Metrics
from app.settings import Settings
from app.startup import ConfigurationError

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_LARGEST_FILE = 4 * 1024 * 1024
#: Nobody's key is as long; longer ones are not worth hashing.
_LONGEST_KEY = 512

_State = tuple[int, int, int]


class KeyRing:
    """Finds the client that a key belongs to."""

    def __init__(self, fixed: tuple[ApiKey, ...], file: Path | None, metrics: Metrics) -> None:
        """Raises ConfigurationError where the file is unreadable or broken, or no key is left to ask with."""
        self._fixed, self._file, self._metrics = fixed, file, metrics
        self._clients: dict[bytes, ApiKey] = {}
        self._seen: _State | None = None
        try:
            if file is not None:
                self._seen = _state(file)
            self._use(self._read())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"JOBCAST_API_KEYS_FILE: {_reason(error)}") from None
        if all(_expired(key) for key in self._clients.values()):
            raise ConfigurationError("JOBCAST_API_KEYS: every key has expired")

    @classmethod
    def from_settings(cls, settings: Settings, metrics: Metrics) -> "KeyRing | None":
        """None where no key is configured. Raises ConfigurationError."""
        fixed: tuple[ApiKey, ...] = ()
        if settings.api_keys is not None:
            try:
                fixed = parse_keys(settings.api_keys.get_secret_value(), separators=",\n")
            except ValueError as error:
                raise ConfigurationError(f"JOBCAST_API_KEYS: {error}") from None
            if not fixed:
                raise ConfigurationError("JOBCAST_API_KEYS: holds no key")
        if not fixed and settings.api_keys_file is None:
            return None
        return cls(fixed, settings.api_keys_file, metrics)

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, key: str) -> ApiKey | None:
        """The client of a key, unless it is unknown or has expired.

        A dictionary by the presented key's SHA-256 is enough against timing: what a look-up could tell is how the
        hash of a guess compares with stored hashes, and guesses cannot be steered towards a hash. It costs the same
        for one key and for thousands, and names play no part in it.
        """
        if len(key) > _LONGEST_KEY:
            return None
        client = self._clients.get(digest_of(key))
        return None if client is None or _expired(client) else client

    async def watch(self) -> None:
        """Follow the file until cancelled."""
        while self._file is not None:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(RuntimeError):  # the threads are gone: the process ends
                await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Take the file's keys if it changed since the last look."""
        assert self._file is not None
        try:
            state = _state(self._file)
        except OSError as error:
            state, failure = None, _reason(error)
        else:
            failure = ""
        if state == self._seen:
            return
        self._seen = state
        try:
            if not failure:
                self._use(self._read())
        except (OSError, ValueError) as error:
            failure = _reason(error)
        if failure:
            log.error("key_file_refused", reason=failure, keys_kept=len(self._clients))
        else:
            log.info("key_file_read", keys=len(self._clients))
        self._metrics.key_file_valid(not failure)

    def _read(self) -> tuple[ApiKey, ...]:
        if self._file is None:
            return self._fixed
        with self._file.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ValueError(f"is larger than {_LARGEST_FILE} bytes")
        try:
            keys = parse_keys(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
        if not keys:
            raise ValueError("holds no key")
        return (*self._fixed, *keys)

    def _use(self, keys: tuple[ApiKey, ...]) -> None:
        # One assignment: requests on the event loop see the old keys or the new ones.
        self._clients = {key.digest: key for key in keys}


def _state(file: Path) -> _State:
    found = file.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _expired(key: ApiKey) -> bool:
    return key.expires is not None and time.time() >= key.expires


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or type(error).__name__})"
    return str(error)
