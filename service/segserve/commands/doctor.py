"""`segserve doctor`: whether this machine has what `segserve serve` needs, one line for each thing, with what to do."""

import asyncio
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from segserve import __version__
from segserve.app.choose_runtimes import OPENVINO_EXTRA, choose_precision, choose_runtime
from segserve.app.storage import create_data_dir
from segserve.commands.check_extras import is_installed
from segserve.commands.common_options import DataDir, list_unknown_variables
from segserve.device_memory import load_nvml
from segserve.errors import BrokenModel, SegserveError, describe_install
from segserve.models.registry import BUILT_IN_MODELS, ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.cpu_features import read_cpu_flags
from segserve.sandbox.landlock import landlock_version
from segserve.settings import Settings, count_cores, load_settings, measure_memory_mb
from segserve.store.private_redis import PrivateRedis
from segserve.store.redis_connection import REDIS_ERRORS, connect_redis
from segserve.store.redis_servers import find_redis_binaries, find_writer, read_version
from segserve.types import MB, Device, Runtime
from segserve.wire.server import check_port_is_free, local_address
from segserve.wire.tls_files import open_encoder_files, open_server_files

MIN_PYTHON = (3, 11)
# With less, the first large image fills the disk.
MIN_FREE_MB = 2_000
MIN_MEMORY_MB = 2_000
MIN_CACHE_MB = 16
REDIS_TIMEOUT_S = 3.0
# Of each extra the modules that it brings, as they are imported.
EXTRAS = {
    "video": ("av",),
    "volumes": ("SimpleITK", "nibabel", "pydicom", "highdicom"),
    "microscopy": ("pylibCZIrw",),
    "models": ("torch", "torchvision", "segment_anything", "onnx"),
    "train": ("torch", "albumentations", "matplotlib", "cv2"),
}


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"  # worth knowing; serve works without it
    MISSING = "missing"  # serve needs it


@dataclass(frozen=True)
class Finding:
    """The result of one check. remedy: the thing to do, empty if there is none."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check what this machine has and what is missing. Ends with 1 where serve would not work."""
    findings = list(examine(data_dir))
    missing = [finding for finding in findings if finding.verdict is Verdict.MISSING]
    if as_json:
        typer.echo(
            json.dumps({"ok": not missing, "checks": [asdict(finding) for finding in findings]}, indent=2)
        )
    else:
        print_findings(findings)
        typer.echo(
            f"\n{len(missing)} missing: 'segserve serve' does not work yet."
            if missing
            else "\nAll that 'segserve serve' needs is here. Next: segserve demo"
        )
    if missing:
        raise typer.Exit(1)


def print_findings(findings: list[Finding]) -> None:
    colours = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "red"}
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        word = typer.style(f"{finding.verdict:<7}", fg=colours[finding.verdict])
        typer.echo(f"{word}  {finding.name:<{width}}  {finding.text}")
        if finding.remedy:
            typer.echo(f"{'':<7}  {'':<{width}}  -> {finding.remedy}")


def examine(data_dir: Path | None) -> Iterator[Finding]:
    """Yield what is found, one thing after the other."""
    yield check_python()
    try:
        settings = load_settings(data_dir=data_dir)
    except SegserveError as error:
        yield Finding("settings", Verdict.MISSING, error.message, error.remedy)
        return
    for warning in list_unknown_variables():
        yield Finding("settings", Verdict.NOTE, warning, "Correct its name, or unset it.")
    yield check_machine()
    yield from check_runtime(settings)
    yield from check_installed_extras()
    yield check_sandbox()
    for check in (check_tls, check_cache, check_jobs, check_folders, check_models):
        yield from guard(check, settings)
    yield from check_ports(settings)


def guard(check: Callable[[Settings], Iterator[Finding]], settings: Settings) -> Iterator[Finding]:
    """Yield what a check finds. An error that it raises is something that serve would raise too."""
    try:
        yield from check(settings)
    except SegserveError as error:
        name = check.__name__.removeprefix("check_")
        yield Finding(name, Verdict.MISSING, error.message, error.remedy)


def check_python() -> Finding:
    text = f"segserve {__version__} on Python {platform.python_version()} ({sys.executable})"
    if sys.version_info >= MIN_PYTHON:
        return Finding("python", Verdict.OK, text)
    return Finding("python", Verdict.MISSING, text, "Install Python 3.11 or later, and segserve into it.")


def check_machine() -> Finding:
    flags = read_cpu_flags()
    width = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    cores, memory_mb = count_cores(), measure_memory_mb()
    text = f"{cores} cores, {width if flags else platform.machine()}, {memory_mb:,} MB of memory"
    if memory_mb < MIN_MEMORY_MB:
        return Finding(
            "machine",
            Verdict.NOTE,
            text,
            "Lower SEGSERVE_MODELS_MB, SEGSERVE_PREPARED_MB and SEGSERVE_CACHE_MB.",
        )
    if flags and "avx2" not in flags:
        return Finding(
            "machine", Verdict.NOTE, text, "Clicks are several times slower than measured; take a newer CPU."
        )
    return Finding("machine", Verdict.OK, text)


def check_runtime(settings: Settings) -> Iterator[Finding]:
    if not is_installed("onnxruntime"):
        yield Finding("runtime", Verdict.MISSING, "ONNX Runtime is not installed.", describe_install("cpu"))
        return
    import onnxruntime

    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    text = f"ONNX Runtime {onnxruntime.__version__}, runs on {', '.join(providers)}"
    wants_cuda, has_cuda = settings.device is Device.CUDA, "CUDA" in providers
    if wants_cuda and not has_cuda:
        yield Finding(
            "runtime", Verdict.MISSING, text, "Uninstall onnxruntime, then " + describe_install("gpu")
        )
    else:
        yield Finding("runtime", Verdict.OK, text)
    if not wants_cuda:
        yield check_encoders(settings)
    has_gpu = shutil.which("nvidia-smi") is not None or load_nvml() is not None
    if wants_cuda and not has_gpu:
        yield Finding(
            "gpu",
            Verdict.MISSING,
            "SEGSERVE_DEVICE is cuda, and no NVIDIA driver is here.",
            "Unset SEGSERVE_DEVICE.",
        )
    elif has_gpu and not wants_cuda:
        yield Finding(
            "gpu", Verdict.NOTE, "There is an NVIDIA GPU, and models run on the CPU.", "docs/operate.md, GPUs"
        )
    else:
        yield Finding(
            "gpu", Verdict.OK, "models run on the GPU" if wants_cuda else "none; models run on the CPU"
        )


def check_encoders(settings: Settings) -> Finding:
    """Return what encodes images on this CPU."""
    try:
        runtime = choose_runtime(settings)
        precision = choose_precision(settings, runtime, alone=settings.encoder_url is None)
    except SegserveError as error:
        return Finding("encoders", Verdict.MISSING, error.message, error.remedy)
    if runtime is Runtime.ONNXRUNTIME:
        faster = settings.runtime == "auto" and "avx2" in read_cpu_flags()
        remedy = f"OpenVINO encodes about twice as fast: {describe_install(OPENVINO_EXTRA)}" if faster else ""
        return Finding("encoders", Verdict.OK, "run by ONNX Runtime in fp32", remedy)
    how = "in bf16 for models whose masks agree" if precision is None else f"in {precision}"
    return Finding("encoders", Verdict.OK, f"run by OpenVINO {how}")


def check_installed_extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if not is_installed(module)]
        if absent:
            text = f"extra {extra} is not installed ({', '.join(absent)})"
            yield Finding("extras", Verdict.NOTE, text, f"If you need it: {describe_install(extra)}")
        else:
            yield Finding("extras", Verdict.OK, f"{extra} ({', '.join(modules)})")


def check_sandbox() -> Finding:
    if sys.platform == "linux" and landlock_version() > 0:
        return Finding("sandbox", Verdict.OK, "uploaded files are read by confined processes (Landlock)")
    text = "this kernel has no Landlock: readers of files have limits of memory and time only"
    return Finding(
        "sandbox", Verdict.NOTE, text, "Run it on Linux 5.13 or later where strangers may upload files."
    )


def check_cache(settings: Settings) -> Iterator[Finding]:
    if settings.redis_url is not None:
        yield ping_redis("cache", settings.redis_url, "SEGSERVE_REDIS_URL")
        return
    version = read_version(find_redis_binaries()[0])
    with TemporaryDirectory() as folder:
        server = PrivateRedis(Path(folder), MIN_CACHE_MB)
        try:
            server.start()
        finally:
            server.stop()
    yield Finding("cache", Verdict.OK, f"a private server, which starts: {version}")


def check_tls(settings: Settings) -> Iterator[Finding]:
    """Yield what the certificates are good for. Raises BadInput for those that cannot be used."""
    files = open_server_files(settings)
    encoder_files = open_encoder_files(settings)
    if files is not None:
        asks = "" if settings.tls_client_ca is None else ", and clients need a certificate"
        yield Finding("tls", Verdict.OK, f"REST and gRPC speak TLS{asks}")
    if encoder_files is not None:
        yield Finding("tls", Verdict.OK, "encoder workers are called by TLS")


def check_jobs(settings: Settings) -> Iterator[Finding]:
    if settings.jobs_redis_url is not None:
        yield ping_redis("jobs", settings.jobs_redis_url, "SEGSERVE_JOBS_REDIS_URL")
    elif settings.redis_url is not None:
        text = "there are no jobs: a shared cache needs a shared Redis for them"
        yield Finding("jobs", Verdict.NOTE, text, "Set SEGSERVE_JOBS_REDIS_URL to a durable Redis.")
    else:
        writer = find_writer(settings.data_dir / "jobs")
        present = [read_version(binary) for binary in find_redis_binaries()]
        if writer is not None and writer.name not in {server.name for server in present[:1]} | {"Redis"}:
            text = f"the jobs were written by {writer}, and there is only {' and '.join(map(str, present))}"
            yield Finding("jobs", Verdict.MISSING, text, f"Install {writer.name}: docs/operate.md, Settings")
        else:
            yield Finding(
                "jobs", Verdict.OK, f"a private server{f'; last used by {writer}' if writer else ''}"
            )


def ping_redis(name: str, url: str, variable: str) -> Finding:
    """Return whether a Redis answers. Its URL may hold a password, and is not shown."""
    try:
        version = asyncio.run(read_redis_version(url, variable))
    except REDIS_ERRORS as error:
        text = f"the Redis of {variable} does not answer ({type(error).__name__})"
        return Finding(
            name, Verdict.MISSING, text, "Does it run, is the address right, and does it need a password?"
        )
    return Finding(name, Verdict.OK, f"the Redis of {variable} answers (version {version})")


async def read_redis_version(url: str, variable: str) -> str:
    """Raises BadInput, and what redis-py raises."""
    client = connect_redis(url, REDIS_TIMEOUT_S, variable)
    try:
        info = await client.info("server")
        # Of a cluster each node answers.
        return str(info.get("redis_version") or next(iter(info.values()))["redis_version"])
    finally:
        await client.aclose()


def check_folders(settings: Settings) -> Iterator[Finding]:
    create_data_dir(settings.data_dir)
    free_mb = shutil.disk_usage(settings.data_dir).free // MB
    text = f"{settings.data_dir}, {free_mb:,} MB free"
    if free_mb < MIN_FREE_MB:
        yield Finding("folder", Verdict.NOTE, text, "Free some, or choose another with --data-dir.")
    else:
        yield Finding("folder", Verdict.OK, text)
    if settings.object_store is not None:
        yield Finding(
            "folder", Verdict.NOTE, "images are kept in SEGSERVE_OBJECT_STORE, which is not tried here"
        )


def check_models(settings: Settings) -> Iterator[Finding]:
    registry = ModelRegistry(
        [settings.models_folder, BUILT_IN_MODELS], RuntimeOptionsByGraph(), budget_bytes=0
    )
    needed = {settings.default_model, *settings.preload}
    for name in registry.names():
        try:
            registry.bundle(name)
        except BrokenModel as error:
            verdict = Verdict.MISSING if name in needed else Verdict.NOTE
            yield Finding(
                "models", verdict, f"{name}: {error.message}", error.remedy or "segserve models verify"
            )
    for name in sorted(needed - set(registry.names())):
        yield Finding(
            "models", Verdict.MISSING, f"{name} is not here", "segserve models list, then pull or import"
        )
    yield Finding("models", Verdict.OK, ", ".join(registry.names()))


def check_ports(settings: Settings) -> Iterator[Finding]:
    ports = {"REST": settings.port, "gRPC": settings.grpc_port, "operators": settings.operator_port}
    for name, port in ports.items():
        if not port:
            continue
        try:
            check_port_is_free(settings.host, port)
        except SegserveError as error:
            scheme = "http" if settings.tls_cert is None else "https"
            if is_segserve(scheme, settings.host, port):
                text = f"{name}: a segserve answers on port {port} already"
                yield Finding("ports", Verdict.NOTE, text, "Use it, or start another with --port.")
            else:
                yield Finding("ports", Verdict.MISSING, f"{name}: {error.message}", error.remedy)
        else:
            yield Finding("ports", Verdict.OK, f"{name}: {local_address(settings.host, port)} is free")


def is_segserve(scheme: str, host: str, port: int) -> bool:
    """Return whether a segserve answers on a port of this machine."""
    import httpx

    try:
        # Nothing is sent, and nothing of the answer is trusted: certificates need not be checked.
        url = f"{scheme}://{local_address(host, port)}/livez"
        answer = httpx.get(url, timeout=REDIS_TIMEOUT_S, verify=False)
        return bool(answer.json() == {"status": "alive"})
    except (httpx.HTTPError, ValueError):
        return False
