"""The shared cache, against real Redis processes: shared, unreadable, and never the reason of a failure."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import OutOfMemoryError

from app.cache import Codec, ForecastCache, Found, MemoryStore, TieredStore, Values
from app.cache.redis_client import InvalidRedisUrl, redis_client
from app.cache.redis_store import RedisStore
from app.metrics import Metrics
from loadtest.ports import free_port
from loadtest.redis_server import MISSING, RedisServer, redis_server, wait_for
from model.engines.base import Query
from model.errors import EngineUnavailable
from tests.app.fakes import MakeApp, WatchedEngine, ask, running, until

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

#: Far more than the service's own: a slow machine must not look like a broken Redis.
PATIENCE = 1.0
CODEC = Codec("sha256:one")
QUERIES = [Query((7, number), ("runtime_seconds", "cpu_cores"), (0.1, 0.5)) for number in range(3)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


class Process:
    """What one process of a service has: a memory, its connections, and a count of what it computed."""

    def __init__(self, url: str, codec: Codec = CODEC, *, seconds: float = 0.0) -> None:
        self.metrics = Metrics()
        self.codec, self.seconds = codec, seconds
        self.computed: list[Query] = []
        self.failure: Exception | None = None
        self.store = RedisStore(
            redis_client(url, PATIENCE),
            codec,
            self.metrics,
            timeout_seconds=PATIENCE,
            ttl_seconds=60,
            prefix="t",
        )
        self.cache = ForecastCache(TieredStore(MemoryStore(100, 60), self.store), self.metrics)

    async def compute(self, queries: Sequence[Query]) -> list[Values]:
        self.computed += queries
        await asyncio.sleep(self.seconds)
        if self.failure:
            raise self.failure
        return [expected(query) for query in queries]

    async def ask(self, *queries: Query) -> list[Found]:
        keys = [self.codec.key(query) for query in queries]
        found = await self.cache.resolve(dict(zip(keys, queries, strict=True)), self.compute)
        assert [found[key].values for key in keys] == [expected(query) for query in queries]
        return [found[key] for key in keys]

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def errors(self) -> float:
        return self.counted("jobcast_cache_requests_total", outcome="error")

    @property
    def up(self) -> bool:
        return self.counted("jobcast_shared_cache_up") == 1.0


def expected(query: Query) -> Values:
    return {
        target: tuple(quantile * (1 / 3 + sum(query.prompt)) for quantile in query.quantiles)
        for target in query.targets
    }


@asynccontextmanager
async def process(url: str, codec: Codec = CODEC, *, seconds: float = 0.0) -> AsyncIterator[Process]:
    made = Process(url, codec, seconds=seconds)
    try:
        yield made
    finally:
        await made.cache.close()


async def test_what_one_process_computed_another_finds(redis: RedisServer) -> None:
    async with process(redis.url) as first, process(redis.url) as second:
        await first.ask(*QUERIES)
        assert [found.outcome for found in await second.ask(*QUERIES)] == ["hit"] * 3
        assert second.computed == []
        redis.kill()  # its memory has them now
        assert [found.outcome for found in await second.ask(*QUERIES)] == ["hit"] * 3
        assert second.errors == 0


@pytest.mark.parametrize("other", [Codec("sha256:two"), Codec("sha256:one", b"secret")])
async def test_another_checkpoint_or_secret_finds_nothing(redis: RedisServer, other: Codec) -> None:
    async with process(redis.url) as first, process(redis.url, other) as second:
        await first.ask(*QUERIES)
        await second.ask(*QUERIES)
        assert len(second.computed) == 3


async def test_what_was_changed_in_redis_is_a_miss(redis: RedisServer) -> None:
    async with process(redis.url) as first, process(redis.url) as second:
        await first.ask(*QUERIES)
        (one, content), (another, _), (third, _) = redis.contents().items()
        with redis.client() as client:
            client.set(one, content[:-1] + bytes([content[-1] ^ 1]))
            client.set(another, content)  # belongs to another key
            client.delete(third)
            client.lpush(third, "not even a string")
        await second.ask(*QUERIES)
        assert len(second.computed) == 3


async def test_fifty_equal_requests_in_two_processes_are_computed_once(redis: RedisServer) -> None:
    async with process(redis.url, seconds=0.05) as first, process(redis.url, seconds=0.05) as second:
        await asyncio.gather(*(each.ask(QUERIES[0]) for each in [first, second] * 25))
        assert len(first.computed) + len(second.computed) == 1
        # Different batches that overlap: each query once, whoever got it.
        await asyncio.gather(first.ask(QUERIES[1], QUERIES[2]), second.ask(QUERIES[2], QUERIES[1]))
        assert len(first.computed) + len(second.computed) == 3
        assert not [key for key in redis.contents() if b":c:" in key]


async def test_a_failed_computation_is_taken_over_at_once(redis: RedisServer) -> None:
    async with process(redis.url, seconds=0.05) as first, process(redis.url) as second:
        first.failure = EngineUnavailable("gone")
        failing = asyncio.create_task(first.ask(QUERIES[0]))
        await until(lambda: bool(first.computed))
        started = time.perf_counter()
        await second.ask(QUERIES[0])
        assert time.perf_counter() - started < 1.0  # well before its claim would have ended
        with pytest.raises(EngineUnavailable):
            await failing


async def test_a_process_that_died_while_computing_is_replaced(redis: RedisServer) -> None:
    async with process(redis.url) as second:
        with redis.client() as client:  # what a dead process leaves behind
            client.set(b"t:c:" + CODEC.key(QUERIES[0]), b"1", px=300)
        await second.ask(QUERIES[0])
        assert len(second.computed) == 1


async def test_a_long_computation_keeps_its_claim(redis: RedisServer) -> None:
    async with process(redis.url, seconds=2.2) as first, process(redis.url) as second:
        leading = asyncio.create_task(first.ask(QUERIES[0]))
        await until(lambda: bool(first.computed))
        await second.ask(QUERIES[0])
        assert second.computed == []
        await leading


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_an_unreachable_redis_costs_one_failure_until_it_answers_again(
    redis: RedisServer, fault: str
) -> None:
    async with process(redis.url) as one:
        await one.ask(QUERIES[0])
        getattr(redis, fault)()
        for number in range(20):
            await one.ask(Query((8, number), ("cpu_cores",), (0.5,)))
        assert (one.errors, one.up) == (1, False)
        redis.start() if fault == "kill" else redis.thaw()
        await until(lambda: one.up)
        await one.ask(QUERIES[1])
        assert CODEC.key(QUERIES[1]) in {key.removeprefix(b"t:f:") for key in redis.contents()}


async def test_claims_that_are_waited_for_when_redis_dies_are_computed_here(redis: RedisServer) -> None:
    async with process(redis.url) as one:
        with redis.client() as client:
            client.set(b"t:c:" + CODEC.key(QUERIES[0]), b"1")
        waiting = asyncio.create_task(one.ask(QUERIES[0]))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        redis.kill()
        await waiting
        assert len(one.computed) == 1


async def test_a_flushed_redis_is_filled_again(redis: RedisServer) -> None:
    async with process(redis.url) as first, process(redis.url) as second:
        await first.ask(*QUERIES)
        redis.flush()
        await second.ask(*QUERIES)
        assert (len(redis.contents()), second.errors) == (3, 0)


async def test_a_full_redis_answers_reads_and_refuses_writes_without_harm() -> None:
    with redis_server("--maxmemory-policy", "noeviction") as full:
        async with process(full.url) as one:
            await one.ask(QUERIES[0])
            with full.client() as client:
                client.config_set("maxmemory", 1)  # less than it holds already
                with pytest.raises(OutOfMemoryError):
                    client.set("one", "more")
            await one.ask(QUERIES[1])
            assert len(one.computed) == 2
            assert one.up
            assert one.errors > 0
        async with process(full.url) as two:
            assert (await two.ask(QUERIES[0]))[0].outcome == "hit"


async def test_nothing_of_a_config_is_in_redis_and_a_restart_finds_it_again(
    redis: RedisServer, make_app: MakeApp, engine: WatchedEngine
) -> None:
    for number in range(2):
        async with running(make_app(redis_url=redis.url)) as client:
            answer = await client.post("/predict", json=ask("deploy the canary-7f3a9c to production"))
            assert answer.json()["predictions"][0]["source"] == ("cache" if number else "model")
    assert len(engine.batches) == 1
    ((key, value),) = redis.contents().items()
    for word in (b"canary", b"deploy", b"runtime", b"text", b"tiny"):
        assert word not in key + value
    with redis.client() as client:
        assert 3000 < client.ttl(key) <= 3600 * 1.05


@pytest.mark.parametrize(
    "url",
    ["http://host", "redis+sentinel://host:1", "redis+sentinel://host:x/service", "redis://h:port"],
)
def test_a_url_that_names_no_redis_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(InvalidRedisUrl) as refused:
        redis_client(url, 0.05)
    assert url not in str(refused.value)


async def shared(url: str) -> None:
    """Two processes share what one of them computed."""
    async with process(url) as first, process(url) as second:
        await first.ask(*QUERIES)
        assert [found.outcome for found in await second.ask(*QUERIES)] == ["hit"] * 3
        await asyncio.gather(*(each.ask(Query((9,), ("cpu_cores",), (0.5,))) for each in (first, second)))
        assert len(first.computed) + len(second.computed) == 4
        assert (first.errors, second.errors) == (0, 0)


async def test_a_user_who_may_do_no_more_than_is_needed(redis: RedisServer) -> None:
    rights = ["~t:*", "+get", "+set", "+del", "+exists", "+pexpire", "+hello"]
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "jobcast", "on", ">p@ss/word", *rights)
        client.execute_command("ACL", "SETUSER", "default", "off")
    await shared(f"redis://jobcast:p%40ss%2Fword@127.0.0.1:{redis.port}")
    async with process(f"redis://jobcast:wrong@127.0.0.1:{redis.port}") as refused:
        await refused.ask(QUERIES[0])
        assert (refused.errors, refused.up) == (1, False)


async def test_over_tls_with_a_certificate_that_is_checked(tmp_path: Path) -> None:
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    port = free_port()
    files = ["--tls-cert-file", f"{tmp_path}/cert.pem", "--tls-key-file", f"{tmp_path}/key.pem"]
    with redis_server("--tls-port", str(port), *files, "--tls-auth-clients", "no"):
        await shared(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/cert.pem")
        async with process(f"rediss://localhost:{port}") as distrusting:
            await distrusting.ask(QUERIES[0])
            assert (distrusting.errors, distrusting.up) == (1, False)


async def test_over_a_socket_in_the_file_system(tmp_path: Path) -> None:
    with redis_server("--unixsocket", f"{tmp_path}/redis"):
        await shared(f"unix://{tmp_path}/redis?db=2")


async def test_a_cluster() -> None:
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as node:
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for("cluster_state:ok", client)
        await shared(f"redis+cluster://127.0.0.1:{node.port}")


async def test_sentinels_lead_to_the_master_and_to_its_replacement(tmp_path: Path) -> None:
    with redis_server() as master, redis_server("--replicaof", "127.0.0.1", str(master.port)) as replica:
        with replica.client() as client:
            wait_for("master_link_status:up", client)
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor jobs 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds jobs 400\nsentinel failover-timeout jobs 2000\n"
        )
        sentinel = RedisServer(tmp_path, configuration=configuration)
        sentinel.start()
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/jobs/0"
        try:
            await shared(url)
            async with process(url) as one:
                master.kill()
                await one.ask(Query((10,), ("cpu_cores",), (0.5,)))
                assert not one.up
                with replica.client() as client:
                    await asyncio.to_thread(wait_for, "role:master", client)
                await until(lambda: one.up, seconds=15)
                await one.ask(Query((11,), ("cpu_cores",), (0.5,)))
                assert b"t:f:" + CODEC.key(Query((11,), ("cpu_cores",), (0.5,))) in replica.contents()
        finally:
            sentinel.kill()
