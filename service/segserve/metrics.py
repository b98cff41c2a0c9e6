"""Every metric of the service. Units stand in the names; histograms resolve 1 ms to 60 s."""

from collections.abc import Iterable
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

LATENCY_BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(
        0.065,
        0.08,
        0.1,
        0.125,
        0.15,
        0.2,
        0.25,
        0.3,
        0.4,
        0.5,
        0.65,
        0.8,
        1,
        1.5,
        2,
        3,
        5,
        7.5,
        10,
        20,
        30,
        60,
    ),
)
CHUNK_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """One registry a service; nothing global, so that tests and several services in a process stay apart."""

    def __init__(self) -> None:
        r = self._registry = CollectorRegistry()
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        self._requests = Counter(
            "segserve_requests_total",
            "Requests by route (a REST path or a gRPC method), model where one was used, and status",
            ["route", "method", "model", "status"],
            registry=r,
        )
        self._latency = Histogram(
            "segserve_request_seconds", "Time of a request", ["route"], buckets=LATENCY_BUCKETS_S, registry=r
        )
        self._clicks = Histogram(
            "segserve_click_seconds",
            "Time of a segment request that was answered, by where its embedding was: held in the process,"
            " in Redis, or still to be encoded",
            ["embedding"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self._stages = Histogram(
            "segserve_stage_seconds",
            "Time of each stage of a request",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self.in_flight = Gauge("segserve_requests_in_flight", "Requests being answered", registry=r)
        self._rejections = Counter(
            "segserve_rejections_total",
            "Requests refused for lack of room, by reason",
            ["reason"],
            registry=r,
        )
        self._lookups = Counter(
            "segserve_embedding_lookups_total",
            "Embedding look-ups by tier (process, redis) and result (hit, miss)",
            ["tier", "result"],
            registry=r,
        )
        self._cache_bytes = Gauge("segserve_cache_bytes", "Bytes held by tier", ["tier"], registry=r)
        self._cache_entries = Gauge(
            "segserve_cache_entries", "Prepared embeddings, maps, or keys in Redis", ["tier"], registry=r
        )
        self._evictions = Counter(
            "segserve_cache_evictions_total", "Entries pushed out for lack of room", ["tier"], registry=r
        )
        self._masks = Counter("segserve_masks_total", "Masks answered", ["model"], registry=r)
        self._maps = Counter(
            "segserve_maps_total",
            "Maps of automatic decoders by where they came from: process, redis, or the decoder",
            ["source"],
            registry=r,
        )
        self._grids = Counter(
            "segserve_grids_total",
            "Grids of clicks for automatic masks by where their masks came from: process, or the decoder",
            ["source"],
            registry=r,
        )
        self._objects = Counter(
            "segserve_objects_total",
            "Objects found on whole images, by model and method",
            ["model", "method"],
            registry=r,
        )
        self._encoded = Counter("segserve_encoded_images_total", "Images encoded here", ["model"], registry=r)
        self._batches = Histogram(
            "segserve_encode_batch_images", "Images encoded together", buckets=BATCH_BUCKETS, registry=r
        )
        self._queue = Gauge(
            "segserve_encode_queue_images", "Images that wait to be encoded", ["priority"], registry=r
        )
        self._loaded = Gauge("segserve_models_loaded", "Models in memory", registry=r)
        self._device_memory = Gauge(
            "segserve_device_memory_bytes",
            "Memory in use on each accelerator, by all processes",
            ["device"],
            registry=r,
        )
        self._jobs_ended = Counter(
            "segserve_jobs_ended_total", "Jobs that ended, by kind and state", ["kind", "state"], registry=r
        )
        self._job_units = Counter(
            "segserve_job_units_total",
            "Images, frames or slices that jobs finished here",
            ["kind"],
            registry=r,
        )
        self._job_chunks = Histogram(
            "segserve_job_chunk_seconds",
            "Time of a chunk of a job",
            ["kind"],
            buckets=CHUNK_BUCKETS_S,
            registry=r,
        )
        self._jobs = Gauge(
            "segserve_active_jobs",
            "Jobs by class and state: queued or running",
            ["priority", "state"],
            registry=r,
        )
        self._webhooks = Counter(
            "segserve_webhooks_total",
            "Webhooks by result: sent, failed (an attempt), given_up (the last)",
            ["result"],
            registry=r,
        )
        for result in ("sent", "failed", "given_up"):
            self._webhooks.labels(result)
        self.loop_lag = Gauge(
            "segserve_event_loop_lag_seconds", "How late the event loop was at its last check", registry=r
        )

    def request(self, route: str, method: str, model: str, status: str, seconds: float) -> None:
        self._requests.labels(route, method, model, status).inc()
        self._latency.labels(route).observe(seconds)

    def click(self, embedding: str, seconds: float) -> None:
        self._clicks.labels(embedding).observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.labels(stage).observe(seconds)

    def rejected(self, reason: str) -> None:
        self._rejections.labels(reason).inc()

    def lookup(self, tier: str, *, hit: bool) -> None:
        self._lookups.labels(tier, "hit" if hit else "miss").inc()

    def held(self, tier: str, entries: int, nbytes: int) -> None:
        self._cache_entries.labels(tier).set(entries)
        self._cache_bytes.labels(tier).set(nbytes)

    def evicted(self, tier: str, count: int) -> None:
        self._evictions.labels(tier).inc(count)

    def masks(self, model: str, count: int) -> None:
        self._masks.labels(model).inc(count)

    def encoded(self, model: str, images: int) -> None:
        self._encoded.labels(model).inc(images)
        self._batches.observe(images)

    def queued(self, priority: str, images: int) -> None:
        self._queue.labels(priority).set(images)

    def models_loaded(self, count: int) -> None:
        self._loaded.set(count)

    def maps(self, source: str) -> None:
        self._maps.labels(source).inc()

    def grids(self, source: str) -> None:
        self._grids.labels(source).inc()

    def objects(self, model: str, method: str, count: int) -> None:
        self._objects.labels(model, method).inc(count)

    def job_chunk(self, kind: str, units: int, seconds: float) -> None:
        self._job_units.labels(kind).inc(units)
        self._job_chunks.labels(kind).observe(seconds)

    def job_ended(self, kind: str, state: str) -> None:
        self._jobs_ended.labels(kind, state).inc()

    def expect_jobs(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Expose what has not happened yet: of a series that begins at 1, Prometheus does not see the first."""
        for kind, state in product(kinds, states):
            self._jobs_ended.labels(kind, state)

    def jobs(self, priority: str, state: str, count: int) -> None:
        self._jobs.labels(priority, state).set(count)

    def webhook(self, result: str) -> None:
        self._webhooks.labels(result).inc()

    def device_memory(self, device: str, nbytes: int) -> None:
        self._device_memory.labels(device).set(nbytes)

    def expose(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
