"""Before every route: whose key it is, and whether the client may ask once more. Pure ASGI.

Nothing of the body is read for a request that is refused, and unknown paths are refused like known ones: without a key
nobody learns which paths there are. A refusal never says what was wrong with a key.
"""

import contextlib
from collections.abc import Collection

from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth.keys import ApiKey
from app.auth.limiter import RateLimiter, Standing, header_fields
from app.auth.rates import Rate
from app.auth.ring import KeyRing
from app.errors import RateLimited, Unauthorized, problem_response
from app.metrics import Metrics

#: What a load balancer asks, which has no key.
OPEN = frozenset({"/health/live", "/health/ready"})
#: The pages that say how to ask; open where a setting says so.
PAGES = frozenset({"/", "/docs", "/openapi.json"})
METRICS = "/metrics"
#: A call counts as the items that its body holds.
BATCHES = frozenset({"/predict/batch", "/outcomes"})
#: The name of everybody where no key is configured.
ANONYMOUS = "anonymous"

#: A refused body up to this size is read and dropped so that the connection can be used again.
_SMALL_BODY = 65536


class Meter:
    """Counts one request's cost against its client's rate; `standing` is the last answer."""

    def __init__(self, limiter: RateLimiter, metrics: Metrics, client: str, rate: Rate | None) -> None:
        self._limiter, self._metrics = limiter, metrics
        self._client, self.rate = client, rate
        self.standing: Standing | None = None
        #: Whether anything was asked of the rate but a look.
        self.asked = False

    async def take(self, cost: int) -> None:
        """Count so many requests, or none of them. Raises RateLimited."""
        if self.rate is None or cost < 1:
            return
        self.asked = True
        self._hold(await self._limiter.take(self._client, self.rate, cost), self.rate, cost)

    async def look(self) -> None:
        """Count nothing yet. Raises RateLimited where not even one request would be granted."""
        if self.rate is not None:
            self._hold(await self._limiter.look(self._client, self.rate), self.rate, 1)

    def _hold(self, standing: Standing, rate: Rate, cost: int) -> None:
        self.standing = standing
        if standing.allowed:
            return
        self._metrics.shed("rate_limited")
        told = f"the rate is {rate.quota} requests in {rate.window_seconds} s; a batch counts as its items"
        if cost > rate.quota:
            raise RateLimited(f"{told}, and one of {cost} is never granted", retry_after_seconds=None)
        raise RateLimited(told, retry_after_seconds=standing.retry_seconds)


class Gate:
    """Gives `request.state` a `meter` and, of a key, its `client_name`; or answers 401 or 429 itself."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing | None,
        limiter: RateLimiter,
        default_rate: Rate | None,
        open_paths: Collection[str],
        metrics: Metrics,
    ) -> None:
        self._app, self._keys, self._limiter = app, keys, limiter
        self._default_rate, self._open, self._metrics = default_rate, frozenset(open_paths), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        client: ApiKey | None = None
        if self._keys is not None:
            client = self._client(self._keys, scope)
            if client is None:
                await _refuse(Unauthorized(), scope, receive, send)
                return
            state["client_name"] = client.name
        rate = (client.rate if client else None) or self._default_rate
        if scope["path"] == METRICS:  # scraped by the clock: no client should be able to starve it
            rate = None
        name = client.name if client else ANONYMOUS
        state["meter"] = meter = Meter(self._limiter, self._metrics, name, rate)
        if rate is None:
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and meter.standing is not None:
                message["headers"] = [*message["headers"], *header_fields(rate, meter.standing)]
            await send(message)

        batch = scope["path"] in BATCHES  # what it counts as is known once its body was read
        try:
            await (meter.look() if batch else meter.take(1))
        except RateLimited as error:
            await _refuse(error, scope, receive, answer)
            return
        try:
            await self._app(scope, receive, answer)
        finally:
            if batch and not meter.asked:  # it never came to that
                with contextlib.suppress(RateLimited):
                    await meter.take(1)

    @staticmethod
    def _client(keys: KeyRing, scope: Scope) -> ApiKey | None:
        """Whose key the request shows; None where it shows none, a wrong one, or several."""
        shown: set[bytes] = set()
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                shown.add(key.strip() if scheme.lower() == b"bearer" else b"")
            elif name == b"x-api-key":
                shown.add(value.strip())
        if len(shown) != 1:
            return None
        # Header bytes are Latin-1, so that this never fails; no stored key has such characters.
        return keys.find(shown.pop().decode("latin-1"))


async def _refuse(error: Unauthorized | RateLimited, scope: Scope, receive: Receive, send: Send) -> None:
    for route in scope["app"].routes:  # so that metrics and logs name the route that was refused
        if route.matches(scope)[0] is not Match.NONE:
            scope["route"] = route
            break
    response = problem_response(error, scope["state"]["request_id"])
    if not _small_body(Request(scope)):
        response.headers["Connection"] = "close"
    await response(scope, receive, send)


def _small_body(request: Request) -> bool:
    if "transfer-encoding" in request.headers:
        return False
    declared = request.headers.get("content-length", "0")
    return declared.isdecimal() and int(declared[:20]) <= _SMALL_BODY
