"""Large images over REST: clients see better masks, and nothing of the tiles."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from pycocotools import mask as coco
from safetensors.numpy import load

from segserve.masks.geometry import iou
from tests.conftest import ExternalRedis
from tests.serving import Encoder, Server
from tests.wire.responses import read_results, wait_until_ended

W, H = 3000, 2500
CELL = 60  # pixels across


def draw_scene(width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """Bright round cells on a dark ground, and their centres [n, 2] (x, y)."""
    rng = np.random.default_rng(0)
    cells = np.stack(np.meshgrid(np.arange(70, width - 60, 110), np.arange(70, height - 60, 110)), -1)
    centres = cells.reshape(-1, 2) + rng.integers(-15, 16, (cells.size // 2, 2))
    image = rng.integers(15, 30, (height, width)).astype(np.uint8)
    y, x = np.mgrid[-CELL // 2 : CELL // 2, -CELL // 2 : CELL // 2]
    inside = x**2 + y**2 < (CELL // 2) ** 2
    for cx, cy in centres:
        image[cy - CELL // 2 : cy + CELL // 2, cx - CELL // 2 : cx + CELL // 2][inside] += 150
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3)))
    noisy = blurred + rng.normal(0, 6, image.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), centres


IMAGE, CENTRES = draw_scene(W, H)


def encode_png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


@pytest.fixture(scope="module")
def tiling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("large"), tile_from_px="1024", automatic_tiles="3")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def image_id(tiling_server: Server) -> str:
    return tiling_server.upload(encode_png(IMAGE))


def best_mask(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["results"][0]["masks"][0]  # type: ignore[no-any-return]


def decode_mask(mask: dict[str, Any]) -> np.ndarray:
    return coco.decode({**mask["mask"], "counts": mask["mask"]["counts"].encode()}).astype(bool)


def draw_disc(cx: int, cy: int) -> np.ndarray:
    y, x = np.ogrid[:H, :W]
    return (x - cx) ** 2 + (y - cy) ** 2 < (CELL // 2) ** 2


def test_cells_are_found_at_the_seams_of_tiles_too(tiling_server: Server, image_id: str) -> None:
    near = np.abs(CENTRES[:, 0] - 1024).argsort()[:2]
    for cx, cy in CENTRES[[30, len(CENTRES) // 2, len(CENTRES) - 1, *near]].tolist():
        answer = tiling_server.click(image_id, cx, cy).json()
        assert (answer["width"], answer["height"]) == (W, H)
        mask = best_mask(answer)
        assert mask["mask"]["size"] == [H, W]
        assert iou(decode_mask(mask), draw_disc(cx, cy)) > 0.75
        x0, y0, x1, y1 = mask["box"]
        assert x0 <= cx <= x1
        assert y0 <= cy <= y1


@pytest.fixture(scope="module")
def tile_id(tiling_server: Server) -> str:
    """The second tile of the second row as an image, for a model of 512. Its halo begins at 384."""
    return tiling_server.upload(encode_png(IMAGE.crop((384, 384, 384 + 768, 384 + 768))))


INNER = CENTRES[(np.abs(CENTRES - 768) < 200).all(axis=1)]


def to_tile(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt in pixels of this tile."""
    local = {**prompt, "points": [[x - 384, y - 384] for x, y in prompt.get("points", [])]}
    if "mask" in prompt:
        part = np.asfortranarray(decode_mask(prompt)[384 : 384 + 768, 384 : 384 + 768])
        encoded = coco.encode(part)
        local["mask"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
    return local


def segment(server: Server, image_id: str, prompt: dict[str, Any]) -> dict[str, Any]:
    answer = server.client.post("/v1/segment", json={"image_id": image_id, "prompts": [prompt]})
    assert answer.status_code == 200, answer.text
    return best_mask(answer.json())


def assert_same_masks(here: dict[str, Any], there: dict[str, Any]) -> None:
    mask, part = decode_mask(here), decode_mask(there)
    np.testing.assert_array_equal(mask[384 : 384 + 768, 384 : 384 + 768], part)
    assert mask.sum() == part.sum() == here["area"]
    assert here["score"] == there["score"]


def test_a_mask_equals_that_of_the_tile_as_an_image(
    tiling_server: Server, image_id: str, tile_id: str
) -> None:
    for cx, cy in INNER[:4].tolist():
        prompt = {"points": [[cx, cy]]}
        assert_same_masks(
            segment(tiling_server, image_id, prompt), segment(tiling_server, tile_id, to_tile(prompt))
        )


def test_a_refined_mask_equals_that_of_the_tile_as_an_image(
    tiling_server: Server, image_id: str, tile_id: str
) -> None:
    cx, cy = INNER[0].tolist()
    first = {"points": [[cx, cy]]}
    here, there = segment(tiling_server, image_id, first), segment(tiling_server, tile_id, to_tile(first))
    beside = {"points": [[cx + 15, cy]]}
    assert_same_masks(
        segment(tiling_server, image_id, {**beside, "mask_id": here["mask_id"]}),
        segment(tiling_server, tile_id, {**to_tile(beside), "mask_id": there["mask_id"]}),
    )
    for prompt in ({"mask": here["mask"]}, {**beside, "mask": here["mask"]}):
        assert_same_masks(
            segment(tiling_server, image_id, prompt), segment(tiling_server, tile_id, to_tile(prompt))
        )


def test_a_point_beyond_the_tile_keeps_the_mask(tiling_server: Server, image_id: str) -> None:
    (cx, cy), (far_x, far_y) = INNER[0].tolist(), CENTRES[200].tolist()
    first = segment(tiling_server, image_id, {"points": [[cx, cy]]})
    both = segment(
        tiling_server, image_id, {"points": [[cx, cy], [far_x, far_y]], "mask_id": first["mask_id"]}
    )
    assert decode_mask(both)[cy - 10 : cy + 10, cx - 10 : cx + 10].any()
    assert both["mask_id"] != first["mask_id"]


def test_prompts_of_one_request_go_to_their_tiles_and_answers_keep_their_order(
    tiling_server: Server, image_id: str
) -> None:
    chosen = CENTRES[[60, -60, 61, -61]].tolist()
    body = {"image_id": image_id, "prompts": [{"points": [at]} for at in chosen]}
    answer = tiling_server.client.post("/v1/segment", json=body)
    assert answer.status_code == 200, answer.text
    for (cx, cy), result in zip(chosen, answer.json()["results"], strict=True):
        assert iou(decode_mask(result["masks"][0]), draw_disc(cx, cy)) > 0.75


def test_an_embedding_is_kept_for_each_tile(tiling_server: Server, image_id: str) -> None:
    def encoded() -> float:
        return tiling_server.metric('segserve_encoded_images_total{model="starter"}')

    tiling_server.click(image_id, 2100, 1100)
    before = encoded()
    for x in (2060, 2200, 2500):  # one tile
        assert "encode" not in tiling_server.click(image_id, x, 1200).headers["server-timing"]
    assert encoded() == before
    tiling_server.click(image_id, 2600, 1200)
    assert encoded() == before + 1


def test_a_box_over_several_tiles_is_answered_whole(tiling_server: Server, image_id: str) -> None:
    box = [800, 1200, 2200, 1300]
    answer = tiling_server.client.post("/v1/segment", json={"image_id": image_id, "prompts": [{"box": box}]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["width"] == W


def test_logits_are_refused_since_they_have_no_position(tiling_server: Server, image_id: str) -> None:
    logits = best_mask(tiling_server.click(image_id, 500, 500, format="logits").json())["mask"]
    body = {"image_id": image_id, "prompts": [{"points": [[500, 500]], "logits": logits}]}
    answer = tiling_server.client.post("/v1/segment", json=body)
    assert answer.status_code == 422
    assert answer.json()["field"] == "prompts.0.logits"
    assert "mask_id" in answer.json()["remedy"]


def test_every_format_has_the_size_of_the_image(tiling_server: Server, image_id: str) -> None:
    cx, cy = CENTRES[-1].tolist()
    mask = decode_mask(best_mask(tiling_server.click(image_id, cx, cy).json()))
    body = {"image_id": image_id, "prompts": [{"points": [[cx, cy]]}]}
    answer = tiling_server.client.post("/v1/segment", json=body, headers={"accept": "image/png"})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), mask)
    outline = best_mask(tiling_server.click(image_id, cx, cy, format="polygon").json())["mask"]["coordinates"]
    ring = np.array(outline[0] if isinstance(outline[0][0][0], float) else outline[0][0])
    rows, columns = np.nonzero(mask)
    assert abs(ring[:, 0].min() - columns.min()) <= 1
    assert abs(ring[:, 1].max() - rows.max()) <= 1


def test_the_embedding_of_a_large_image_is_that_of_the_reduced_image(
    tiling_server: Server, image_id: str
) -> None:
    answer = tiling_server.client.get(f"/v1/images/{image_id}/embedding")
    assert (answer.status_code, answer.headers["segserve-tiled"]) == (200, "true")
    small = tiling_server.upload(encode_png(IMAGE.resize((1000, 833), Image.Resampling.BOX)))
    other = load(tiling_server.client.get(f"/v1/images/{small}/embedding").content)["embedding"]
    embedding = load(answer.content)["embedding"]
    assert np.corrcoef(embedding.ravel().astype(float), other.ravel().astype(float))[0, 1] > 0.9


def test_all_cells_are_found_each_with_one_id(tiling_server: Server) -> None:
    width, height = 1600, 1200  # 4 x 3 tiles
    image_id = tiling_server.upload(encode_png(IMAGE.crop((0, 0, width, height))))
    body = {"image_id": image_id, "method": "ais", "raw": True, "format": "tiff"}
    answer = tiling_server.client.post("/v1/automatic", json=body)
    assert answer.status_code == 200, answer.text
    labels = tifffile.imread(io.BytesIO(answer.content))
    assert labels.shape == (height, width)
    centres = CENTRES[([width - CELL, height - CELL] > CENTRES).all(axis=1)]
    at = labels[centres[:, 1], centres[:, 0]]
    assert (at > 0).mean() > 0.98
    assert len(np.unique(at[at > 0])) > 0.98 * (at > 0).sum(), "neighbours stay apart"
    # Cells that no tile holds completely in its inner part.
    across = centres[(np.abs((centres + 256) % 512 - 256) < CELL // 4).any(axis=1)]
    assert len(across) > 10
    alike = [iou(labels == labels[y, x], draw_disc(x, y)[:height, :width]) > 0.7 for x, y in across.tolist()]
    assert np.mean(alike) > 0.9

    again = tiling_server.client.post("/v1/automatic", json={**body, "format": "rle"})
    assert "encode" not in again.headers["server-timing"], "tiles are kept"
    assert len(again.json()["objects"]) == labels.max()
    assert again.json()["objects"][0]["mask"]["size"] == [height, width]


def test_the_answer_does_not_depend_on_how_the_image_is_kept(
    tiling_server: Server, tmp_path: Path, redis: ExternalRedis
) -> None:
    picture = encode_png(IMAGE.crop((0, 0, 1100, 900)))
    whole = Server(tmp_path, redis_url=redis.url)
    whole.wait_ready()
    labels = []
    for server in (tiling_server, whole):
        body = {"image_id": server.upload(picture), "method": "ais", "scale": 1, "format": "npy"}
        answer = server.client.post("/v1/automatic", json=body)
        assert answer.status_code == 200, answer.text
        assert float(answer.headers["segserve-scale"]) == 1
        labels.append(np.load(io.BytesIO(answer.content)))
    assert np.array_equal(*labels)
    assert whole.stop() == 0


def test_an_image_of_too_many_tiles_becomes_a_job(tiling_server: Server, image_id: str) -> None:
    body = {"image_id": image_id, "method": "ais", "raw": True, "params": {"min_size": 200}}
    answer = tiling_server.client.post("/v1/automatic", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['job_id']}"
    job = wait_until_ended(tiling_server, answer.json()["job_id"])
    assert (job["state"], job["progress"]["failed"]) == ("succeeded", 0), job
    [line] = read_results(tiling_server, job["job_id"])
    masks = [decode_mask(item) for item in line["objects"]]
    cells = [(x, y) for x, y in CENTRES.tolist() if x < W and y < H]
    alike = [
        max((iou(m, draw_disc(x, y)) for m in masks if m[y, x]), default=0.0) > 0.7 for x, y in cells[::5]
    ]
    assert np.mean(alike) > 0.9


def test_without_jobs_many_tiles_are_refused(tmp_path: Path, redis: ExternalRedis) -> None:
    server = Server(tmp_path, tile_from_px="1024", automatic_tiles="3", redis_url=redis.url)
    server.wait_ready()
    answer = server.client.post(
        "/v1/automatic", json={"image_id": server.upload(encode_png(IMAGE)), "method": "ais", "raw": True}
    )
    assert answer.status_code == 413, answer.text
    assert "30 tiles" in answer.json()["detail"]
    assert "up to 12" in answer.json()["detail"]
    assert answer.json()["field"] == "image_id"
    assert server.stop() == 0


def test_everything_made_from_an_image_is_deleted_with_it(tiling_server: Server) -> None:
    picture = encode_png(IMAGE.crop((0, 0, 1500, 1100)))
    image_id = tiling_server.upload(picture)
    mask = best_mask(tiling_server.click(image_id, *CENTRES[0].tolist()).json())
    assert tiling_server.client.delete(f"/v1/images/{image_id}").status_code == 204
    assert tiling_server.click(image_id, 70, 70).status_code == 404
    assert not list((tiling_server.data_dir / "objects").rglob(f"*{image_id}*/**/*"))
    assert tiling_server.upload(picture) == image_id
    body = {"image_id": image_id, "prompts": [{"points": [[70, 70]], "mask_id": mask["mask_id"]}]}
    assert tiling_server.client.post("/v1/segment", json=body).status_code == 404
    assert "encode;" in tiling_server.click(image_id, *CENTRES[0].tolist()).headers["server-timing"]


def test_many_uploads_at_once_are_all_answered(tiling_server: Server) -> None:
    pictures = [encode_png(IMAGE.crop((n, 0, n + 1100, 1050))) for n in range(4)] * 2

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(tiling_server.upload, pictures))
    assert len(set(ids)) == 4
    assert ids[:4] == ids[4:]
    for image_id in ids[:4]:
        assert tiling_server.click(image_id, *CENTRES[0].tolist()).status_code == 200


def test_a_damaged_large_image_leaves_nothing(tiling_server: Server) -> None:
    objects = tiling_server.data_dir / "objects"
    before = sorted(objects.rglob("*"))
    data = encode_png(IMAGE.crop((5, 5, 2000, 2000)))
    answer = tiling_server.client.post("/v1/images", content=data[: len(data) * 3 // 4])
    assert answer.status_code == 422
    assert answer.json()["field"] == "file"
    assert [p for p in sorted(objects.rglob("*")) if p not in before and p.is_file()] == []


@pytest.mark.parametrize("shares_images", [True, False])
def test_workers_encode_tiles(tmp_path: Path, redis: ExternalRedis, shares_images: bool) -> None:
    """They read the image from the object store, or are sent the pixels of the tile."""
    worker = Encoder(tmp_path / ("a" if shares_images else "b"), redis_url=redis.url)
    settings = {"tile_from_px": "1024", "encoder_url": f"ipv4:{worker.target}", "redis_url": redis.url}
    server = Server(tmp_path / "a", **settings, send_images=str(not shares_images))
    try:
        server.wait_ready()
        worker.wait_ready()
        image_id = server.upload(encode_png(IMAGE))
        for cx, cy in CENTRES[[60, 300]].tolist():
            assert (
                iou(decode_mask(best_mask(server.click(image_id, cx, cy).json())), draw_disc(cx, cy)) > 0.75
            )
        assert server.client.get(f"/v1/images/{image_id}/embedding").status_code == 200
        assert worker.metric('segserve_encoded_images_total{model="starter"}') == 3
    finally:
        server.stop()
        worker.stop()
