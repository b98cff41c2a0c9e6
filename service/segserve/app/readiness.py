"""Readiness for `/readyz` and gRPC's health service: can this process answer requests?"""

from collections.abc import Awaitable, Callable

from segserve.app.warm_up import WarmUp
from segserve.errors import CacheUnavailable
from segserve.settings import Settings
from segserve.store.redis_cache import RedisCache

STOPPING = "this process was told to stop, and answers until load balancers have left it"
NO_ENCODERS = (
    "no encoder worker can be reached: images that were not encoded before wait for one, then get 503"
)
NO_KEYS = "none: anyone who can reach this address can use the service"


async def check_readiness(
    settings: Settings,
    cache: RedisCache,
    warm_up: WarmUp,
    *,
    works_without_cache: bool,
    is_draining: bool,
    has_encoders: bool | None,
    check_jobs: Callable[[], Awaitable[str]] | None,
) -> tuple[str, dict[str, str]]:
    """Return the state, and what each part says.

    has_encoders: whether an encoder worker serves; None where this process encodes.
    check_jobs: returns "ok", or why there are no jobs now; None where this process has none.

    "ready": everything works.
    "degraded": the cache is away, but this process can do its work without it; or the jobs are, and clicks work; or the
    encoder workers are, and clicks on images that were encoded work.
    "unavailable": the models are not ready, or the cache is away and needed, or the process is about to stop.
    """
    checks = {"models": warm_up.state, "cache": "ok"}
    if is_draining:
        checks["process"] = STOPPING
    if settings.is_exposed and not settings.asks_for_keys:
        checks["keys"] = NO_KEYS
    try:
        await cache.ping()
    except CacheUnavailable as error:
        checks["cache"] = str(error)
    if has_encoders is not None:
        checks["encoders"] = "ok" if has_encoders else NO_ENCODERS
    if check_jobs is not None:
        checks["jobs"] = await check_jobs()
    has_cache = checks["cache"] == "ok"
    if is_draining or not warm_up.is_done or not (has_cache or works_without_cache):
        return "unavailable", checks
    is_whole = all(checks.get(part, "ok") == "ok" for part in ("cache", "encoders", "jobs"))
    return ("ready" if is_whole else "degraded"), checks
