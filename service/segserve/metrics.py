"""Every Prometheus metric of the service, grouped by subject, in one registry. Units stand in the metric names."""

import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import product
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from segserve import __version__
from segserve.types import Priority, UsageKind

# Of each counter and histogram the time when it was created: as many series again, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]

# 1 ms to 60 s, close together where answers to clicks lie.
LATENCY_BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.065, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8),
    *(1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60),
)
CHUNK_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
DAY_S = 86_400
BATCH_BUCKETS_IMAGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """`Metrics` holds the groups and their registry.

    There is one for each `Service` and nothing global, so that tests and several services in a process stay apart.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self.requests = RequestMetrics(self._registry)
        self.connections = ConnectionMetrics(self._registry)
        self.clicks = ClickMetrics(self._registry)
        self.caches = CacheMetrics(self._registry)
        self.encoding = EncodingMetrics(self._registry)
        self.whole_images = WholeImageMetrics(self._registry)
        self.jobs = JobMetrics(self._registry)
        self.usage = UsageMetrics(self._registry)
        self.frontends = FrontendMetrics(self._registry)
        self.process = ProcessMetrics(self._registry)

    def expose(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class RequestMetrics:
    """REST and gRPC requests: how many, how long, how many refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "segserve_requests_total",
            "Requests answered, by route (REST path or gRPC method), method, model (empty if none), status, and the"
            " code of the problem (empty if none); too_busy: refused on purpose, as there was too much to do",
            ["route", "method", "model", "status", "problem"],
            registry=registry,
        )
        self._seconds = Histogram(
            "segserve_request_seconds",
            "Time from a request's arrival to its last byte, by route",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "segserve_stage_seconds",
            "Time that requests spend in each stage, such as encode, decode or format",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.in_flight = Gauge(
            "segserve_requests_in_flight", "Requests that are being answered now", registry=registry
        )
        self._rejections = Counter(
            "segserve_rejections_total",
            "Requests refused because a limit was reached, by the limit",
            ["reason"],
            registry=registry,
        )

    def record(
        self, route: str, method: str, model: str, status: str, seconds: float, *, problem: str = ""
    ) -> None:
        """problem: the code of the error that was answered, such as "too_busy"."""
        self._requests.labels(route, method, model, status, problem).inc()
        self._seconds.labels(route).observe(seconds)

    def record_stage(self, stage: str, seconds: float) -> None:
        self._stage_seconds.labels(stage).observe(seconds)

    def count_rejection(self, reason: str) -> None:
        self._rejections.labels(reason).inc()


class ConnectionMetrics:
    """Connections, by port (rest, operators, grpc)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._open = Gauge("segserve_connections", "Open connections, by port", ["port"], registry=registry)
        self._shed = Counter(
            "segserve_connections_shed_total",
            "Connections closed to make room for new ones, by what they did: idle, sending headers or"
            " body slowly (headers, body), or busy with calls of gRPC beyond the client's share",
            ["phase"],
            registry=registry,
        )
        for phase in ("idle", "headers", "body", "busy"):
            self._shed.labels(phase)

    def set_open(self, port: str, count: int) -> None:
        self._open.labels(port).set(count)

    def count_shed(self, phase: str) -> None:
        self._shed.labels(phase).inc()


class ClickMetrics:
    """Segmentation by prompts, and the masks answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "segserve_click_seconds",
            "Time of a successful segment request, by where its embedding was: in this process (process),"
            " in Redis (redis), or nowhere yet (encoded)",
            ["embedding"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._masks = Counter(
            "segserve_masks_total", "Masks answered, by model", ["model"], registry=registry
        )

    def record(self, embedding: str, seconds: float) -> None:
        """embedding: where it was: "process", "redis" or "encoded"."""
        self._seconds.labels(embedding).observe(seconds)

    def count_masks(self, model: str, count: int) -> None:
        self._masks.labels(model).inc(count)


class CacheMetrics:
    """Metrics of the caches: entries, hits, evictions. Tiers: process, redis, maps (AIS), candidates (AMG), tiles."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lookups = Counter(
            "segserve_embedding_lookups_total",
            "Look-ups of embeddings, by tier (process, redis) and result (hit, miss)",
            ["tier", "result"],
            registry=registry,
        )
        self._bytes = Gauge("segserve_cache_bytes", "Bytes that a cache holds", ["tier"], registry=registry)
        self._entries = Gauge(
            "segserve_cache_entries",
            "Entries that a cache holds: prepared embeddings, maps, candidates, or keys of Redis",
            ["tier"],
            registry=registry,
        )
        self._evictions = Counter(
            "segserve_cache_evictions_total",
            "Entries evicted because a cache was full",
            ["tier"],
            registry=registry,
        )

    def count_lookup(self, tier: str, *, hit: bool) -> None:
        self._lookups.labels(tier, "hit" if hit else "miss").inc()

    def set_size(self, tier: str, entries: int, nbytes: int) -> None:
        self._entries.labels(tier).set(entries)
        self._bytes.labels(tier).set(nbytes)

    def count_evictions(self, tier: str, count: int) -> None:
        self._evictions.labels(tier).inc(count)


class EncodingMetrics:
    """Images that this process encodes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._images = Counter(
            "segserve_encoded_images_total",
            "Images that this process encoded, by model",
            ["model"],
            registry=registry,
        )
        self._batch_images = Histogram(
            "segserve_encode_batch_images",
            "Images encoded together in one batch",
            buckets=BATCH_BUCKETS_IMAGES,
            registry=registry,
        )
        self._queue_images = Gauge(
            "segserve_encode_queue_images",
            "Images that wait to be encoded, by priority",
            ["priority"],
            registry=registry,
        )
        self._in_progress = Gauge(
            "segserve_encodes_in_progress",
            "Images that this process waits to have encoded, here or by encoder workers, by priority",
            ["priority"],
            registry=registry,
        )
        for priority in Priority:
            self._in_progress.labels(priority)

    def wait_for_encode(self, priority: Priority) -> AbstractContextManager[object]:
        """Count an image as waited for while the block runs."""
        return self._in_progress.labels(priority).track_inprogress()

    def record_batch(self, model: str, images: int) -> None:
        self._images.labels(model).inc(images)
        self._batch_images.observe(images)

    def set_queue(self, priority: str, images: int) -> None:
        self._queue_images.labels(priority).set(images)


class WholeImageMetrics:
    """Segmentation of whole images without prompts: AIS and AMG."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ais_maps = Counter(
            "segserve_ais_maps_total",
            "Sets of AIS maps used, by where they came from: process, redis, or decoder (computed now)",
            ["source"],
            registry=registry,
        )
        self._amg_grids = Counter(
            "segserve_amg_grids_total",
            "AMG grids of points used, by where their masks came from: process, or decoder (computed now)",
            ["source"],
            registry=registry,
        )
        self._objects = Counter(
            "segserve_objects_total",
            "Objects found on whole images, by model and method (ais, amg, similar)",
            ["model", "method"],
            registry=registry,
        )

    def count_ais_maps(self, source: str) -> None:
        self._ais_maps.labels(source).inc()

    def count_amg_grid(self, source: str) -> None:
        self._amg_grids.labels(source).inc()

    def count_objects(self, model: str, method: str, count: int) -> None:
        self._objects.labels(model, method).inc(count)


class JobMetrics:
    """Jobs, their chunks and their webhooks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = Counter(
            "segserve_jobs_ended_total",
            "Jobs that ended, by kind and state (succeeded, failed, cancelled)",
            ["kind", "state"],
            registry=registry,
        )
        self._units = Counter(
            "segserve_job_units_total",
            "Images, frames or slices that this process finished for jobs, by kind of job",
            ["kind"],
            registry=registry,
        )
        self._chunk_seconds = Histogram(
            "segserve_job_chunk_seconds",
            "Time of one chunk of a job, by kind of job",
            ["kind"],
            buckets=CHUNK_BUCKETS_S,
            registry=registry,
        )
        self._active = Gauge(
            "segserve_active_jobs",
            "Jobs of the whole deployment that have not ended, by priority and state (queued, running)",
            ["priority", "state"],
            registry=registry,
        )
        self._webhooks = Counter(
            "segserve_webhooks_total",
            "Attempts to deliver a webhook, by result: sent, failed (will be tried again), given_up (the last)",
            ["result"],
            registry=registry,
        )
        for result in ("sent", "failed", "given_up"):
            self._webhooks.labels(result)

    def expect_kinds(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Expose a zero for each kind and state: Prometheus does not see the first count of a series it never saw."""
        for kind, state in product(kinds, states):
            self._ended.labels(kind, state)

    def count_end(self, kind: str, state: str) -> None:
        self._ended.labels(kind, state).inc()

    def record_chunk(self, kind: str, units: int, seconds: float) -> None:
        """units: images, frames or slices of the chunk."""
        self._units.labels(kind).inc(units)
        self._chunk_seconds.labels(kind).observe(seconds)

    def set_active(self, priority: str, state: str, count: int) -> None:
        self._active.labels(priority, state).set(count)

    def count_webhook(self, result: str) -> None:
        self._webhooks.labels(result).inc()


# The label of all tenants that have none of their own. No tenant may have this name.
OTHER_TENANTS = "_other"


class UsageMetrics:
    """Usage of each tenant.

    Only tenants that `name_tenants` names have a label of their own; the others share one, however many there are.
    What was counted by day is for `take_counts`, of every tenant by itself.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._named = frozenset[str]()
        self._counts: dict[UsageDay, dict[str, float]] = {}
        self._usage = Counter(
            "segserve_usage_total",
            "What tenants have used, by tenant (_other: all that the tenants file does not name) and kind: images"
            " encoded and the seconds of that, clicks, whole images by each method, and the seconds of chunks of jobs",
            ["tenant", "kind"],
            registry=registry,
        )
        self._stored = Gauge(
            "segserve_stored_bytes",
            "Bytes that tenants store, as last measured (_other: all that the tenants file does not name)",
            ["tenant"],
            registry=registry,
        )

    def name_tenants(self, names: frozenset[str]) -> None:
        """Give these tenants labels of their own from now on."""
        self._named = names

    def count(self, tenant: str, kind: UsageKind, amount: float = 1) -> None:
        """Call it in the event loop."""
        self._usage.labels(self._label(tenant), kind.value).inc(amount)
        counts = self._counts.setdefault(self.today(tenant), {})
        counts[kind.value] = counts.get(kind.value, 0) + amount

    def today(self, tenant: str) -> "UsageDay":
        return UsageDay(tenant, int(time.time()) // DAY_S)

    def take_counts(self) -> "dict[UsageDay, dict[str, float]]":
        """Return what was counted since the last call, by kind."""
        counts, self._counts = self._counts, {}
        return counts

    def set_stored(self, bytes_by_tenant: Mapping[str, int]) -> None:
        sums = dict.fromkeys((*self._named, OTHER_TENANTS), 0)
        for tenant, nbytes in bytes_by_tenant.items():
            sums[self._label(tenant)] += nbytes
        for label, nbytes in sums.items():
            self._stored.labels(label).set(nbytes)

    def _label(self, tenant: str) -> str:
        return tenant if tenant in self._named else OTHER_TENANTS


class UsageDay(NamedTuple):
    """A tenant on a day. day: number of days since 1970, in UTC."""

    tenant: str
    day: int


class FrontendMetrics:
    """Protocols of other tools: their sessions, the images that they send again and again, and inferences."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sessions = Gauge(
            "segserve_frontend_sessions",
            "Sessions that are open, by frontend",
            ["frontend"],
            registry=registry,
        )
        self._ended_sessions = Counter(
            "segserve_frontend_sessions_ended_total",
            "Sessions that ended, by frontend, and by why: client (it said so), idle (no request for too long), age"
            " (open for too long), silent (no sign of its client, where clients give some)",
            ["frontend", "reason"],
            registry=registry,
        )
        self._images = Counter(
            "segserve_frontend_images_total",
            "Images that came with requests: recognised by their hash, or read",
            ["source"],
            registry=registry,
        )
        for source in ("recognised", "read"):
            self._images.labels(source)
        self._inferred = set[str]()  # models
        self._inferences = Counter(
            "segserve_open_inference_total",
            "Inferences by the Open Inference Protocol, by model and outcome (success, fail)",
            ["model", "outcome"],
            registry=registry,
        )
        self._inference_seconds = Counter(
            "segserve_open_inference_seconds_total",
            "Time of these inferences, by model, outcome and stage: all, input (reading tensors and image), infer,"
            " output (writing tensors)",
            ["model", "outcome", "stage"],
            registry=registry,
        )
        self._last_inference = Gauge(
            "segserve_open_inference_last_timestamp_seconds",
            "When the last of these inferences of a model ended, since 1970",
            ["model"],
            registry=registry,
        )

    def set_sessions(self, frontend: str, count: int) -> None:
        self._sessions.labels(frontend).set(count)

    def count_session_end(self, frontend: str, reason: str) -> None:
        self._ended_sessions.labels(frontend, reason).inc()

    def count_image(self, *, recognised: bool) -> None:
        self._images.labels("recognised" if recognised else "read").inc()

    def record_inference(self, model: str, outcome: str, seconds: Mapping[str, float]) -> None:
        """seconds: by stage."""
        self._inferred.add(model)
        self._inferences.labels(model, outcome).inc()
        self._last_inference.labels(model).set_to_current_time()
        for stage, duration in seconds.items():
            self._inference_seconds.labels(model, outcome, stage).inc(duration)

    def read_inferences(self, model: str, outcome: str) -> int:
        """Return how many inferences of a model had this outcome since the process started."""
        return int(self._read(self._inferences, model, outcome))

    def read_last_inference_s(self, model: str) -> float:
        """Return when the last inference of a model ended, in seconds since 1970; 0 if there was none."""
        return self._read(self._last_inference, model)

    def read_inference_seconds(self, model: str, outcome: str, stage: str) -> float:
        """Return the time of a stage of all these inferences together."""
        return self._read(self._inference_seconds, model, outcome, stage)

    def _read(self, metric: Counter | Gauge, model: str, *labels: str) -> float:
        """Return the value of a metric of a model; 0 where it had no inference, for which no series begins.

        The registry's own function for this collects all metrics each time, which takes milliseconds to a second.
        """
        if model not in self._inferred:
            return 0.0
        [family] = metric.labels(model, *labels).collect()
        return float(family.samples[0].value)


class ProcessMetrics:
    """This process and its devices: its version, loaded models, memory of accelerators, lag of the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        build = Info("segserve_build", "Version of segserve; the value is 1", registry=registry)
        build.info({"version": __version__})
        self._models_loaded = Gauge(
            "segserve_models_loaded", "Models that this process has loaded", registry=registry
        )
        self._device_memory_bytes = Gauge(
            "segserve_device_memory_bytes",
            "Memory in use on each accelerator, by all processes together",
            ["device"],
            registry=registry,
        )
        self._event_loop_lag_seconds = Gauge(
            "segserve_event_loop_lag_seconds",
            "How late the event loop was at its last check",
            registry=registry,
        )

    def set_models_loaded(self, count: int) -> None:
        self._models_loaded.set(count)

    def set_device_memory(self, device: str, nbytes: int) -> None:
        self._device_memory_bytes.labels(device).set(nbytes)

    def set_event_loop_lag(self, seconds: float) -> None:
        self._event_loop_lag_seconds.set(seconds)
