"""GET /v1/images/{image_id}/preview: a small picture of what models see."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile
from PIL import Image

from segserve.images.read_image import read_image
from segserve.types import Normalise, ReadOptions
from tests.serving import Server
from tests.wire.responses import assert_refused

HEIGHT, WIDTH = 300, 400


def deep_tiff() -> bytes:
    """Two pages of 16-bit values that use a fiftieth of their range: shown as they are they would be black."""
    rng = np.random.default_rng(5)
    ramp = np.linspace(200, 1400, WIDTH)[None] + rng.integers(0, 60, (2, HEIGHT, WIDTH))
    file = io.BytesIO()
    tifffile.imwrite(file, ramp.astype(np.uint16), photometric="minisblack")
    return file.getvalue()


def preview(server: Server, image_id: str, accept: str = "image/png", **query: int) -> Image.Image:
    answer = server.client.get(f"/v1/images/{image_id}/preview", params=query, headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == f"image/{str(picture.format).lower()}"
    return picture


def test_it_shows_what_models_see(server: Server) -> None:
    data = deep_tiff()
    image_id = server.upload(data, page="1")
    seen = read_image(data, ReadOptions(page=1, normalise=Normalise.AUTO), 1 << 20)
    shown = preview(server, image_id, max=WIDTH)
    assert shown.mode == "L"
    assert np.array_equal(np.asarray(shown), seen[..., 0])
    assert np.ptp(np.asarray(shown)) > 200


def test_accept_chooses_the_format(server: Server) -> None:
    image_id = server.upload(deep_tiff())
    browser = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
    for accept, expected in ((browser, "JPEG"), ("image/png", "PNG"), ("image/jpeg, image/png", "JPEG")):
        assert preview(server, image_id, accept).format == expected


@pytest.mark.parametrize("side", [1, 100, 399])
def test_no_side_is_longer_than_asked_for(server: Server, side: int) -> None:
    shown = preview(server, server.upload(deep_tiff()), max=side)
    assert shown.size == (side, max(1, round(HEIGHT * side / WIDTH)))


def test_a_small_image_keeps_its_size(server: Server) -> None:
    assert preview(server, server.upload(deep_tiff()), max=2000).size == (WIDTH, HEIGHT)


def test_colours_stay(server: Server) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30], pixels[:, 30:] = (250, 10, 10), (10, 10, 250)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert np.array_equal(np.asarray(preview(server, server.upload(file.getvalue()))), pixels)


@pytest.fixture(scope="module")
def tiling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("tiling"), tile_from_px="1024")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


def test_a_large_image_is_read_from_its_tiles(tiling_server: Server) -> None:
    height, width = 1500, 2600
    columns = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    file = io.BytesIO()
    Image.fromarray(columns).save(file, "PNG")
    shown = np.asarray(preview(tiling_server, tiling_server.upload(file.getvalue()), max=520))
    assert shown.shape == (300, 520)
    assert np.abs(shown - columns[0, 2::5].astype(int)).max() <= 2


def test_refusals(server: Server) -> None:
    assert_refused(server.client.get("/v1/images/nope/preview"), 404, "image_not_found", "image_id")
    image_id = server.upload(deep_tiff())
    for side in (0, 5000):
        answer = server.client.get(f"/v1/images/{image_id}/preview", params={"max": side})
        assert_refused(answer, 422, "bad_input", "max")
