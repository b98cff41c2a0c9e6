"""GET /v1/images/{image_id}/tiles/{level}/{x}/{y}: an image in tiles, as viewers ask for them."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import httpx
import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.images.read_image import read_image
from segserve.images.tile_pyramid import halve_pixels
from segserve.types import Normalise, ReadOptions
from tests.serving import Server
from tests.wire.responses import assert_refused

SIDE = 512
ORIENTATION_TAG = 274


@pytest.fixture(scope="module")
def tiling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps images of more than 1024 pixels in tiles of its own."""
    running = Server(tmp_path_factory.mktemp("tiles"), tile_from_px="1024")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def draw(height: int, width: int) -> np.ndarray:
    """RGB of which no two parts are alike."""
    rng = np.random.default_rng(height + width)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width].copy()


def encode(pixels: np.ndarray, orientation: int = 1) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.fromarray(pixels).save(file, "PNG", compress_level=1, exif=exif)
    return file.getvalue()


def get_tile(server: Server, image_id: str, level: int, x: int, y: int, **headers: str) -> httpx.Response:
    path = f"/v1/images/{image_id}/tiles/{level}/{x}/{y}"
    return server.client.get(path, headers={"accept": "image/png", **headers})


def read_level(server: Server, image_id: str, level: int) -> np.ndarray:
    """Put a level together, as a viewer does. [H, W, 3]"""
    image = server.client.get(f"/v1/images/{image_id}").json()
    assert image["tiles"]["size"] == SIDE
    scale = 2 ** (image["tiles"]["levels"] - 1 - level)
    height, width = ceil(image["height"] / scale), ceil(image["width"] / scale)
    whole = np.zeros((height, width, 3), np.uint8)
    for y in range(ceil(height / SIDE)):
        for x in range(ceil(width / SIDE)):
            answer = get_tile(server, image_id, level, x, y)
            assert answer.status_code == 200, answer.text
            tile = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
            room = whole[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE]
            assert tile.shape == room.shape
            room[:] = tile
    return whole


def count_levels(server: Server, image_id: str) -> int:
    return int(server.client.get(f"/v1/images/{image_id}").json()["tiles"]["levels"])


@pytest.mark.parametrize(
    ("height", "width"), [(300, 400), (512, 512), (513, 700), (1000, 1024), (2100, 2600)]
)
def test_every_level_is_half_of_the_next(tiling_server: Server, height: int, width: int) -> None:
    pixels = draw(height, width)
    image_id = tiling_server.upload(encode(pixels))
    levels = count_levels(tiling_server, image_id)
    assert max(height, width) <= SIDE * 2 ** (levels - 1) < 2 * max(height, width, SIDE)
    for level in reversed(range(levels)):
        assert np.array_equal(read_level(tiling_server, image_id, level), pixels)
        pixels = halve_pixels(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_shown_upright(tiling_server: Server, orientation: int) -> None:
    data = encode(draw(1100, 2600), orientation)
    upright = read_image(data, ReadOptions(), 1 << 24)
    image_id = tiling_server.upload(data)
    last = count_levels(tiling_server, image_id) - 1
    assert np.array_equal(read_level(tiling_server, image_id, last), upright)
    # A side that is odd is halved from the stored corner, so a turned level may lie half of its pixels aside.
    shown, expected = read_level(tiling_server, image_id, last - 1), halve_pixels(upright)
    assert np.array_equal(shown[8:-8:8, 8:-8:8], expected[8:-8:8, 8:-8:8])


@pytest.mark.parametrize("width", [900, 2600])
def test_deep_values_have_no_seams(tiling_server: Server, width: int) -> None:
    """A ramp over the whole image: were each tile stretched by itself, each would begin dark and end bright."""
    values = np.tile(np.linspace(300, 1500, width), (1400 if width > 1024 else 700, 1)).astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack")
    image_id = tiling_server.upload(file.getvalue())
    shown = read_level(tiling_server, image_id, count_levels(tiling_server, image_id) - 1)
    assert np.array_equal(shown, read_image(file.getvalue(), ReadOptions(normalise=Normalise.AUTO), 1 << 24))
    assert (np.diff(shown[0, :, 0].astype(int)) >= 0).all()


def test_grey_tiles_are_grey(server: Server) -> None:
    image_id = server.upload(encode(draw(300, 700)[..., 0]))
    assert Image.open(io.BytesIO(get_tile(server, image_id, 0, 0, 0).content)).mode == "L"


def test_a_browser_gets_jpeg(server: Server) -> None:
    image_id = server.upload(encode(draw(300, 400)))
    answer = get_tile(server, image_id, 0, 0, 0, accept="image/avif,image/webp,image/*,*/*;q=0.8")
    assert answer.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(answer.content))
    assert (picture.format, picture.size) == ("JPEG", (400, 300))


def test_a_tile_is_sent_once(server: Server) -> None:
    image_id = server.upload(encode(draw(301, 400)))
    first = get_tile(server, image_id, 0, 0, 0)
    assert "immutable" in first.headers["cache-control"]
    again = get_tile(server, image_id, 0, 0, 0, **{"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    jpeg = get_tile(server, image_id, 0, 0, 0, accept="*/*", **{"if-none-match": first.headers["etag"]})
    assert jpeg.status_code == 200


def test_refusals(server: Server) -> None:
    assert_refused(get_tile(server, "nope", 0, 0, 0), 404, "image_not_found", "image_id")
    image_id = server.upload(encode(draw(300, 700)))
    for level, x, y, field in ((2, 0, 0, "level"), (0, 1, 0, "x"), (1, 2, 0, "x"), (1, 0, 1, "y")):
        assert_refused(get_tile(server, image_id, level, x, y), 404, "tile_not_found", field)
    assert_refused(get_tile(server, image_id, -1, 0, 0), 422, "bad_input", "level")
    answer = server.client.get(f"/v1/images/{image_id}/tiles/1/a/0")
    assert_refused(answer, 422, "bad_input", "x")


def test_a_deleted_image_has_no_tiles(tiling_server: Server) -> None:
    image_id = tiling_server.upload(encode(draw(1400, 2500)))
    tag = get_tile(tiling_server, image_id, 0, 0, 0).headers["etag"]
    assert tiling_server.metric('segserve_cache_entries{tier="tiles"}') > 0
    assert tiling_server.client.delete(f"/v1/images/{image_id}").status_code == 204
    gone = get_tile(tiling_server, image_id, 0, 0, 0, **{"if-none-match": tag})
    assert_refused(gone, 404, "image_not_found", "image_id")


def test_many_tiles_at_once(tiling_server: Server) -> None:
    pixels = draw(2300, 2300)
    image_id = tiling_server.upload(encode(pixels))
    last = count_levels(tiling_server, image_id) - 1
    places = [(x, y) for y in range(5) for x in range(5)] * 2
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda at: get_tile(tiling_server, image_id, last, *at), places))
    for (x, y), answer in zip(places, answers, strict=True):
        tile = np.asarray(Image.open(io.BytesIO(answer.content)))
        assert np.array_equal(tile, pixels[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE])
