"""The connection to the jobs' Redis, and how a job is stored there: as the fields of a hash."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson
import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from segserve.errors import BadInput, JobNotFound, JobsUnavailable
from segserve.jobs.engine.job import FIRST_REQUEST, Job, JobError, JobKind, JobState
from segserve.jobs.engine.object_ends import ObjectEnds
from segserve.store.redis_connection import connect_redis, is_refusal
from segserve.store.redis_url import is_cluster_url
from segserve.types import Priority

# The URL of the jobs' Redis.
SETTING = "SEGSERVE_JOBS_REDIS_URL"
JOB_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = structlog.get_logger(__name__)


def connect_jobs_redis(url: str, timeout_s: float) -> redis.Redis:
    """Return a client that decodes nothing: what its types call `bytes | str` is bytes.

    Raises BadInput for the URL of a cluster: each change of a job is one script, whose keys would be on several nodes.
    """
    if is_cluster_url(url):
        raise BadInput(
            "Jobs cannot be kept in a Redis cluster.",
            field=SETTING,
            remedy=f"Set {SETTING} to one server, or to Sentinels: redis+sentinel://host1:26379,host2:26379/mymaster/0.",
        )
    return connect_redis(url, timeout_s, SETTING)


async def call_redis(command: Callable[[], Awaitable[Any]]) -> Any:
    """Return the answer of a Redis command. Raises JobsUnavailable."""
    try:
        return await command()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("the jobs' Redis is unavailable", reason=f"{type(error).__name__}: {error}")
        raise JobsUnavailable(is_refused=is_refusal(error)) from error


def check_job_id(job_id: str) -> None:
    """Keep anything that cannot be a job id out of Redis keys. Raises JobNotFound."""
    if not JOB_ID_PATTERN.fullmatch(job_id):
        raise JobNotFound(job_id[:64])


def to_hash_fields(**values: object) -> list[str]:
    """Return name, value, name, value, ... as HSET takes them. Values that are None are left out."""
    return [
        text
        for name, value in values.items()
        if value is not None
        for text in (
            name,
            orjson.dumps(asdict(value)).decode() if isinstance(value, JobError) else str(value),
        )
    ]


def parse_job(tenant: str, job_id: str, raw: Mapping[bytes, bytes]) -> Job:
    """Return the job that a hash, or an event of a stream, holds."""
    text = {name.decode(): value.decode() for name, value in raw.items()}

    def number(name: str) -> float | None:
        return float(text[name]) if name in text else None

    return Job(
        tenant=tenant,
        job_id=job_id,
        kind=JobKind(text["kind"]),
        priority=Priority(text["priority"]),
        model=text["model"],
        state=JobState(text["state"]),
        created_at=float(text["created_at"]),
        done=int(text.get("done", 0)),
        total=int(text["total"]) if "total" in text else None,
        failures=int(text.get("failures", 0)),
        chunks=int(text.get("chunks", 0)),
        revision=int(text.get("revision", 0)),
        request_name=text.get("asked", FIRST_REQUEST),
        attempts=int(text.get("attempts", 0)),
        rate_per_s=number("rate_per_s"),
        error=JobError(**orjson.loads(text["error"])) if "error" in text else None,
        started_at=number("started_at"),
        ended_at=number("ended_at"),
        webhook=text.get("webhook"),
        object_ends=ObjectEnds.decode(text.get("object_ends", "")),
        submitted_by=text.get("submitted_by", ""),
    )
