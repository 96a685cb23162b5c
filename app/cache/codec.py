"""How a forecast is kept outside of this process: a tag over key and values, then the values as doubles.

    | tag, 8 bytes | targets x quantiles doubles, little-endian, in the order of the query |

Nothing in it names a target, a job or a model; the key says which query it answers, and the tag that it belongs to this
key. With a secret the tag cannot be forged, nor a key be guessed from a configuration.
"""

import hmac
import struct
from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeAlias

from model.engines.base import Query

#: Target -> one value per quantile, as the engine gave them.
Values: TypeAlias = Mapping[str, tuple[float, ...]]

_TAG_BYTES = 8


class Codec:
    """Keys and values of one checkpoint; secret: shared by the processes that share a cache, may be empty."""

    def __init__(self, checkpoint_version: str, secret: bytes = b"") -> None:
        self._version = checkpoint_version
        self._secret = blake2b(secret, digest_size=32).digest() if secret else b""

    def key(self, query: Query) -> bytes:
        """A digest of all that an uncalibrated forecast depends on; the same in every process. 32 bytes."""
        digest = blake2b(digest_size=32, key=self._secret)
        given = sorted(query.given.items())
        head = (self._version, query.targets, query.quantiles, given, len(query.prompt))
        digest.update(repr(head).encode())
        digest.update(struct.pack(f"<{len(query.prompt)}I", *query.prompt))
        return digest.digest()

    def pack(self, key: bytes, query: Query, values: Values) -> bytes:
        """The values of a query, to be kept under its key."""
        flat = [value for target in query.targets for value in values[target]]
        content = struct.pack(f"<{len(flat)}d", *flat)
        return self._tag(key, content) + content

    def unpack(self, key: bytes, query: Query, kept: bytes) -> Values | None:
        """The same values; None for bytes that were not packed for this key."""
        tag, content = kept[:_TAG_BYTES], kept[_TAG_BYTES:]
        wide = len(query.quantiles)
        if len(content) != 8 * wide * len(query.targets):
            return None
        if not hmac.compare_digest(tag, self._tag(key, content)):
            return None
        flat = struct.unpack(f"<{wide * len(query.targets)}d", content)
        return {target: flat[i * wide : (i + 1) * wide] for i, target in enumerate(query.targets)}

    def _tag(self, key: bytes, content: bytes) -> bytes:
        return blake2b(key + content, digest_size=_TAG_BYTES, key=self._secret).digest()
