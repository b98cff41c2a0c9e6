"""Every Redis key and channel. The jobs' keys are in the jobs' own, durable Redis."""

from segserve.types import Region

# "1" is the version of the layout. Raise it when the layout changes, so that nothing reads what an older one wrote.
PREFIX = "segserve:1"
# Raise it when a change of reading or preprocessing changes what an encoder sees: old embeddings are then not found.
PREPROCESSING_VERSION = 1

# The cache. What is made of an image has one tag, in braces, so that a cluster keeps it on one node: scripts, and
# commands with several keys, need that.


def image(tenant: str, image_id: str) -> str:
    """The beginning of all keys of an image."""
    return f"{PREFIX}:{{{tenant}/{image_id}}}"


def embedding(tenant: str, image_id: str, bundle_digest: str, region: Region | None = None) -> str:
    """region: of the image; None is all of it."""
    return f"{image(tenant, image_id)}:embedding:{bundle_digest}:{PREPROCESSING_VERSION}{_suffix(region)}"


def maps(tenant: str, image_id: str, bundle_digest: str, region: Region | None = None) -> str:
    """The maps of the AIS decoder. region: of the image; None is all of it."""
    return f"{image(tenant, image_id)}:maps:{bundle_digest}:{PREPROCESSING_VERSION}{_suffix(region)}"


def _suffix(region: Region | None) -> str:
    return "" if region is None else f":{region.x},{region.y},{region.width},{region.height}"


def encoding_lock(embedding_key: str) -> str:
    """Held by the replica that computes what this key will hold."""
    return f"{embedding_key}:encoding"


def mask(tenant: str, image_id: str, mask_id: str) -> str:
    return f"{image(tenant, image_id)}:mask:{mask_id}"


def derived(tenant: str, image_id: str) -> str:
    """The set of all keys made from an image, so that its deletion finds them."""
    return f"{image(tenant, image_id)}:derived"


def stored(tenant: str) -> str:
    """A hash: how much a tenant stores. The tag in braces keeps it on one node of a cluster with the next key."""
    return f"{PREFIX}:{{{tenant}}}:stored"


def reserved(tenant: str) -> str:
    """A sorted set of `token:bytes:images`: what is being stored, by the time in ms when that ends."""
    return f"{PREFIX}:{{{tenant}}}:reserved"


def deleting(tenant: str) -> str:
    """The lead of the replica that deletes a tenant."""
    return f"{PREFIX}:deletions:{tenant}"


def patterns_of_tenant(tenant: str) -> tuple[str, ...]:
    """Patterns that all keys of a tenant match, here and among the jobs' keys, and no other tenant's."""
    return f"{PREFIX}:{tenant}:*", f"{PREFIX}:{{{tenant}/*", f"{PREFIX}:{{{tenant}}}:*"


def deleted_channel() -> str:
    """Replicas publish deleted images here, as `tenant/image_id`, and deleted tenants as `tenant/`."""
    return f"{PREFIX}:deleted"


def encoded_channel() -> str:
    """Replicas publish the keys of new embeddings here."""
    return f"{PREFIX}:encoded"


def rates() -> str:
    """The prefix of the counts of requests. The library limits makes the keys."""
    return f"{PREFIX}:rates"


# The jobs.


def job(tenant: str, job_id: str) -> str:
    """A hash: the job's state."""
    return f"{PREFIX}:{tenant}:job:{job_id}"


def job_events(tenant: str, job_id: str) -> str:
    """A stream: the job's events."""
    return f"{job(tenant, job_id)}:events"


def job_chunks(tenant: str, job_id: str) -> str:
    """A list: the published chunks."""
    return f"{job(tenant, job_id)}:chunks"


def job_lease(tenant: str, job_id: str) -> str:
    """Held by the worker that runs the job."""
    return f"{job(tenant, job_id)}:lease"


def jobs(tenant: str) -> str:
    """A sorted set: all jobs of a tenant that are still known, by time of creation."""
    return f"{PREFIX}:{tenant}:jobs"


def active_jobs() -> str:
    """A set of `tenant/job_id`: jobs that are queued or running."""
    return f"{PREFIX}:jobs:active"


def job_turn(tenant: str, priority: str) -> str:
    """The number of the tenant's last turn to run a job of this priority."""
    return f"{PREFIX}:{tenant}:turn:{priority}"


def job_turn_count() -> str:
    """How many turns there were, of all tenants."""
    return f"{PREFIX}:jobs:turns"


def due_webhooks() -> str:
    """A sorted set of `tenant/job_id/event`: webhooks to send, by the time they are due, in ms."""
    return f"{PREFIX}:jobs:hooks"


def webhook_attempts() -> str:
    """A hash: how often each webhook was tried."""
    return f"{PREFIX}:jobs:hooks:tried"


def usage(tenant: str, day: int) -> str:
    """A hash: what a tenant used on a day, by kind. day: since 1970."""
    return f"{PREFIX}:{tenant}:usage:{day}"


def usage_writes(tenant: str, day: int) -> str:
    """A hash: the number of the last write to the day that arrived, by process."""
    return f"{usage(tenant, day)}:writes"


def usage_tenants() -> str:
    """A set: tenants that have used or stored anything."""
    return f"{PREFIX}:usage:tenants"


def stored_bytes() -> str:
    """A hash: what each tenant stored when that was last measured."""
    return f"{PREFIX}:usage:stored"


def storage_measured() -> str:
    """Held for as long as what is stored need not be measured again."""
    return f"{PREFIX}:usage:measured"


def idempotency(tenant: str, key: str) -> str:
    return f"{PREFIX}:{tenant}:idempotency:{key}"
