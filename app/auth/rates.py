"""How often a client may ask: `600/minute`, `5/10seconds`."""

import re
from dataclasses import dataclass

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(r"(\d{1,9})/(?:(\d{1,4}) ?)?(second|minute|hour|day)s?")


@dataclass(frozen=True)
class Rate:
    """`quota` predictions or other requests in any `window_seconds`."""

    quota: int
    window_seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Raises ValueError, free of input."""
        found = _RATE.fullmatch(text)
        if found is None or int(found[1]) < 1 or int(found[2] or 1) < 1:
            raise ValueError("must be a rate such as 600/minute or 5/10seconds")
        return cls(int(found[1]), int(found[2] or 1) * _UNITS[found[3]])
