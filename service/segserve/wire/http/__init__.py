"""HTTP around the routes: every request passes it before and after its route.

`connections.py` says how many connections there may be, `fair_start.py` when requests begin. `protocol.py` is
uvicorn's HTTP protocol with limits on headers and slow clients. `middleware.py` adds the request id, logs and metrics,
and limits concurrency (in flight); `body_limits.py` limits the pace and the size of
bodies. `request_body.py` reads JSON and uploads, `problems.py` turns errors into problem documents (RFC 9457),
`browser_headers.py` sets CORS and Content-Security-Policy. `host_and_origin.py` refuses what pages of other origins
send (DNS rebinding, CSRF). `json_structure.py` counts JSON before it is parsed, `media_type.py` reads Content-Type.
`limits.py` has all limits on bytes that are not settings.
"""
