"""The roles of a process (API, encoder, worker, local), and the options of each role."""

from dataclasses import dataclass
from enum import Enum, auto

from segserve.settings import Settings
from segserve.types import Device, Priority


class Role(Enum):
    """The purpose of a process."""

    LOCAL = auto()  # the work of one command, or a test
    API = auto()  # answers clients over REST and gRPC
    ENCODER = auto()  # encodes images for other processes, and does nothing else
    WORKER = auto()  # runs jobs


@dataclass(frozen=True)
class RoleOptions:
    """The options that differ between the roles.

    runs_decoders: decodes prompts and segments whole images; False for what only encodes.
    has_jobs: can reach the jobs, if a Redis is set for them.
    runs_jobs: is itself a job worker.
    reads_uploads: takes uploads, whose readers are started with it and not with the first file.
    priority: of the images that this process asks to have encoded.
    encode_timeout_s: how long a request waits for an embedding; None waits until there is one.
    threads_per_encode, concurrent_encodes: threads of one batch, and batches encoded at the same time.
    max_automatic_tiles: tiles of a large image that are segmented in one call; None is no limit.
    drain_s: how long the process answers as before when it is told to stop; 0 for what nobody calls.
    """

    runs_decoders: bool
    has_jobs: bool
    runs_jobs: bool
    reads_uploads: bool
    priority: Priority
    encode_timeout_s: float | None
    threads_per_encode: int
    concurrent_encodes: int
    max_automatic_tiles: int | None
    drain_s: float

    @classmethod
    def for_role(cls, role: Role, settings: Settings) -> "RoleOptions":
        """Return the options of a role under these settings."""
        # A job has many images, and nobody waits for one of them: on a CPU, one thread for each image encodes the most.
        one_thread_each = role is Role.WORKER and settings.device is Device.CPU
        interactive = role is not Role.WORKER
        return cls(
            runs_decoders=role is not Role.ENCODER,
            has_jobs=role in (Role.API, Role.WORKER),
            runs_jobs=role is Role.WORKER,
            reads_uploads=role is Role.API,
            priority=Priority.INTERACTIVE if interactive else Priority.BATCH,
            encode_timeout_s=settings.encode_timeout_s if interactive else None,
            threads_per_encode=1 if one_thread_each else settings.encode_threads,
            concurrent_encodes=settings.encode_threads if one_thread_each else 1,
            max_automatic_tiles=settings.automatic_tiles if interactive else None,
            drain_s=settings.drain_s if role in (Role.API, Role.ENCODER) else 0.0,
        )
