"""Every metric of the service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS_S = (
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    0.75,
    1,
    2,
    3,
    5,
    10,
    20,
    30,
    60,
)


class Metrics:
    """One registry a service; nothing global, so that tests and several services in a process stay apart."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        r = self._registry
        self._requests = Counter(
            "segserve_requests_total", "HTTP requests", ["route", "method", "status"], registry=r
        )
        self._latency = Histogram(
            "segserve_request_seconds", "HTTP request time", ["route"], buckets=LATENCY_BUCKETS_S, registry=r
        )
        self._stages = Histogram(
            "segserve_stage_seconds",
            "Time of each stage of a request",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=r,
        )
        self._cache = Counter(
            "segserve_embedding_lookups_total",
            "Embedding look-ups by tier and result",
            ["tier", "result"],
            registry=r,
        )
        self._held = Gauge("segserve_prepared_images", "Prepared embeddings held in this process", registry=r)
        self._held_bytes = Gauge("segserve_prepared_bytes", "Bytes of prepared embeddings held", registry=r)
        self._masks = Counter("segserve_masks_total", "Masks answered", ["model"], registry=r)
        self._loaded = Gauge("segserve_models_loaded", "Models in memory", registry=r)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.labels(route, method, status).inc()
        self._latency.labels(route).observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        self._stages.labels(stage).observe(seconds)

    def cache(self, tier: str, *, hit: bool) -> None:
        self._cache.labels(tier, "hit" if hit else "miss").inc()

    def held(self, images: int, nbytes: int) -> None:
        self._held.set(images)
        self._held_bytes.set(nbytes)

    def masks(self, model: str, count: int) -> None:
        self._masks.labels(model).inc(count)

    def models_loaded(self, count: int) -> None:
        self._loaded.set(count)

    def expose(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
