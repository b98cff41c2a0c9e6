"""The gRPC server: services, health checks and reflection on one port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from segserve.app import EncodingService, Service
from segserve.cancellation import cancel_and_wait
from segserve.errors import BadInput
from segserve.inference import inference_pb2_grpc
from segserve.types import MB, FrontendName
from segserve.v1 import (
    encoder_pb2,
    encoder_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    segmentation_pb2,
    segmentation_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)
from segserve.wire.frontends.open_inference.grpc_service import SERVICE as OPEN_INFERENCE
from segserve.wire.frontends.open_inference.grpc_service import OpenInferenceService
from segserve.wire.grpc.connections import ConnectionWatch
from segserve.wire.grpc.encoder_service import EncoderService
from segserve.wire.grpc.file_service import FileService
from segserve.wire.grpc.interceptor import CallInterceptor
from segserve.wire.grpc.job_service import JobService
from segserve.wire.grpc.message_reads import LOOKAHEAD_BYTES
from segserve.wire.grpc.segmentation_service import SegmentationService
from segserve.wire.grpc.tls import create_server_credentials
from segserve.wire.grpc.usage_service import UsageService
from segserve.wire.http.limits import SPARE_CONNECTIONS, TCP_TIMEOUT_S
from segserve.wire.tls_files import CertificateFiles

# Many masks as logits are large. The limit on requests is a setting, max_request_mb.
MAX_ANSWER_BYTES = 256 * MB
MAX_METADATA_BYTES = 16 << 10
# How often health checks learn what /readyz says.
HEALTH_INTERVAL_S = 0.25
# After this time a client must connect again. It resolves the name again, and so finds workers that were added.
MAX_CONNECTION_AGE_MS = 300_000
# A connection without a call is closed after this time; clients connect again by themselves.
MAX_CONNECTION_IDLE_MS = 120_000
# Calls of one connection at the same time. Clients let further ones wait.
MAX_CONCURRENT_STREAMS = 128
# Our own client pings every 10 s, to learn whether the worker of a long encode still lives.
MIN_PING_INTERVAL_MS = 5_000

SEGMENTATION = segmentation_pb2.DESCRIPTOR.services_by_name["SegmentationService"].full_name
ENCODER = encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name
FILES = files_pb2.DESCRIPTOR.services_by_name["FileService"].full_name
JOBS = jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name
USAGE = usage_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name


@asynccontextmanager
async def serve_grpc(
    service: EncodingService,
    host: str,
    port: int,
    tls_files: CertificateFiles | None = None,
    *,
    grace_s: float,
    is_shared: bool = False,
) -> AsyncIterator[int]:
    """Run a gRPC server while the block runs, and yield its port.

    tls_files: its certificate, and the authorities of clients'; None speaks without TLS.
    grace_s: how long running calls may go on at the end.
    is_shared: other processes listen on this port too.

    Raises BadInput where it cannot listen.
    """
    interceptor = CallInterceptor(service)
    server = create_server(service, interceptor, is_shared=is_shared)
    names = add_services(server, service)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    try:
        address = f"{f'[{host}]' if ':' in host else host}:{port}"
        if tls_files is None:
            bound_port = server.add_insecure_port(address)
        else:
            bound_port = server.add_secure_port(address, create_server_credentials(tls_files))
    except RuntimeError as error:
        raise BadInput(
            f"gRPC cannot listen on {host}:{port}: {error}.", field="grpc_port", remedy="Give another port."
        ) from None
    interceptor.watch = ConnectionWatch(service.settings, service.metrics, bound_port)
    await server.start()
    tasks = [
        asyncio.create_task(update_health(service, checks, names)),
        asyncio.create_task(interceptor.watch.run()),
    ]
    try:
        yield bound_port
    finally:
        await cancel_and_wait(tasks)
        await checks.enter_graceful_shutdown()
        await server.stop(grace_s)


def create_server(service: EncodingService, interceptor: CallInterceptor, *, is_shared: bool = False) -> Any:
    """A server with limits and the interceptor, still without services.

    The interceptor limits calls. gRPC's own limit on them would be one for all clients.
    """
    settings = service.settings
    return grpc.aio.server(
        interceptors=[interceptor],
        options=[
            ("grpc.max_receive_message_length", settings.max_request_mb * MB),
            ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
            # Else gRPC measures the link, and receives megabytes of calls that nobody reads.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", LOOKAHEAD_BYTES),
            ("grpc.max_metadata_size", MAX_METADATA_BYTES),
            # Unless it is meant, a second server on the port is a mistake.
            ("grpc.so_reuseport", int(is_shared)),
            ("grpc.max_connection_age_ms", MAX_CONNECTION_AGE_MS),
            ("grpc.max_connection_age_grace_ms", MAX_CONNECTION_AGE_MS),
            ("grpc.max_allowed_incoming_connections", settings.max_connections + SPARE_CONNECTIONS),
            ("grpc.max_connection_idle_ms", MAX_CONNECTION_IDLE_MS),
            ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.header_timeout_s)),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_PING_INTERVAL_MS),
            ("grpc.keepalive_time_ms", 500 * TCP_TIMEOUT_S),
            ("grpc.keepalive_timeout_ms", 500 * TCP_TIMEOUT_S),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )


def add_services(server: Any, service: EncodingService) -> list[str]:
    """Add the services of the API, or of an encoder worker, and return their names."""
    if not isinstance(service, Service):
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(EncoderService(service), server)
        return [ENCODER]
    segmentation_pb2_grpc.add_SegmentationServiceServicer_to_server(SegmentationService(service), server)
    files_pb2_grpc.add_FileServiceServicer_to_server(FileService(service), server)
    jobs_pb2_grpc.add_JobServiceServicer_to_server(JobService(service), server)
    usage_pb2_grpc.add_UsageServiceServicer_to_server(UsageService(service), server)
    names = [SEGMENTATION, FILES, JOBS, USAGE]
    if FrontendName.OPEN_INFERENCE not in service.settings.frontends:
        return names
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(OpenInferenceService(service), server)
    return [*names, OPEN_INFERENCE]


async def update_health(service: EncodingService, checks: Any, names: list[str]) -> None:
    """Let the standard health check (grpc.health.v1) answer what /readyz answers, until cancelled."""
    states = health_pb2.HealthCheckResponse
    last_state = None
    while True:
        status, _ = await service.check_readiness()
        state = states.NOT_SERVING if status == "unavailable" else states.SERVING
        if state != last_state:  # setting it wakes every watcher
            for name in ("", *names):
                await checks.set(name, state)
            last_state = state
        await asyncio.sleep(HEALTH_INTERVAL_S)
