"""The parts that find many objects of an image (AIS, AMG, similar to examples), with their caches and threads."""

from concurrent.futures import ThreadPoolExecutor

from segserve.app.encoding_service import EncodingService
from segserve.automatic.ais_map_cache import AisMapCache
from segserve.automatic.amg_candidate_cache import AmgCandidateCache
from segserve.automatic.amg_generator import AmgGenerator
from segserve.automatic.segmenter import AutomaticSegmenter
from segserve.bounded_executor import BoundedExecutor, lower_thread_priority
from segserve.encode.embeddings import Embeddings
from segserve.similar.resolve_examples import ExampleResolver
from segserve.similar.segmenter import SimilarSegmenter
from segserve.types import MB


class AutomaticParts:
    def __init__(
        self,
        base: EncodingService,
        embeddings: Embeddings,
        resolver: ExampleResolver,
        executor: BoundedExecutor,
    ) -> None:
        settings, images = base.settings, base.storage.images
        self._maps = AisMapCache(
            images, base.cache, embeddings, executor, base.metrics, settings.maps_mb * MB
        )
        self._grid_pool = ThreadPoolExecutor(
            settings.encode_threads, "grid", initializer=lower_thread_priority
        )
        self._candidates = AmgCandidateCache(
            images, embeddings, executor, self._grid_pool, base.metrics, settings.candidates_mb * MB
        )
        self.segmenter = AutomaticSegmenter(
            base.registry,
            embeddings,
            self._maps,
            AmgGenerator(embeddings, self._candidates, executor),
            executor,
            base.metrics,
            max_tiles=base.role_options.max_automatic_tiles,
        )
        self.similar = SimilarSegmenter(
            base.registry,
            embeddings,
            resolver,
            executor,
            self._grid_pool,
            base.metrics,
            max_tiles=base.role_options.max_automatic_tiles,
        )

    def held_images(self) -> set[tuple[str, str]]:
        """Return (tenant, image_id) of every image of which something is held."""
        return self._maps.images() | self._candidates.images()

    def forget(self, tenant: str, image_id: str) -> None:
        """Drop what is held of an image."""
        self._maps.forget(tenant, image_id)
        self._candidates.forget(tenant, image_id)

    def close(self) -> None:
        self._grid_pool.shutdown(cancel_futures=True)
