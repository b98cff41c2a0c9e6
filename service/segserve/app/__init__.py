"""The composition root: builds every part of a process from `Settings`, connects the parts, starts and stops them.

`Service` is the API, a job worker, or the work of one command; `EncodingService`, its base, is an encoder worker.

- `roles.py`: what differs between the roles (API, encoder, worker, local)
- `encoding_service.py`, `service.py`: the two services; life cycle and background tasks
- `storage.py`, `click_parts.py`, `automatic_parts.py`, `upload_parts.py`: groups of parts, with their thread pools
- `warm_up.py`, `readiness.py`, `gauges.py`: the first run of every graph, `/readyz`, metrics that nothing else sets
- `watch_encoders.py`: the log says when encoder workers are away
"""

from segserve.app.encoding_service import EncodingService
from segserve.app.roles import Role
from segserve.app.service import Service

__all__ = ["EncodingService", "Role", "Service"]
