"""Every Redis key and channel, and every path in the object store."""

from segserve.types import ReadOptions, Region

PREFIX = "segserve:1"
# Raised whenever reading or preprocessing changes what an encoder sees: old embeddings are then not found.
PREPROCESSING_VERSION = 1


def embedding(tenant: str, image_id: str, bundle_digest: str, region: Region | None = None) -> str:
    """region: of the image; None is all of it."""
    return f"{PREFIX}:{tenant}:embedding:{image_id}:{bundle_digest}:{PREPROCESSING_VERSION}{part(region)}"


def maps(tenant: str, image_id: str, bundle_digest: str, region: Region | None = None) -> str:
    """Of the automatic decoder."""
    return f"{PREFIX}:{tenant}:maps:{image_id}:{bundle_digest}:{PREPROCESSING_VERSION}{part(region)}"


def part(region: Region | None) -> str:
    """The end of a key; nothing for a whole image."""
    return "" if region is None else f":{region.x},{region.y},{region.width},{region.height}"


def encoding(embedding_key: str) -> str:
    """Held by the replica that encodes what this key will hold."""
    return f"{embedding_key}:encoding"


def mask(tenant: str, image_id: str, mask_id: str) -> str:
    return f"{PREFIX}:{tenant}:mask:{image_id}:{mask_id}"


def derived(tenant: str, image_id: str) -> str:
    """The set of all keys made from an image, so that deleting it finds them."""
    return f"{PREFIX}:{tenant}:derived:{image_id}"


def deleted_channel() -> str:
    """Replicas hear here of deleted images, as `tenant/image_id`."""
    return f"{PREFIX}:deleted"


def encoded_channel() -> str:
    """Replicas hear here of embeddings that have arrived, by their keys."""
    return f"{PREFIX}:encoded"


def image_bytes(tenant: str, image_id: str) -> str:
    return f"{tenant}/images/{image_id}/bytes"


def image_record(tenant: str, image_id: str) -> str:
    return f"{tenant}/images/{image_id}/record.json"


def image_tiles(tenant: str, image_id: str) -> str:
    """Of all the sets that were made of an image."""
    return f"{tenant}/images/{image_id}/tiles/"


def image_tile(tenant: str, image_id: str, folder: str, level: int, row: int, column: int) -> str:
    return f"{image_tiles(tenant, image_id)}{folder}/{level}/{row}_{column}"


def images(tenant: str) -> str:
    return f"{tenant}/images/"


def files(tenant: str) -> str:
    return f"{tenant}/files/"


def file_bytes(tenant: str, file_id: str) -> str:
    return f"{files(tenant)}{file_id}/bytes"


def file_record(tenant: str, file_id: str) -> str:
    return f"{files(tenant)}{file_id}/record.json"


def identity(options: ReadOptions) -> bytes:
    """The part of an image's id that its bytes do not decide; empty for the defaults."""
    if options == ReadOptions():
        return b""
    return f"page={options.page};channels={options.channels};normalise={options.normalise}".encode()


def job(tenant: str, job_id: str) -> str:
    """Of the jobs' Redis, as all that follow up to `jobs_files`."""
    return f"{PREFIX}:{tenant}:job:{job_id}"


def job_events(tenant: str, job_id: str) -> str:
    return f"{job(tenant, job_id)}:events"


def job_chunks(tenant: str, job_id: str) -> str:
    """A list of the published ones."""
    return f"{job(tenant, job_id)}:chunks"


def job_lease(tenant: str, job_id: str) -> str:
    """Held by the worker that is at it."""
    return f"{job(tenant, job_id)}:lease"


def jobs(tenant: str) -> str:
    """All jobs of a tenant that are still known, by the time they were made."""
    return f"{PREFIX}:{tenant}:jobs"


def active_jobs() -> str:
    """A set of `tenant/job_id`: queued or running."""
    return f"{PREFIX}:jobs:active"


def due_hooks() -> str:
    """A sorted set of `tenant/job_id/event`: ends of jobs that are to be told, by when, in ms."""
    return f"{PREFIX}:jobs:hooks"


def tried_hooks() -> str:
    """A hash: how often each of them was tried."""
    return f"{PREFIX}:jobs:hooks:tried"


def idempotency(tenant: str, key: str) -> str:
    return f"{PREFIX}:{tenant}:idempotency:{key}"


def jobs_files(tenant: str) -> str:
    """In the object store."""
    return f"{tenant}/jobs/"


def job_files(tenant: str, job_id: str) -> str:
    """What a job was asked, and what it made."""
    return f"{jobs_files(tenant)}{job_id}/"
