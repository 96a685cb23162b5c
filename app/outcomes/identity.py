"""Which job a row is about: keyed digests of 16 bytes. With the secret nobody can tell from a row, or check a guess."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from model.jobs.job import Job
from model.jobs.series import series_of

_BYTES = 16


@dataclass(frozen=True)
class Identity:
    """Of one unit. names: those that it answers to; text: its canonical text without history."""

    series: bytes
    text: bytes
    names: tuple[bytes, ...]


class Digests:
    """All digests of one store; secret: shared by the processes of a service, may be empty."""

    def __init__(self, secret: bytes = b"") -> None:
        self._key = blake2b(secret, digest_size=32).digest() if secret else b""

    def identity(self, job: Job, text: str, *, named: str | None = None, alone: bool = False) -> Identity:
        """named: the client's own name of the recurring job. alone: it is all that its configuration holds.

        A job of which nothing says what recurs has a series with those of equal text alone.
        """
        digest = self._of("text", text)
        unit = () if alone else (job.scope, job.name)
        if named is not None:
            series = self._of("named", named, *unit)
        elif parts := series_of(job):
            series = self._of("series", *parts)
        else:
            series = self._of("equal", digest)
        written = job.written_name
        names = (job.name,) if written in (None, job.name) else (job.name, written or "")
        return Identity(series, digest, tuple(self.name(name) for name in names))

    def name(self, name: str) -> bytes:
        """Of a job's name."""
        return self._of("name", name)

    def request(self, client: str, request_id: str) -> bytes:
        """Of a prediction. Clients choose request ids: equal ones of two callers are two predictions."""
        return self._of("request", client, request_id)

    def idempotency(self, client: str, key: str) -> bytes:
        """Of an outcome that has a key of the client's own."""
        return self._of("key", client, key)

    def measured(self, series: bytes, finished_at: float, values: str) -> bytes:
        """Of an outcome without one. values: as they are stored."""
        return self._of("measured", series, repr(finished_at), values)

    def _of(self, purpose: str, *parts: str | bytes) -> bytes:
        digest = blake2b(digest_size=_BYTES, key=self._key)
        for part in _encoded(purpose, *parts):
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()


def _encoded(*parts: str | bytes) -> Sequence[bytes]:
    return [part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") for part in parts]
