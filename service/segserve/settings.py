"""Every setting, in one class. Precedence: command line > environment (SEGSERVE_...) > default."""

import json
import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from segserve.errors import BadInput
from segserve.types import Device, FileLimits, ImageLimits


def count_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseSettings):
    """Each field is also the variable SEGSERVE_<FIELD>. Units stand in the names: _s, _mb, _days."""

    model_config = SettingsConfigDict(env_prefix="SEGSERVE_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    data_dir: Path = Field(
        Path(platformdirs.user_data_dir("segserve", appauthor=False)),
        description="images, pulled models and the private Redis live here",
    )
    log_format: str = Field("text", pattern="^(text|json)$")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")

    redis_url: str | None = Field(None, description="the shared cache; unset: a private server in data_dir")
    redis_timeout_s: float = Field(2.0, gt=0)
    cache_mb: int = Field(2048, ge=16, description="memory of the private Redis")
    embedding_ttl_s: int = Field(7 * 86400, ge=1)
    mask_ttl_s: int = Field(3600, ge=1, description="how long a mask_id can be sent back")
    object_store: str | None = Field(
        None, description="URL such as s3://bucket/prefix; unset: data_dir/objects"
    )
    retention_days: float = Field(0, ge=0, description="images older than this are deleted; 0 keeps them")
    quota_mb: int = Field(0, ge=0, description="bytes of images a tenant may store; 0 is no limit")

    jobs_redis_url: str | None = Field(
        None,
        description="a durable Redis; unset: a private server in data_dir, or no jobs where redis_url is set",
    )
    jobs_mb: int = Field(512, ge=16, description="memory of the private Redis of the jobs")
    job_ttl_days: float = Field(
        7, gt=0, description="how long jobs that have ended and their results are kept"
    )
    max_jobs: int = Field(1000, ge=1, description="that wait or run, of all tenants; beyond them 503")
    job_lease_s: float = Field(6.0, ge=1, description="after which a silent worker's job is another's")
    job_workers: bool = Field(
        True, description="run a worker beside the service where the jobs' Redis is private"
    )
    max_file_mb: int = Field(4096, ge=1, description="of a video, stack or volume; of a zip, unpacked")
    max_volume_megavoxels: int = Field(1000, ge=1)
    batch_roots: dict[str, str] = Field(
        {}, description="folders and bucket prefixes that batch jobs may read, by name"
    )
    batch_at_once: int = Field(
        default_factory=lambda: 2 * count_cores(),
        ge=1,
        description="images of a batch job worked on together",
    )

    device: Device = Device.CPU
    default_model: str = "starter"
    default_semantic_model: str = "starter-unet"
    preload: tuple[str, ...] = Field(("starter",), description="models loaded before the service is ready")
    models_mb: int = Field(8192, ge=1, description="memory for loaded models, on the device")
    prepared_mb: int = Field(
        1024, ge=1, description="memory for prepared embeddings, on the device but for their fp16 copies"
    )
    maps_mb: int = Field(256, ge=1, description="memory for automatic decoders' maps in this process")
    candidates_mb: int = Field(
        512, ge=1, description="memory for automatic masks to choose from, in this process"
    )
    encode_threads: int = Field(default_factory=count_cores, ge=1)
    decode_threads: int = Field(
        default_factory=lambda: min(4, count_cores()), ge=1, description="of one click"
    )
    decode_workers: int = Field(
        default_factory=lambda: max(2, count_cores()), ge=1, description="clicks at once"
    )
    decode_target_ms: float = Field(
        20.0, ge=0, description="where clicks take longer, fewer are taken at once"
    )
    encode_timeout_s: float = Field(60.0, gt=0)
    encode_batch: int = Field(0, ge=0, le=64, description="images encoded together; 0: 1 on CPU, 8 on GPU")
    encode_queue: int = Field(64, ge=2, description="images that may wait; batch work gets half")
    whole_workers: int = Field(1, ge=1, description="whole images segmented at once, without prompts")
    whole_queue: int = Field(16, ge=0, description="whole images that may wait for it; beyond them 503")
    encoder_url: str | None = Field(None, description="encoder workers; unset: encode in this process")
    send_images: bool = Field(False, description="to encoder workers that do not see the object store")
    grpc_port: int | None = Field(None, ge=0, le=65535, description="unset: no gRPC; 0 takes a free port")

    automatic_tiles: int = Field(
        64, ge=1, description="of a large image segmented in one request: 8192 pixels a side for SAM"
    )

    max_image_mb: int = Field(2048, ge=1)
    max_image_megapixels: int = Field(256, ge=1, description="of an image that is read at once")
    max_tiled_megapixels: int = Field(
        1000, ge=1, description="of one that is read in bands and kept in tiles"
    )
    tile_from_px: int = Field(
        4096, ge=256, description="longer sides are kept and encoded in tiles: four times what models see"
    )
    max_request_mb: int = Field(32, ge=1, description="of a JSON body")
    max_in_flight: int = Field(256, ge=1, description="requests to /v1 at once; beyond it 503")
    max_connections: int = Field(768, ge=1, description="open at once, of REST; beyond them 503, then closed")
    header_timeout_s: float = Field(10.0, gt=0, description="until a request's headers are complete")
    body_timeout_s: float = Field(20.0, gt=0, description="without a byte of a body, or of an answer read")
    cors_origins: tuple[str, ...] = Field((), description="whose pages may call the API from a browser")

    fetch_hosts: tuple[str, ...] = Field(
        (), description='where images may be fetched by URL: "example.org", "*.example.org"; empty: nowhere'
    )
    fetch_private: bool = Field(False, description="also from addresses that are not public")
    fetch_timeout_s: float = Field(10.0, gt=0, description="of a fetch, redirects included")

    webhook_hosts: tuple[str, ...] = Field(
        (), description='whom jobs may tell that they ended: "example.org", "*.example.org"; empty: nobody'
    )
    webhook_private: bool = Field(False, description="also at addresses that are not public")
    webhook_secret: str | None = Field(
        None, repr=False, description='that webhooks are signed with: "whsec_" and 24 to 64 bytes in base64'
    )
    webhook_timeout_s: float = Field(
        20.0, gt=0, description="of one attempt; the specification has it between 15 and 30"
    )

    def as_environment(self) -> dict[str, str]:
        """What makes another process's settings the same."""
        given = self.model_dump(mode="json", exclude_unset=True)
        return {
            f"SEGSERVE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in given.items()
            if value is not None
        }

    @property
    def is_exposed(self) -> bool:
        """Whether others than this machine can connect."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def max_batch(self) -> int:
        """On a CPU a batch takes as long as its images one by one."""
        return self.encode_batch or (1 if self.device is Device.CPU else 8)

    @property
    def file_limits(self) -> FileLimits:
        pixels, voxels = self.max_image_megapixels * 1_000_000, self.max_volume_megavoxels * 1_000_000
        return FileLimits(self.max_file_mb, pixels, voxels)

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            pixels=self.max_image_megapixels * 1_000_000,
            tiled_pixels=self.max_tiled_megapixels * 1_000_000,
            tile_from=self.tile_from_px,
        )


def load_settings(**given: Any) -> Settings:
    """What the command line names wins over the environment. Raises BadInput naming the setting at fault."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as error:
        raise BadInput(
            f"A setting cannot be read: {error}.", remedy='Lists are JSON, such as ["starter"].'
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"The setting {name} cannot be {first['input']!r}: {first['msg']}.",
            field=name,
            remedy=f"Correct the option or the variable SEGSERVE_{name.upper()}.",
        ) from None
