"""Requests byte by byte over plain sockets: what HTTP clients refuse to send, and when exactly an answer came."""

import json
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """status 0: none. seconds: from the moment that counts (see `send`) to the first byte of the answer."""

    status: int
    code: str
    seconds: float
    closed: bool


def head(path: str, media_type: str, *fields: str) -> bytes:
    """A POST's head up to and with its last field's line end; the empty line is not in it."""
    lines = [f"POST {path} HTTP/1.1", "Host: jobcast", f"Content-Type: {media_type}", *fields]
    return "".join(f"{line}\r\n" for line in lines).encode()


def send(
    port: int, start: bytes, pieces: Iterable[bytes], *, limit: int | None = None, wait: float = 10.0
) -> Answer:
    """Send `start` and then `pieces` until they end or the answer comes.

    The answer's time counts from the moment that `limit` bytes of pieces were sent, or from the last byte.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent, counted = 0, 0.0
        with suppress(ConnectionError):
            connection.sendall(start)
            counted = time.perf_counter()
            for piece in pieces:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(piece)
                sent += len(piece)
                if limit is None or sent - len(piece) <= limit:
                    counted = time.perf_counter()
        return _answer(connection, counted)


def _answer(connection: socket.socket, counted: float) -> Answer:
    data = b""
    first = 0.0
    closed = False
    with suppress(ConnectionError, TimeoutError):
        while not _whole(data):
            received = connection.recv(65536)
            first = first or time.perf_counter()
            if not received:
                closed = True
                break
            data += received
        if b"connection: close" in data.lower():
            connection.settimeout(2.0)
            closed = closed or connection.recv(1) == b""
    status = int(data[9:12]) if data[9:12].isdigit() else 0
    code = ""
    if status >= 400:
        with suppress(ValueError):
            code = str(json.loads(data.partition(b"\r\n\r\n")[2])["code"])
    return Answer(status, code, max(0.0, first - counted) if first else float("inf"), closed)


def _whole(data: bytes) -> bool:
    head_part, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head_part.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return True
