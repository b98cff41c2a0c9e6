"""The parts for what users send: images, files, images by URL, and folders of the server that jobs may read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from segserve.app.encoding_service import EncodingService
from segserve.files.file_library import FileLibrary
from segserve.images.fetch_url import ImageFetcher
from segserve.images.image_library import ImageLibrary
from segserve.jobs.kinds.batch_images import ServerRoots
from segserve.types import MB


class UploadParts:
    """forget: called with (tenant, image_id) of a deleted image, to drop what this process holds of it."""

    def __init__(self, base: EncodingService, forget: Callable[[str, str], None]) -> None:
        settings, storage = base.settings, base.storage
        self.images = ImageLibrary(
            storage.images,
            storage.region_reader,
            base.cache,
            base.registry,
            base.read_pool,
            limits=settings.image_limits,
            forget=forget,
        )
        # A thread of its own: probing a large file takes minutes, and no upload of an image may wait behind it.
        self._probe_pool = ThreadPoolExecutor(1, "probe")
        self.files = FileLibrary(storage.files, self._probe_pool, settings.file_limits)
        self.image_fetcher = ImageFetcher(
            settings.fetch_hosts,
            private=settings.fetch_private,
            timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.max_image_mb * MB,
        )
        self.batch_roots = ServerRoots(settings.batch_roots)

    def close(self) -> None:
        self._probe_pool.shutdown(cancel_futures=True)
