"""Load on a running service, with Locust: scenarios, open and closed loops, objectives, the knee."""
