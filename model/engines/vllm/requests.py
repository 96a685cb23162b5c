"""Queries <-> vLLM requests: one request is one target at one quantile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from model.engines.base import Forecast, Query
from model.prompt import PromptEncoder


@dataclass(frozen=True)
class Request:
    """One target of a query at one quantile. scale: what the value is multiplied with."""

    query: int
    target: str
    tau: float
    tokens: tuple[int, ...]
    scale: float


def requests_of(queries: Sequence[Query], encoder: PromptEncoder) -> Iterator[Request]:
    """The requests of each query: target by target, quantile by quantile, in the query's order."""
    for number, query in enumerate(queries):
        prompt = (*query.prompt, *encoder.given_ids(query.given))
        estimates = encoder.estimates(query.prompt)
        for target in query.targets:
            ask, scale = encoder.ask(target, estimates)
            for tau in query.quantiles:
                yield Request(number, target, tau, (*prompt, ask), scale)


def forecasts_of(
    queries: Sequence[Query],
    requests: Sequence[Request],
    values: Sequence[float],
    prefill: float,
    decode: float,
) -> list[Forecast]:
    """What the requests came to, per query. values: one per request, before its scale."""
    found: list[dict[str, list[float]]] = [{target: [] for target in query.targets} for query in queries]
    for request, value in zip(requests, values, strict=True):
        found[request.query][request.target].append(request.scale * value)
    return [
        # Two walks of one target see logits of different batches: quantiles a hair apart may cross.
        Forecast({t: _ordered(v, q.quantiles) for t, v in values.items()}, prefill, decode, len(queries))
        for q, values in zip(queries, found, strict=True)
    ]


def _ordered(values: Sequence[float], quantiles: Sequence[float]) -> tuple[float, ...]:
    """The values in ascending order of tau."""
    place = np.argsort(quantiles, kind="stable")
    found = np.empty(len(values))
    found[place] = np.maximum.accumulate(np.asarray(values)[place])
    return tuple(found.tolist())
