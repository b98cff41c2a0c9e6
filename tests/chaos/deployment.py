"""Two replicas, an encoder worker, two job workers and two Redis servers, any of which can be killed and started."""

import time
from collections.abc import Callable
from pathlib import Path

from segserve.identity.identity import Identity
from segserve.types import AccessRole
from tests.conftest import ExternalRedis
from tests.key_files import write_key_file
from tests.serving import Encoder, Process, Server, Worker

TENANTS = ("clinic", "institute")


class Deployment:
    """`Deployment` is shared by two tenants, of whom each has a key. keys: by tenant.

    options: more settings of all processes.
    """

    def __init__(self, folder: Path, **options: str) -> None:
        self._folder, self._options = folder, options
        key_file = folder / "keys.json"
        self.keys = write_key_file(
            key_file, [Identity(tenant, AccessRole.ANNOTATOR, tenant) for tenant in TENANTS]
        )
        for name in ("cache", "jobs", "data"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.cache = ExternalRedis(folder / "cache")
        self.jobs = ExternalRedis(folder / "jobs", "--appendonly", "yes", "--maxmemory-policy", "noeviction")
        shared = {
            "redis_url": self.cache.url,
            "jobs_redis_url": self.jobs.url,
            "encode_threads": "1",
            "decode_threads": "1",
            "batch_at_once": "2",
            "job_turn_s": "5",
            **options,
        }
        self.encoder = Encoder(folder / "data", **shared)
        shared["encoder_url"] = f"ipv4:{self.encoder.target}"
        self.servers = [Server(folder / "data", **shared, keys_file=str(key_file)) for _ in range(2)]
        self.workers = [Worker(folder / "data", **shared) for _ in range(2)]
        for server in self.servers:
            server.wait_ready()

    @property
    def parts(self) -> dict[str, Process | ExternalRedis]:
        """Everything that can die, by name."""
        return {
            "replica 1": self.servers[0],
            "replica 2": self.servers[1],
            "the encoder": self.encoder,
            "worker 1": self.workers[0],
            "worker 2": self.workers[1],
            "the cache's Redis": self.cache,
            "the jobs' Redis": self.jobs,
        }

    def stop(self) -> None:
        for process in (*self.servers, *self.workers, self.encoder):
            process.stop()
        self.cache.kill()
        self.jobs.kill()


class Story:
    """`Story` prints what happens, and when."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(0.2)
