"""Sockets, bound before anything heavy is loaded: a port in use is told at once."""

import errno
import socket

from app.startup import ConfigurationError

_BACKLOG = 2048


def bind(host: str, port: int, *, prefix: str = "JOBCAST_") -> list[socket.socket]:
    """Sockets bound to every address of the host, not yet listening: connections are refused until someone can serve.

    prefix: of the variables that an error names. Raises ConfigurationError.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise ConfigurationError(f"{prefix}HOST: no such address") from None
    sockets: list[socket.socket] = []
    failure = OSError(errno.EADDRNOTAVAIL, "")
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bound(family, kind, protocol, address))
        except OSError as error:
            failure = error
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break  # a machine may lack IPv6; anything else is for the operator
    else:
        if sockets:
            return sockets
    for bound in sockets:
        bound.close()
    raise ConfigurationError(_reason(prefix, port, failure))


def listen(sockets: list[socket.socket], *, prefix: str = "JOBCAST_") -> None:
    """Let connections queue. Two sockets may be bound to one port until one listens: raises ConfigurationError."""
    for bound in sockets:
        try:
            bound.listen(_BACKLOG)
        except OSError as error:
            raise ConfigurationError(_reason(prefix, bound.getsockname()[1], error)) from None


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _reason(prefix: str, port: int, failure: OSError) -> str:
    known = {
        errno.EADDRINUSE: f"{prefix}PORT: port {port} is in use",
        errno.EACCES: f"{prefix}PORT: port {port} needs rights that this user lacks",
        errno.EADDRNOTAVAIL: f"{prefix}HOST: this machine has no such address",
    }
    code = failure.errno or 0
    return known.get(code, f"{prefix}HOST: cannot be listened on ({errno.errorcode.get(code, 'unknown')})")
