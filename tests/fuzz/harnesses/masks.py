"""Masks: run lengths from clients, and what is written as RLE, PNG and polygons."""

import io
from collections.abc import Iterable
from itertools import chain

import numpy as np
from PIL import Image

from segserve.masks import png, polygon, rle
from segserve.types import Bool, Crop, Size
from tests.fuzz.harnesses.harness import Harness, expect_refusals

MAX_SIDE = 40


def read_run_lengths(data: bytes) -> None:
    """Bytes: height, width, counts. What is accepted must be the same after it was written again."""
    size = Size(1 + data[0] % MAX_SIDE, 1 + data[1] % MAX_SIDE) if len(data) > 1 else Size(1, 1)
    counts = data[2:].decode("utf-8", "replace")
    with expect_refusals():
        mask = rle.decode(counts, size)
        assert mask.shape == (size.height, size.width)
        runs = rle.decode_runs(counts, size)
        assert sum(int(end - start) for start, end in runs) == mask.sum()
        written = rle.encode(Crop(mask, 0, 0, size))
        assert (rle.decode(written, size) == mask).all()


def write_mask(data: bytes) -> None:
    """Bytes: size of the image, size and place of the crop, then its pixels, a bit each."""
    head = [*data[:6], *[0] * 6][:6]
    size = Size(1 + head[0] % MAX_SIDE, 1 + head[1] % MAX_SIDE)
    height, width = min(size.height, head[2] % MAX_SIDE), min(size.width, head[3] % MAX_SIDE)
    y, x = head[4] % (size.height - height + 1), head[5] % (size.width - width + 1)
    bits = np.unpackbits(np.frombuffer(data[6:], np.uint8), count=height * width)
    crop = Crop(bits.astype(bool).reshape(height, width), x, y, size)
    whole = np.zeros((size.height, size.width), bool)
    whole[y : y + height, x : x + width] = crop.pixels
    assert (rle.decode(rle.encode(crop), size) == whole).all()
    assert (np.asarray(Image.open(io.BytesIO(png.encode(crop)))) == whole).all()
    check_outline(polygon.to_geojson(crop), whole)


def check_outline(outline: dict[str, object], mask: Bool) -> None:
    """Check that rings are closed, lie on the image, and that their areas sum up to no more than the mask."""
    coordinates = outline["coordinates"]
    parts = coordinates if outline["type"] == "MultiPolygon" else [coordinates]
    assert isinstance(parts, list)
    rings = list(chain.from_iterable(parts))
    assert bool(rings) == mask.any()
    area = 0.0
    for ring in rings:
        assert ring[0] == ring[-1]
        points = np.array(ring)
        assert len(points) > 3
        assert (points >= 0).all()
        assert (points <= [mask.shape[1], mask.shape[0]]).all()
        area += np.sum(points[:-1, 0] * points[1:, 1] - points[1:, 0] * points[:-1, 1]) / 2
    assert abs(abs(area) - mask.sum()) <= mask.size / 2


def rle_seeds() -> Iterable[bytes]:
    for height, width in ((1, 1), (5, 7), (30, 39)):
        mask = np.random.default_rng(height).random((height, width)) < 0.3
        counts = rle.encode(Crop(mask, 0, 0, Size(height, width)))
        yield bytes([height - 1, width - 1]) + counts.encode()
    yield bytes([1, 1]) + b"04"


def mask_seeds() -> Iterable[bytes]:
    yield bytes([9, 9, 10, 10, 0, 0]) + bytes(13)
    yield bytes([9, 9, 10, 10, 0, 0]) + b"\xff" * 13
    yield bytes([20, 30, 7, 9, 3, 5]) + np.random.default_rng(0).bytes(8)
    yield bytes([0, 0, 1, 1, 0, 0, 0x80])


HARNESSES = (
    Harness("rle", read_run_lengths, rle_seeds, max_bytes=1 << 12),
    Harness("mask_formats", write_mask, mask_seeds, max_bytes=256),
)
