"""PNG and JPEG in bands, by libvips: from top to bottom, never whole in memory."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segserve.images.image_source import RawPixels, damaged_file_error, wrap_codec_errors
from segserve.types import Size

ROWS = 256
_TYPES = {"uchar": np.uint8, "ushort": np.uint16}


def read_bands(
    name: str, stream: BinaryIO, size: Size, channels: int, orientation: int
) -> Iterator[RawPixels]:
    """The pixels that Pillow reads, as parts of [h, W, C]. name: "PNG" or "JPEG". size, channels: as the header
    says, without what a PNG's tRNS adds."""
    with wrap_codec_errors(name):
        image = _open(name, stream)
        region = _vips().Region.new(image)
    if (image.width, image.height) != (size.width, size.height) or image.bands < channels:
        raise damaged_file_error(name)
    for top in range(0, size.height, ROWS):
        height = min(ROWS, size.height - top)
        with wrap_codec_errors(name):
            samples = np.frombuffer(region.fetch(0, top, size.width, height), _TYPES[image.format])
        values = samples.reshape(height, size.width, image.bands)[:, :, :channels]
        if name == "JPEG" and channels == 4:
            values = _rgb(values)
        yield RawPixels(values, name == "PNG" and channels in (2, 4), orientation)


def _open(name: str, stream: BinaryIO) -> Any:
    """The one loader that is meant: libvips would choose among all it has."""
    vips = _vips()
    stream.seek(0)
    try:
        source = vips.Source.new_from_descriptor(stream.fileno())
    except OSError:  # a file that is in memory
        source = vips.Source.new_from_memory(stream.read())
    load = vips.Image.pngload_source if name == "PNG" else vips.Image.jpegload_source
    return load(source, access="sequential", fail_on="error")


def _vips() -> Any:
    """Loaded when it is first needed, for it takes a while. Its cache of operations is for those who repeat them."""
    import pyvips

    pyvips.cache_set_max(0)
    return pyvips


def _rgb(inks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[h, W, 4] CMYK to RGB as Pillow does."""
    height, width = inks.shape[:2]
    return np.asarray(Image.frombytes("CMYK", (width, height), inks.tobytes()).convert("RGB"))
