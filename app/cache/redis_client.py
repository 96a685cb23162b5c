"""A Redis client from one URL: a server, Sentinels, or a cluster; with time-outs that a critical path can bear.

    redis://[[user]:password@]host[:port][/database]        rediss:// for TLS, unix:// for a socket
    redis+sentinel://[user:password@]host:port,host:port/service[/database]      rediss+sentinel:// for TLS
    redis+cluster://[user:password@]host:port                                    rediss+cluster:// for TLS

Query parameters go to redis-py (`?ssl_ca_certs=...`, `?ssl_cert_reqs=required`). redis-py's defaults wait for seconds
and try again; here each command has one attempt.
"""

from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

Client: TypeAlias = "Redis | RedisCluster"

_CONNECTIONS = 32


class InvalidRedisUrl(ValueError):
    """The URL names no Redis; the message does not repeat it."""


def redis_client(url: str, timeout_seconds: float) -> Client:
    """A client that has not connected yet. Raises InvalidRedisUrl."""
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    patience: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        if kind == "sentinel" and scheme in ("redis", "rediss"):
            return _behind_sentinels(url, patience)
        if kind == "cluster" and scheme in ("redis", "rediss"):
            plain = urlunsplit(urlsplit(url)._replace(scheme=scheme))
            return RedisCluster.from_url(plain, **patience)
        if not kind and scheme in ("redis", "rediss", "unix"):
            pool = BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=timeout_seconds, **patience
            )
            return Redis.from_pool(pool)
    except (ValueError, TypeError, KeyError):
        raise InvalidRedisUrl("the URL of Redis has a part that is not valid") from None
    raise InvalidRedisUrl(
        "the URL of Redis must begin with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, "
        "redis+cluster:// or rediss+cluster://"
    )


async def close_client(client: Client) -> None:
    """Let go of all connections, those to the Sentinels too."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _behind_sentinels(url: str, patience: dict[str, Any]) -> Redis:
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise InvalidRedisUrl("the URL of Sentinels must end with the name of the service they watch")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "26379")
        sentinels.append((name, int(port)))
    more: dict[str, Any] = dict(parse_qsl(parts.query))
    if user or password:
        more |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if parts.scheme.startswith("rediss"):
        more["ssl"] = True
    watchers = Sentinel(sentinels, sentinel_kwargs=patience, **patience)  # type: ignore[no-untyped-call]
    found: Redis = watchers.master_for(service, db=int(database or 0), **more)
    return found
