"""vLLM as an engine: in process, in a process of its own, or behind its OpenAI server.

    engine.py    steps vLLM's engine; server.py asks a server that runs elsewhere
    asks.py      what one vLLM request asks: a target's quantile; validated at admission
    walks.py     the quantile walks of all running requests, by the requests' own ids
    v1.py, v2.py the same logits processor for vLLM's two interfaces

One request is one target at one quantile; prefix caching lets all requests of a query share its prompt.
"""
