"""The client against a real service: pictures, whole images, files, and what happens when something is missing."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from segserve_client import (
    AsyncClient,
    BadRequest,
    Client,
    ImageNotFound,
    ModelNotFound,
    Object,
    Problem,
    Prompt,
    Rle,
    Unreachable,
)
from tests.serving import Server

CLICK = (413, 190)
EXAMPLE = Path(__file__).parents[3] / "examples" / "nuclei.png"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """The example in grey: [520, 696]."""
    return np.asarray(Pillow.open(EXAMPLE).convert("L"))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_click_and_a_correction(client: Client, nuclei: Path) -> None:
    with client.image(nuclei, model="starter") as image:
        assert image.size == (520, 696)
        mask = image.segment(points=CLICK)
        assert mask.array.shape == image.size
        assert mask.array.dtype == np.bool_
        assert mask.array[CLICK[1], CLICK[0]]
        assert mask.array.sum() == mask.area
        assert mask.score > 0.5
        rows, columns = np.nonzero(mask.array)
        assert mask.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        refined = mask.refine(points=[CLICK, (440, 215)], labels=[1, 0])
        assert not refined.array[215, 440]
        assert overlap(refined.array, mask.array) > 0.5
        boxed = image.segment(box=mask.box)
        assert overlap(boxed.array, mask.array) > 0.8
        assert len(image.candidates(points=CLICK)) == 3
        both = image.segment_many([Prompt(points=CLICK), Prompt(points=(537, 348))])
        assert both[0][0].rle == mask.rle
        assert not (both[0][0].array & both[1][0].array).any()


def test_a_mask_of_ones_own_is_refined(client: Client, nuclei: Path) -> None:
    image = client.image(nuclei)
    mask = image.segment(points=CLICK)
    found = Object(mask.rle, mask.box, mask.area)
    for given in (mask, mask.array, mask.rle, found):
        assert overlap(image.segment(mask=given, points=CLICK).array, mask.array) > 0.8


def test_a_mask_that_the_service_forgot_is_sent_itself(client: Client, nuclei: Path) -> None:
    image = client.image(nuclei)
    mask = image.segment(points=CLICK)
    known = mask.refine(points=[CLICK, (440, 215)], labels=[1, 0])
    object.__setattr__(mask, "mask_id", f"{mask.mask_id}0")
    forgotten = mask.refine(points=[CLICK, (440, 215)], labels=[1, 0])
    assert overlap(known.array, forgotten.array) > 0.8
    assert image.similar([mask], max_objects=3).objects


def test_an_image_that_was_deleted_is_sent_again(client: Client, noise: bytes) -> None:
    image = client.image(noise)
    image.segment(points=(30, 20))
    image.delete()
    assert image.segment(points=(30, 20)).array.shape == (48, 64)
    with client.image(noise, keep=False) as gone:
        assert client.image_by_id(gone.image_id).size == (48, 64)
    with pytest.raises(ImageNotFound, match="Upload it"):
        client.image_by_id(gone.image_id)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "colour"])
def test_arrays_are_the_picture(client: Client, pixels: np.ndarray, kind: str) -> None:
    array = {
        "uint8": pixels,
        "uint16": pixels.astype(np.uint16) * 200,
        "float32": pixels.astype(np.float32) / 255,
        "colour": np.stack([pixels] * 3, axis=-1),
    }[kind]
    expected = client.image(EXAMPLE).segment(points=CLICK)
    mask = client.image(array).segment(points=CLICK)
    assert overlap(mask.array, expected.array) > 0.9


def test_whole_images(client: Client, nuclei: Path) -> None:
    image = client.image(nuclei)
    found = image.automatic("ais", params={"min_size": 60})
    assert len(found) > 30
    assert found.labels.shape == image.size
    assert set(np.unique(found.labels)) == set(range(len(found) + 1))
    np.testing.assert_array_equal(found.labels == 1, found[0].array & (found.labels == 1))
    similar = image.similar([found[0]], max_objects=5)
    assert 0 < len(similar) <= 5
    likeness: list[float] = [item.likeness for item in similar]  # mypy checks that it is never None
    assert likeness == sorted(likeness, reverse=True)
    classes = image.semantic()
    assert [item.name for item in classes.classes] == ["nucleus"]
    assert (classes.array == 1).sum() == classes.classes[0].area
    embedding = image.embedding()
    assert embedding
    assert all(array.dtype == np.float16 and np.isfinite(array).all() for array in embedding.values())
    assert Pillow.open(io.BytesIO(image.preview(100))).size == (100, 75)


def test_models(client: Client) -> None:
    models = {model.name: model for model in client.models()}
    assert models["starter"].default
    assert "ais" in models["starter"].automatic
    assert models["starter-unet"].classes == ("nucleus",)
    assert client.version()


def test_files_are_streamed_and_progress_is_told(tmp_path: Path, client: Client) -> None:
    values = np.random.default_rng(0).integers(0, 255, (6, 700, 600), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", values)
    sent: list[tuple[int, int | None]] = []
    stored = client.upload(tmp_path / "stack.tif", on_progress=lambda done, total: sent.append((done, total)))
    size = (tmp_path / "stack.tif").stat().st_size
    assert [done for done, _ in sent] == [1 << 20, 2 << 20, size]
    assert {total for _, total in sent} == {size}
    assert (stored.kind, stored.frames, stored.width, stored.height) == ("frames", 6, 600, 700)
    array = client.upload(values)
    assert (array.kind, array.frames, array.width) == ("frames", 6, 600)
    assert client.file_by_id(array.file_id) == array
    client.delete_file(array)


def test_bad_input_says_what_to_do(tmp_path: Path, client: Client, nuclei: Path) -> None:
    with pytest.raises(Unreachable, match="Is that the address of a running segserve"):
        Client("http://127.0.0.1:9").version()
    with pytest.raises(Unreachable):
        Client("ftp://127.0.0.1").version()
    with pytest.raises(ModelNotFound, match="Known models: starter"):
        client.image(nuclei, model="nobody")
    with pytest.raises(BadRequest, match="no image format") as refused:
        client.image(b"nothing that is read")
    assert (refused.value.status, refused.value.field) == (415, "file")
    with pytest.raises(FileNotFoundError):
        client.image(tmp_path / "none.png")
    image = client.image(nuclei)
    with pytest.raises(Problem, match="2 points need as many labels") as labels:
        image.segment(points=[CLICK, CLICK], labels=[1])
    assert labels.value.field is not None
    with pytest.raises(ValueError, match=r"points are \[n, 2\]"):
        image.segment(points=[1, 2, 3])
    with pytest.raises(Problem, match="mask"):
        image.segment(mask=np.ones((5, 5)))
    with pytest.raises(Problem, match="prompt is empty"):
        image.segment()


def test_a_full_quota_is_told(tmp_path: Path) -> None:
    server = Server(tmp_path, quota_mb="1")
    try:
        with Client(server.url) as client, pytest.raises(BadRequest, match="quota of 1 MB") as refused:
            client.image(np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8))
        assert refused.value.status == 413
        assert "Delete images" in refused.value.remedy
    finally:
        assert server.stop() == 0


def test_the_same_to_await(server: Server, nuclei: Path, noise: bytes) -> None:
    async def run() -> tuple[Rle, ...]:
        async with AsyncClient(server.url) as client:
            async with await client.image(nuclei, model="starter") as image:
                first, second = await asyncio.gather(
                    image.segment(points=CLICK), image.segment(points=(537, 348))
                )
                refined = await first.refine(points=[CLICK, (440, 215)], labels=[1, 0])
                assert len(await image.automatic()) > 30
                assert (await image.semantic()).classes[0].name == "nucleus"
                assert await image.similar([first], max_objects=2)
                assert await image.embedding()
            gone = await client.image(noise)
            await gone.delete()
            assert (await gone.segment(points=(30, 20))).array.shape == (48, 64)
            with pytest.raises(ModelNotFound):
                await gone.segment(points=CLICK, model="nobody")
            assert (await client.models())[0].name
            return first.rle, second.rle, refined.rle

    awaited = asyncio.run(run())
    with Client(server.url) as client, client.image(nuclei) as image:
        first = image.segment(points=CLICK)
        refined = first.refine(points=[CLICK, (440, 215)], labels=[1, 0])
        assert awaited == (first.rle, image.segment(points=(537, 348)).rle, refined.rle)


def test_labels_of_another_program_are_read_on_a_volume(client: Client, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.zeros((7, 6, 5), np.int16)  # x, y, z
    values[1:4, 1:3, 1:3] = 3
    values[4:7, 3:6, 2] = 300
    for name in ("scan", "labels"):
        nibabel.save(nibabel.Nifti1Image(values, np.diag([0.5, 0.5, 2, 1.0])), tmp_path / f"{name}.nii.gz")
    volume = client.upload(tmp_path / "scan.nii.gz")
    labels = client.read_labels(volume, tmp_path / "labels.nii.gz")
    assert (labels.axis, labels.size) == (0, (6, 7))
    assert [one.index for one in labels.slices] == [1, 2]
    for one in labels.slices:
        np.testing.assert_array_equal(one.labels, values[:, :, one.index].T)
    assert [(item.object_id, item.area) for item in labels.slices[1].objects] == [(3, 6), (300, 9)]
    turned = client.read_labels(volume, (tmp_path / "labels.nii.gz").read_bytes(), axis=2)
    assert {one.index for one in turned.slices} == set(range(1, 7))
    with pytest.raises(BadRequest):
        client.read_labels(client.upload(np.zeros((3, 8, 8), np.uint8)), b"no labels")

    async def read() -> int:
        async with AsyncClient(client.address) as other:
            return len((await other.read_labels(volume, tmp_path / "labels.nii.gz")).slices)

    assert asyncio.run(read()) == 2
    client.delete_file(volume)
