"""Read pictures of the user's own folders: for training, evaluation and other commands without a server."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from segserve.files.file_readers import READER_MODULE, FileReaders
from segserve.files.sandboxed_image import open_in_process
from segserve.images.formats import IMAGE_SUFFIXES
from segserve.images.image_source import NeedsSandbox
from segserve.images.read_image import decode_source, read_image
from segserve.sandbox.sandbox import Sandbox
from segserve.types import FileLimits, ReadOptions, UInt8

# Of a picture, beside what its size adds.
READ_TIMEOUT_S = 120.0
MAX_FILE_MB = 2000
# Longer ones first: one may end with another.
PICTURE_SUFFIXES = tuple(sorted(IMAGE_SUFFIXES, key=lambda suffix: (-len(suffix), suffix)))


class LocalPictures:
    """`LocalPictures` reads pictures of every format that uploads may have. Use it in one thread, in a `with` block.

    The first picture that only a sandboxed process may decode starts a sandbox.

    max_pixels: limit for a picture.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._executor = ThreadPoolExecutor(1)
        self._sandbox: Sandbox | None = None

    def read(self, path: Path) -> UInt8:
        """Return a picture as models see it, RGB [H, W, 3]; the first page of several.

        Raises BadInput, TooLarge, UnsupportedFormat, MissingDependency, OSError.
        """
        try:
            with path.open("rb") as file:
                return read_image(file, ReadOptions(), self._max_pixels)
        except NeedsSandbox:
            image = open_in_process(self._readers(), path, 0, self._max_pixels, self._max_pixels)
        try:
            return decode_source(image.source, ReadOptions())
        finally:
            image.close()

    def _readers(self) -> FileReaders:
        if self._sandbox is None:
            self._sandbox = Sandbox(READER_MODULE)
        limits = FileLimits(MAX_FILE_MB, self._max_pixels, 1)
        return FileReaders(
            self._sandbox, limits, timeout_s=READ_TIMEOUT_S, memory_mb=0, executor=self._executor
        )

    def close(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
        self._executor.shutdown()

    def __enter__(self) -> "LocalPictures":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
