"""The routes of the REST API, one file an operation, and `api.py`, which puts them together.

A route reads and checks its body, calls `wire.operations`, and answers what `wire.results` writes. `jobs.py` has the
server-sent events (SSE), `health_and_metrics.py` what operators and Prometheus ask, `pages.py` the page and /docs.
"""
