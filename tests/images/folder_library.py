"""An image library over a folder, in which an image with a side over 256 pixels counts as large."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.sandboxed_image import SandboxedImages
from segserve.images.image_library import ImageLibrary
from segserve.images.region_reader import RegionReader
from segserve.memory_budget import MemoryBudget
from segserve.sandbox.sandbox import Sandbox
from segserve.store.image_store import ImageStore
from segserve.store.object_store import open_store
from segserve.store.quota import Quota
from segserve.types import FileLimits, ImageLimits
from tests.quotas import NO_QUOTA

LIMITS = ImageLimits(max_pixels=100_000, max_tiled_pixels=1_000_000, tile_above_px=256)


class FolderLibrary:
    """`FolderLibrary` holds an image library and its parts, without a cache and without models."""

    def __init__(
        self, folder: Path, limits: ImageLimits = LIMITS, quota: Quota = NO_QUOTA, memory: int = 1 << 30
    ) -> None:
        self.folder, executor = folder, ThreadPoolExecutor(2)
        self.memory = MemoryBudget(memory, "SEGSERVE_IMAGE_MEMORY_MB", max_wait_s=60)
        self.store = ImageStore(open_store(None, folder), quota)
        self.reader = RegionReader(self.store, executor, self.memory, limits.max_pixels)

        async def forget(*args: object) -> None: ...

        self.sandbox = Sandbox(READER_MODULE)  # starts with the first image that needs it
        file_limits = FileLimits(max_mb=100, max_frame_pixels=limits.max_pixels, max_voxels=1)
        readers = FileReaders(
            self.sandbox, file_limits, timeout_s=60, memory_mb=0, executor=executor, memory=self.memory
        )
        cache, registry = SimpleNamespace(forget=forget), SimpleNamespace(bundles=dict)
        self.images = ImageLibrary(
            self.store,
            self.reader,
            cast(Any, cache),
            cast(Any, registry),
            executor,
            executor,
            self.memory,
            SandboxedImages(readers),
            limits=limits,
            forget=lambda *args: None,
        )

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def run_scenario(
    folder: Path, scenario: Callable[[FolderLibrary], Awaitable[None]], **options: Any
) -> FolderLibrary:
    """Run `scenario` with a new library in an event loop, and return the library."""

    async def run() -> FolderLibrary:
        library = FolderLibrary(folder, **options)
        library.memory.attach()
        try:
            await scenario(library)
        finally:
            library.sandbox.close()
        return library

    return asyncio.run(run())
