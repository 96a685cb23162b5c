"""Jobcast's service: HTTP, limits, cache, batching, metrics."""
