"""The parts that answer clicks: embeddings, masks to refine, and the segmenter, with the threads that decode."""

from segserve.app.encoding_service import EncodingService
from segserve.decode.click_limit import ClickLimit
from segserve.decode.mask_cache import MaskCache
from segserve.decode.segmenter import PromptSegmenter
from segserve.encode.embeddings import Embeddings
from segserve.encode.frame_embeddings import FrameEmbeddings
from segserve.encode.metered_encoder import MeteredEncoder
from segserve.encode.prepared_cache import PreparedCache
from segserve.encode.single_flight import SingleFlight
from segserve.fair_executor import FairExecutor
from segserve.similar.resolve_examples import ExampleResolver
from segserve.types import MB

# Threads for the clicks of a tenant, while another tenant's clicks keep all others busy.
SPARE_THREADS = 1


class ClickParts:
    def __init__(self, base: EncodingService) -> None:
        settings, storage, cache = base.settings, base.storage, base.cache
        self.decode_pool = FairExecutor(settings.decode_workers, "decode", spare_threads=SPARE_THREADS)
        self.single_flight = SingleFlight(cache)
        self.prepared = PreparedCache(settings.prepared_mb * MB)
        encoder = MeteredEncoder(base.encoder, base.metrics)
        self.embeddings = Embeddings(
            storage.images,
            storage.region_reader,
            cache,
            self.prepared,
            encoder,
            self.single_flight,
            self.decode_pool,
            base.metrics,
            timeout_s=base.role_options.encode_timeout_s,
            send_images=settings.send_images,
            priority=base.role_options.priority,
        )
        self.frame_embeddings = FrameEmbeddings(cache, self.prepared, encoder, self.decode_pool)
        self._masks = MaskCache(cache, settings.mask_ttl_s, base.read_pool)
        self.limit = ClickLimit(settings.decode_workers, settings.decode_target_ms / 1000, base.metrics)
        self.segmenter = PromptSegmenter(
            base.registry,
            self.embeddings,
            self._masks,
            self.decode_pool,
            base.metrics,
            threads=settings.decode_workers,
            click_limit=self.limit,
        )
        self.example_resolver = ExampleResolver(self.segmenter, self._masks)

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which something is held."""
        return self.embeddings.held_images() | self._masks.held_images()

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop what is held of an image."""
        self.embeddings.forget(tenant, image_id)
        self._masks.forget(tenant, image_id)

    def close(self) -> None:
        self.decode_pool.shutdown(cancel_futures=True)
