"""The parts for what users send: images, files, images by URL, and folders of the server that jobs may read."""

from collections.abc import Callable
from concurrent.futures import Executor

from segserve.app.encoding_service import EncodingService
from segserve.bounded_executor import lower_thread_priority
from segserve.fair_executor import FairExecutor
from segserve.files.direct_uploads import DirectUploads
from segserve.files.fetch_dicomweb import DicomwebFetcher
from segserve.files.file_library import FileLibrary
from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.frame_reader import MAX_OPEN_FILES, FrameReader
from segserve.files.leased_files import LeasedFiles
from segserve.files.sandboxed_image import SandboxedImages
from segserve.images.fetch_url import ImageFetcher
from segserve.images.image_library import ImageLibrary
from segserve.images.tile_reader import TileReader
from segserve.jobs.kinds.batch_images import ServerRoots
from segserve.memory_budget import MemoryBudget
from segserve.sandbox.sandbox import Sandbox
from segserve.settings import Settings
from segserve.types import MB

# Files that are read at the same time, each by a process of its own, for uploads and for requests that name them.
FILE_THREADS = 4


class UploadParts:
    """forget: called with (tenant, image_id) of a deleted image, to drop what this process holds of it."""

    def __init__(self, base: EncodingService, forget: Callable[[str, str], None]) -> None:
        settings, storage = base.settings, base.storage
        # Threads of their own: clicks on stored images read them in others, and uploads wait for no large one.
        self._upload_pool = FairExecutor(settings.decode_workers, "upload", initializer=lower_thread_priority)
        self._pyramid_pool = FairExecutor(1, "pyramid", initializer=lower_thread_priority)
        self.sandbox = Sandbox(READER_MODULE)
        self.images = ImageLibrary(
            storage.images,
            storage.region_reader,
            base.cache,
            base.registry,
            self._upload_pool,
            self._pyramid_pool,
            base.image_memory,
            SandboxedImages(self._create_readers(settings, self._upload_pool, base.image_memory)),
            limits=settings.image_limits,
            forget=forget,
        )
        # Threads of their own, and of low priority: a viewer asks for many tiles at once, and no click waits for them.
        self.tile_pool = FairExecutor(settings.decode_workers, "tile", initializer=lower_thread_priority)
        self.tiles = TileReader(storage.region_reader, self.tile_pool, base.metrics, settings.tiles_mb * MB)
        # Threads of their own: reading a large file takes minutes, and no upload of an image may wait behind it.
        self._file_pool = FairExecutor(FILE_THREADS, "file")
        readers = self._create_readers(settings, self._file_pool, base.image_memory)
        self.files = FileLibrary(storage.files, self._file_pool, readers)
        self.direct_uploads = DirectUploads(
            storage.objects,
            self.files,
            storage.images.quota,
            allowed=settings.signed_urls,
            max_bytes=settings.max_file_mb * MB,
        )
        self.leased_files = LeasedFiles(self.files, storage.files)
        # Threads of their own: who looks at a frame does not wait for uploads.
        self._frame_pool = FairExecutor(MAX_OPEN_FILES, "frame", initializer=lower_thread_priority)
        self.frames = FrameReader(
            self.files,
            self._create_readers(settings, self._frame_pool, base.image_memory),
            base.image_memory,
            settings.max_client_share,
        )
        self.image_fetcher = ImageFetcher(
            settings.fetch_hosts,
            private=settings.fetch_private,
            timeout_s=settings.fetch_timeout_s,
            max_bytes=settings.max_image_mb * MB,
        )
        self.dicomweb_fetcher = DicomwebFetcher(
            settings.dicomweb_hosts,
            private=settings.dicomweb_private,
            authorization=settings.dicomweb_authorization,
            timeout_s=settings.dicomweb_timeout_s,
            max_bytes=settings.max_file_mb * MB,
        )
        self.batch_roots = ServerRoots(settings.batch_roots)

    def _create_readers(self, settings: Settings, executor: Executor, memory: MemoryBudget) -> FileReaders:
        return FileReaders(
            self.sandbox,
            settings.file_limits,
            timeout_s=settings.reader_timeout_s,
            memory_mb=settings.reader_memory_mb,
            executor=executor,
            memory=memory,
        )

    def close(self) -> None:
        self.sandbox.close()
        for pool in (
            self._upload_pool,
            self._pyramid_pool,
            self.tile_pool,
            self._file_pool,
            self._frame_pool,
        ):
            pool.shutdown(cancel_futures=True)
