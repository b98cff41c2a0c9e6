"""One line in the log when the encoder workers are away, and one when they are back."""

import asyncio

import structlog

from segserve.app.readiness import NO_ENCODERS
from segserve.encode.encode_request import Encoder

LOOK_INTERVAL_S = 2.0

log = structlog.get_logger(__name__)


async def watch_encoders(encoder: Encoder) -> None:
    """Log when no encoder worker can be reached any more, and when one can again, until cancelled."""
    was_reachable = True
    while True:
        is_reachable = encoder.is_reachable()
        if was_reachable and not is_reachable:
            log.warning(NO_ENCODERS)
        elif is_reachable and not was_reachable:
            log.warning("an encoder worker can be reached again")
        was_reachable = is_reachable
        await asyncio.sleep(LOOK_INTERVAL_S)
