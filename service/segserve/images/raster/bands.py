"""Read PNG and JPEG in bands with libvips: from top to bottom, never the whole image in memory."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.images.image_source import RawPixels, damaged_file_error, wrap_codec_errors
from segserve.types import Size

BAND_ROWS = 256
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16}


def read_bands(
    name: str, stream: BinaryIO, size: Size, channels: int, orientation: int
) -> Iterator[RawPixels]:
    """Yield the same pixels as Pillow reads, as parts of [h, W, C].

    name: "PNG" or "JPEG".
    size, channels: as the header says, without the channel that a PNG's tRNS chunk adds.
    """
    with wrap_codec_errors(name):
        # pyvips does not keep `source`, whose memory libvips reads until the last band.
        source = _open_source(stream)
        image = _load(name, source)
        region = _import_pyvips().Region.new(image)
    if (image.width, image.height) != (size.width, size.height) or image.bands < channels:
        raise damaged_file_error(name)
    for top in range(0, size.height, BAND_ROWS):
        height = min(BAND_ROWS, size.height - top)
        with wrap_codec_errors(name):
            samples = np.frombuffer(region.fetch(0, top, size.width, height), _DTYPES[image.format])
        values = samples.reshape(height, size.width, image.bands)[:, :, :channels]
        if name == "JPEG" and channels == 4:
            values = _cmyk_to_rgb(values)
        yield RawPixels(values, name == "PNG" and channels in (2, 4), orientation)


def _open_source(stream: BinaryIO) -> Any:
    source = _import_pyvips().Source
    stream.seek(0)
    try:
        return source.new_from_descriptor(stream.fileno())
    except OSError:  # the stream is in memory
        return source.new_from_memory(stream.read())


def _load(name: str, source: Any) -> Any:
    """Open with the loader of this format only: left to itself, libvips chooses among all its loaders."""
    image = _import_pyvips().Image
    load = image.pngload_source if name == "PNG" else image.jpegload_source
    return load(source, access="sequential", fail_on="error")


def _import_pyvips() -> Any:
    """Import pyvips at its first use, because that is slow, and turn off its cache, because nothing is read twice."""
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips


def _cmyk_to_rgb(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB [h, W, 3] of CMYK [h, W, 4], as Pillow converts it."""
    height, width = inks.shape[:2]
    return np.asarray(Image.frombytes("CMYK", (width, height), inks.tobytes()).convert("RGB"))
