"""What a load must not exceed: a typing error must not become an attack, nor load somebody else's machine."""

from urllib.parse import urlsplit

from app.startup import is_loopback

MOST_PER_SECOND, MOST_SECONDS, MOST_CLIENTS = 2000.0, 3600.0, 512


def fault(host: str, *, rate: float, seconds: float, clients: int, remote: bool = False) -> str | None:
    """What is wrong, in a sentence. remote: other machines than this one may be loaded."""
    if not remote and not is_loopback(urlsplit(host).hostname or ""):
        return "the host is not this machine; --allow-remote if it is yours to load"
    if not 0 < rate <= MOST_PER_SECOND:
        return f"--rate must be above 0 and at most {MOST_PER_SECOND:.0f}"
    if not 0 < seconds <= MOST_SECONDS:
        return f"--seconds must be above 0 and at most {MOST_SECONDS:.0f}"
    if not 0 < clients <= MOST_CLIENTS:
        return f"--users must be at least 1 and at most {MOST_CLIENTS}"
    return None
