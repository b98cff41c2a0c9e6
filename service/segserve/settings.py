"""Every setting, in one class, with its default, bounds and unit.

Precedence: command line > environment variable (SEGSERVE_...) > default.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from segserve.errors import BadInput, describe_invalid
from segserve.identity.oidc_issuer import OidcIssuer
from segserve.types import MB, Device, FileLimits, FrontendName, ImageLimits, Precision, Runtime

PREFIX = "SEGSERVE_"
# From which likeness on (of difflib) a setting is proposed for a name that is none.
MIN_LIKENESS = 0.8
MEGAPIXEL = 1_000_000
# Memory limits of control groups, versions 2 and 1, as a container sees its own.
CGROUP_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# The share of the cores that a control group may use: "QUOTA PERIOD" in version 2, one file each in version 1.
CGROUP_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1_CPU_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
CGROUP_V1_CPU_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
# Assumed where the system does not say how much memory there is.
DEFAULT_MEMORY_MB = 4096
# An image of 16 megapixels fits, in every format.
MIN_IMAGE_MEMORY_MB = 1024
MAX_DEFAULT_IMAGE_MEMORY_MB = 8192


def count_cores() -> int:
    """Return the number of cores that this process may use: the machine's, or fewer by a control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, read_cpu_limit() or cores)


def read_cpu_limit() -> int | None:
    """Return the limit of the control group in cores, rounded up, as a container sees its own; None where none is."""
    with suppress(OSError, ValueError):  # the file is missing, or says "max"
        quota, period = CGROUP_CPU_QUOTA.read_text().split()
        return max(1, ceil(int(quota) / int(period)))
    with suppress(OSError, ValueError):
        quota_us = int(CGROUP_V1_CPU_QUOTA.read_text())  # -1: no limit
        if quota_us > 0:
            return max(1, ceil(quota_us / int(CGROUP_V1_CPU_PERIOD.read_text())))
    return None


def measure_memory_mb() -> int:
    """Return the memory, in MB, that this process may use: the machine's, or less by a control group."""
    limits = [DEFAULT_MEMORY_MB * MB]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CGROUP_MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # the file is missing, or says "max"
            limits.append(int(path.read_text()))
    return min(limits) // MB


def default_image_memory_mb() -> int:
    """Return half of the memory, within bounds: more than the upper one is only taken by several images at once."""
    return min(max(MIN_IMAGE_MEMORY_MB, measure_memory_mb() // 2), MAX_DEFAULT_IMAGE_MEMORY_MB)


def check_rate(text: str) -> str:
    """Raises ValueError."""
    from limits import parse_many  # most services have no rates

    try:
        parse_many(text)
    except ValueError:
        raise ValueError('rates are such as "50/second", or "50/second;10000/day"') from None
    return text


Rate = Annotated[str, AfterValidator(check_rate)]


class Settings(BaseSettings):
    """Each field is also the environment variable SEGSERVE_<FIELD>.

    Units stand in the names: _s, _ms, _days, _mb, _megapixels, _megavoxels, _px. A name without one is a count.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    # Addresses and logs.
    host: str = Field("127.0.0.1", description="address to listen on, for REST and gRPC")
    port: int = Field(8000, ge=0, le=65535, description="port of REST; 0 takes a free one")
    grpc_port: int | None = Field(
        None, ge=0, le=65535, description="port of gRPC; 0 takes a free one; unset: no gRPC"
    )
    operator_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of its own for /livez, /readyz and /metrics, which clients cannot fill; REST"
        " answers them too; 0 takes a free one; unset: none",
    )
    keys_file: Path | None = Field(
        None,
        description="file of the keys that requests must have: see docs/keys.md; it is read again when it changes;"
        " unset: no keys are asked for",
    )
    oidc_issuers: tuple[OidcIssuer, ...] = Field(
        (),
        description="issuers of OpenID Connect whose tokens are accepted beside keys, with the extra oidc:"
        ' [{"issuer": "https://login.example.org", "audience": "segserve"}]; docs/keys.md has the other fields',
    )
    login_max_s: float = Field(
        43200.0, gt=0, description="a login of the page ends after so long: 12 hours if left out"
    )
    signing_secret: str | None = Field(
        None,
        repr=False,
        description="signs logins of the page and links, the same for all replicas: 32 characters or more that nobody"
        " can guess; unset: a secret that is made in the object store",
    )
    insecure: bool = Field(
        False,
        description="serve on an address that other machines reach without asking for keys: whoever reaches it can"
        " use all of it",
    )
    drain_s: float = Field(
        0,
        ge=0,
        description="how long a service or encoder worker that was told to stop answers as before, while /readyz and"
        " gRPC's health say that it stops, so that load balancers leave it first",
    )
    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="processes of `segserve serve` that answer on the same ports; each has caches and limits of its"
        " own, and /metrics on its own operator_port: that one, the next, and so on",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description='names by which clients call the service: "segserve.example.org", "*.example.org", or "*" for any;'
        " loopback and the address that it is bound to always work",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description='origins whose pages may call the API from a browser: "https://labels.example.org"'
    )
    tls_cert: Path | None = Field(
        None,
        description="certificate of REST, gRPC and every other port, in PEM, with those between it and its"
        " authority; read again when the file changes; unset: no TLS",
    )
    tls_key: Path | None = Field(None, description="key of tls_cert, in PEM, without a password")
    tls_client_ca: Path | None = Field(
        None,
        description="authorities, in PEM: only clients with a certificate of one of them are answered; not at"
        " the ports of operators and metrics, whose probes have none",
    )
    log_format: str = Field(
        "text", pattern="^(text|json)$", description="text for people, json for log collectors"
    )
    audit_log: str | None = Field(
        None,
        min_length=1,
        description="file to which is written who stored, changed, deleted and read what, as lines of JSON; - is"
        " standard error; unset: nobody is told",
    )
    log_level: str = Field(
        "info", pattern="^(debug|info|warning|error)$", description="lowest level that is logged"
    )

    # Storage and cache.
    data_dir: Path = Field(
        Path(platformdirs.user_data_dir("segserve", appauthor=False)),
        description="folder of images, pulled models and the private Redis servers",
    )
    models_dir: Path | None = Field(
        None,
        description="folder of pulled and imported models, which several machines may share; unset:"
        " data_dir/models",
    )
    object_store: str | None = Field(
        None,
        description="where images, files and results are kept: a URL such as s3://bucket/prefix, gs://bucket/prefix"
        " or az://container/prefix; unset: data_dir/objects",
    )
    signed_urls: bool = Field(
        False,
        description="clients reach the object store too: large files are sent to it, and fetched from it, by URLs"
        " that it signs for some hours; S3, Google Cloud Storage and Azure",
    )
    retention_days: float = Field(
        0, ge=0, description="images and files older than this are deleted; 0 keeps them"
    )
    quota_mb: int = Field(
        0,
        ge=0,
        description="how much a tenant may store, in MB: images, files, requests and results of jobs; 0"
        " is no limit. More gets 413, and fails a job, which can be retried when there is room",
    )
    tenants_file: Path | None = Field(
        None,
        description="YAML file of what each tenant may store, read again when it changes; unset: all tenants may store"
        " what quota_mb and retention_days say",
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        description="the Redis that replicas share as a cache: redis://, rediss:// with TLS, unix://,"
        " redis+sentinel:// or redis+cluster://; unset: a private server in data_dir",
    )
    redis_timeout_s: float = Field(
        2.0, gt=0, description="how long a command may take before Redis counts as away"
    )
    cache_mb: int = Field(2048, ge=16, description="memory of the private Redis, in MB")
    embedding_ttl_s: int = Field(
        7 * 86400, ge=1, description="how long embeddings and AIS maps are cached: 7 days if left out"
    )
    mask_ttl_s: int = Field(3600, ge=1, description="how long a mask_id can be used to refine a mask")

    # Models and memory.
    device: Device = Field(Device.CPU, description="where models run: cpu, or cuda (with the gpu extra)")
    runtime: Runtime | Literal["auto"] = Field(
        "auto",
        description="what runs encoders on a CPU: auto takes OpenVINO where its extra is installed; everything else"
        " is run by ONNX Runtime",
    )
    precision: Precision | Literal["auto"] = Field(
        "auto",
        description="what encoders compute in on a CPU: auto takes bf16 with OpenVINO, on a CPU that has it, for"
        " models whose masks were found to agree; with encoder workers auto is fp32",
    )
    default_model: str = Field("starter", description="model of requests that name none")
    default_semantic_model: str = Field(
        "starter-unet", description="model of requests to /v1/semantic that name none"
    )
    preload: tuple[str, ...] = Field(("starter",), description="models loaded before the service is ready")
    models_mb: int = Field(8192, ge=1, description="memory for loaded models, on the device, in MB")
    prepared_mb: int = Field(
        1024,
        ge=1,
        description="memory for prepared embeddings, in MB: on the device, their fp16 copies on the host",
    )
    maps_mb: int = Field(256, ge=1, description="memory for AIS maps in this process, in MB")
    tiles_mb: int = Field(
        256, ge=1, description="memory for decoded parts of images that are looked at in tiles, in MB"
    )
    candidates_mb: int = Field(512, ge=1, description="memory for AMG candidates in this process, in MB")

    # Clicks.
    decode_threads: int = Field(
        default_factory=lambda: min(4, count_cores()),
        ge=1,
        description="threads that decode one click; all cores if left out, at most 4",
    )
    decode_workers: int = Field(
        default_factory=lambda: max(2, count_cores()),
        ge=1,
        description="clicks decoded at the same time; all cores if left out, at least 2",
    )
    decode_target_ms: float = Field(
        30.0,
        ge=0,
        description="while clicks take longer than this, and more than three times as long as their decoding, fewer are"
        " accepted at once: two to seven for each of decode_workers",
    )

    # Encoding.
    encode_threads: int = Field(
        default_factory=count_cores, ge=1, description="threads that encode a batch; all cores if left out"
    )
    encode_batch: int = Field(
        0, ge=0, le=64, description="images encoded together; 0 stands for 1 on a CPU and 8 on a GPU"
    )
    encode_queue: int = Field(
        64,
        ge=2,
        description="images that may wait to be encoded, half of them for jobs, seven eighths for one"
        " client; more get 503",
    )
    encode_timeout_s: float = Field(60.0, gt=0, description="how long a request waits for its embedding")
    encoder_url: str | None = Field(
        None, description="encoder workers, as a gRPC target; unset: encode in this process"
    )
    encoder_tls_ca: Path | None = Field(
        None,
        description="authorities, in PEM, of the certificates of encoder workers; unset: connect without TLS",
    )
    encoder_tls_cert: Path | None = Field(
        None, description="certificate, in PEM, that encoder workers are shown, which may ask for one"
    )
    encoder_tls_key: Path | None = Field(
        None, description="key of encoder_tls_cert, in PEM, without a password"
    )
    send_images: bool = Field(
        False, description="send images to encoder workers that cannot reach the object store"
    )

    # Whole images without prompts.
    whole_workers: int = Field(
        1, ge=1, description="whole images (AIS, AMG, semantic, instances) segmented at the same time"
    )
    whole_queue: int = Field(16, ge=0, description="whole images that may wait for it; more get 503")
    automatic_tiles: int = Field(
        64,
        ge=1,
        description="tiles of a large image that one request to /v1/automatic may take, for a model with"
        " an input of 1024 pixels, four times as many for one of 512; 64 are 8192 pixels a"
        " side for SAM; more become a job",
    )

    # Limits for uploads and requests.
    max_image_mb: int = Field(2048, ge=1, description="size of an uploaded image, in MB; more gets 413")
    max_image_megapixels: int = Field(
        256, ge=1, description="of an image that is read at once; more gets 413"
    )
    image_memory_mb: int = Field(
        default_factory=default_image_memory_mb,
        ge=MIN_IMAGE_MEMORY_MB,
        description="memory for decoding images and reading files, of all together in one process; one that"
        " needs more than three quarters of it gets 413; one that waits too long for it gets 503; labels for MONAI"
        " Label's clients take up to half as much beside it",
    )
    max_tiled_megapixels: int = Field(
        1000, ge=1, description="of a large image that is read in bands and kept in tiles; more gets 413"
    )
    tile_from_px: int = Field(
        4096,
        ge=256,
        description="images with a longer side are kept and encoded in tiles; 4096 is four times what SAM sees",
    )
    max_file_mb: int = Field(
        4096, ge=1, description="size of an uploaded video, stack or volume, in MB; of a zip, unpacked"
    )
    max_volume_megavoxels: int = Field(1000, ge=1, description="of a volume; more gets 413")
    reader_timeout_s: float = Field(
        30.0,
        gt=0,
        description="CPU time to open a file or to read a frame of it, and a second more for each 2 MB of"
        " the file; its process is killed after twice that time",
    )
    reader_memory_mb: int = Field(
        0, ge=0, description="address space of the process that reads a file, in MB; 0: what the limits need"
    )
    max_request_mb: int = Field(32, ge=1, description="size of a JSON body, in MB; more gets 413")
    body_memory_mb: int = Field(
        512,
        ge=1,
        description="size of all JSON bodies and messages of gRPC together that are being received,"
        " checked or answered; more get 503",
    )
    max_clicks: int = Field(
        256,
        ge=1,
        description="requests to /v1/segment at the same time, waiting ones included; more get 503, as"
        " with the next three",
    )
    max_uploads: int = Field(64, ge=1, description="uploads of images and files at the same time")
    max_watchers: int = Field(
        512, ge=1, description="clients that follow a job or read its results at the same time"
    )
    max_in_flight: int = Field(256, ge=1, description="other requests to /v1 at the same time")
    max_connections: int = Field(
        768,
        ge=1,
        description="open connections of REST, and as many of gRPC; 32 more are accepted, on which /v1"
        " answers 503 while /livez, /readyz and /metrics still work",
    )
    max_client_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of the last six, and of max_sessions, that one client may hold, which is an address, or a"
        " /64 of IPv6",
    )
    rate_clicks: Rate | None = Field(
        None,
        description='clicks of one key, in all replicas together, such as "50/second" or "50/second;100000/day"; of one'
        " address where there are no keys; more get 429; unset: no limit, as with the next three",
    )
    rate_uploads: Rate | None = Field(None, description="uploads of one key, as rate_clicks")
    rate_requests: Rate | None = Field(None, description="other requests to /v1 of one key, as rate_clicks")
    rate_address: Rate | None = Field(
        None, description="requests of every kind from one address, whatever keys it has"
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description="addresses of proxies whose header X-Forwarded-For names the client;"
        " they may hold all connections",
    )
    header_timeout_s: float = Field(10.0, gt=0, description="until a request's headers must be complete")
    body_timeout_s: float = Field(
        20.0, gt=0, description="how long a client may send nothing of a body, or read nothing of an answer"
    )

    # Frontends: the protocols of other tools.
    frontends: tuple[FrontendName, ...] = Field(
        tuple(FrontendName),
        description="protocols of other tools that are spoken beside the API; [] speaks none",
    )
    cvat_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of its own for CVAT, which calls it as a Nuclio dashboard; 0 takes a free one; unset: none",
    )
    cvat_browser_model: str | None = Field(
        None,
        description="model whose embeddings CVAT's own plugin decodes in the browser, by SAM's decoder of ViT-H; unset:"
        " the first SAM of ViT-H",
    )
    isat_port: int | None = Field(
        None, ge=0, le=65535, description="port of its own for ISAT; 0 takes a free one; unset: none"
    )
    isat_model: str | None = Field(
        None,
        description="model that encodes for ISAT; unset: the default model, or the first that ISAT can decode for",
    )
    max_sessions: int = Field(
        64, ge=1, description="sessions of each frontend that are open, such as videos; more get 503"
    )
    session_idle_s: float = Field(
        1800.0, gt=0, description="a session of a frontend ends after so long without a request"
    )
    session_max_s: float = Field(86400.0, gt=0, description="a session of a frontend ends after so long")
    monai_labels: tuple[str, ...] = Field(
        ("object",),
        min_length=1,
        description="names that clients of MONAI Label (3D Slicer, OHIF) offer for what is clicked on",
    )

    label_studio_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="where this service reaches Label Studio, to fetch the images of tasks; unset: where Label Studio"
        " says that it is, if that is on loopback and the service is bound to loopback too",
    )
    label_studio_token: str | None = Field(
        None,
        repr=False,
        description="a token of Label Studio, for all its projects, with label_studio_url; unset: the one that each"
        " project gives when it connects",
    )
    label_studio_precompute: int = Field(
        200,
        ge=0,
        le=100_000,
        description="images of a project of Label Studio that are encoded when it connects; 0: none",
    )

    # Outbound HTTP: images by URL, and webhooks.
    fetch_hosts: tuple[str, ...] = Field(
        (),
        description='hosts from which images may be fetched by URL: "example.org", "*.example.org"; empty: none',
    )
    fetch_private: bool = Field(False, description="fetch images from addresses that are not public too")
    fetch_timeout_s: float = Field(10.0, gt=0, description="for a whole fetch, redirects included")
    dicomweb_hosts: tuple[str, ...] = Field(
        (), description='DICOMweb servers to fetch from: "pacs.example.org", "*.example.org"; empty: none'
    )
    dicomweb_url: str | None = Field(
        None,
        description="the DICOMweb server from which clients of MONAI Label mean series by their UIDs, such as"
        " https://pacs.example.org/dicom-web; its host must be in dicomweb_hosts too",
    )
    dicomweb_private: bool = Field(
        False, description="fetch DICOM from addresses that are not public too, as those of a hospital"
    )
    dicomweb_authorization: str | None = Field(
        None,
        repr=False,
        description='the Authorization header for all DICOMweb servers, such as "Bearer ..." or "Basic ..."',
    )
    dicomweb_timeout_s: float = Field(300.0, gt=0, description="for fetching a whole study or series")
    webhook_hosts: tuple[str, ...] = Field(
        (), description='hosts to which webhooks may be sent: "example.org", "*.example.org"; empty: none'
    )
    webhook_private: bool = Field(False, description="send webhooks to addresses that are not public too")
    webhook_secret: str | None = Field(
        None,
        repr=False,
        description='signs the webhooks: "whsec_" and 24 to 64 bytes in base64',
    )
    webhook_timeout_s: float = Field(
        20.0, gt=0, description="for one attempt; the Standard Webhooks specification recommends 15 to 30"
    )

    # Jobs.
    jobs_redis_url: str | None = Field(
        None,
        repr=False,
        description="a durable Redis for jobs, by a URL as redis_url has, but no cluster; unset: a private server"
        " in data_dir, or no jobs if redis_url is set",
    )
    jobs_mb: int = Field(512, ge=16, description="memory of the jobs' private Redis, in MB")
    job_ttl_days: float = Field(7, gt=0, description="how long ended jobs and their results are kept")
    max_jobs: int = Field(
        1000, ge=1, description="jobs of all tenants that are queued or running; more get 503"
    )
    job_lease_s: float = Field(
        6.0, ge=1, description="a worker that is silent for this long loses its job to another worker"
    )
    job_turn_s: float = Field(
        30.0,
        gt=0,
        description="a job that has run for this long makes way for the job of another tenant, if one waits, and goes"
        " on after it",
    )
    job_workers: bool = Field(
        True, description="start a job worker with the service if the jobs' Redis is private"
    )
    batch_roots: dict[str, str] = Field(
        {}, description="folders and bucket prefixes of the server that batch jobs may read, by name"
    )
    batch_at_once: int = Field(
        default_factory=lambda: 2 * count_cores(),
        ge=1,
        description="images of a batch job that are worked on at the same time; twice the cores if left out",
    )

    def as_environment(self) -> dict[str, str]:
        """Return environment variables that give another process the same settings."""
        explicit = self.model_dump(mode="json", exclude_unset=True)
        return {
            f"SEGSERVE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in explicit.items()
            if value is not None
        }

    @property
    def models_folder(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    @property
    def is_exposed(self) -> bool:
        """Return whether other machines can connect."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def asks_for_keys(self) -> bool:
        """Return whether requests must say who sends them."""
        return self.keys_file is not None or bool(self.oidc_issuers)

    @property
    def accepts_any_host(self) -> bool:
        """Return whether the header Host may be anything. On an exposed address nobody knows our names unless told."""
        return "*" in self.allowed_hosts or (not self.allowed_hosts and self.is_exposed)

    @property
    def has_rates(self) -> bool:
        return any((self.rate_clicks, self.rate_uploads, self.rate_requests, self.rate_address))

    @property
    def max_batch(self) -> int:
        """Return the images encoded together. On a CPU a batch takes as long as its images one by one."""
        return self.encode_batch or (1 if self.device is Device.CPU else 8)

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            max_pixels=self.max_image_megapixels * MEGAPIXEL,
            max_tiled_pixels=self.max_tiled_megapixels * MEGAPIXEL,
            tile_above_px=self.tile_from_px,
        )

    @property
    def file_limits(self) -> FileLimits:
        return FileLimits(
            max_mb=self.max_file_mb,
            max_frame_pixels=self.max_image_megapixels * MEGAPIXEL,
            max_voxels=self.max_volume_megavoxels * MEGAPIXEL,
        )


def find_secrets() -> set[str]:
    """Return the names of the settings that hold secrets, or may: they are shown nowhere."""
    return {name for name, field in Settings.model_fields.items() if not field.repr}


# Variables of single commands, which are no settings.
COMMAND_VARIABLES = ("SEGSERVE_API_KEY", "SEGSERVE_ENCODER_PORT", "SEGSERVE_METRICS_PORT")


def find_unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables SEGSERVE_... that are no settings, each with the setting it may be meant for, or empty."""
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields] + list(COMMAND_VARIABLES)
    # As pydantic reads them: in any case.
    unknown = [name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known]
    return {
        name: next(iter(get_close_matches(name.upper(), known, n=1, cutoff=MIN_LIKENESS)), "")
        for name in unknown
    }


def load_settings(**options: Any) -> Settings:
    """Return the settings: options of the command line, then environment variables, then defaults.

    options: None stands for an option that was not used.

    Raises BadInput, naming the setting at fault.
    """
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except SettingsError as error:
        raise BadInput(
            f"A setting cannot be read: {error}.", remedy='Lists are JSON, such as ["starter"].'
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        value = "what it is" if name in find_secrets() else repr(first["input"])
        raise BadInput(
            f"The setting {name} cannot be {value}: {describe_invalid(first)}.",
            field=name,
            remedy=f"Correct the option or the variable SEGSERVE_{name.upper()}.",
        ) from None
