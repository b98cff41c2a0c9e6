"""The page's files of labels, read and written by the libraries of those who use them."""

import csv
import io
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from shapely.geometry import shape

SCRIPT = Path(__file__).parent / "web" / "convert_labels.js"
HEIGHT, WIDTH = 90, 120
TIMEOUT_S = 300
CLASSES = [
    {"id": "n", "name": "nucleus", "colour": "#2f9bff"},
    {"id": "c", "name": "zell ä", "colour": "#ff8a1f"},
]

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


def draw_masks() -> list[np.ndarray]:
    """A disc, a ring, an object of two parts, one that lies on the disc, and one at the edge."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = (x - 25) ** 2 + (y - 25) ** 2 < 18**2
    far = (x - 80) ** 2 + (y - 45) ** 2
    ring = (far < 30**2) & (far > 12**2)
    parts = ((x - 20) ** 2 + (y - 70) ** 2 < 8**2) | ((x - 42) ** 2 + (y - 70) ** 2 < 9**2)
    above = (abs(x - 30) < 6) & (abs(y - 28) < 4)
    return [disc, ring, parts, above, (x >= WIDTH - 5) & (y >= HEIGHT - 7)]


MASKS = draw_masks()


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def decode(rle: dict[str, Any]) -> np.ndarray:
    return coco_mask.decode({**rle, "counts": rle["counts"].encode()}).astype(bool)


def labels() -> dict[str, Any]:
    """One picture with all masks, in two classes."""
    objects = []
    for number, mask in enumerate(MASKS):
        x, y, w, h = (
            int(side) for side in coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
        )
        objects.append(
            {
                "id": f"o{number}",
                "class": CLASSES[number % 2]["id"],
                "mask": encode(mask),
                "box": [x, y, x + w, y + h],
                "area": int(mask.sum()),
                "score": 0.5 + number / 10,
                "tolerance": None,
                "prompt": None,
                "model": None,
                "madeBy": "prompt",
                "track": None,
            }
        )
    picture = {"id": "p", "name": "plate/a.png", "width": WIDTH, "height": HEIGHT, "source": None}
    return {"classes": CLASSES, "pictures": [{**picture, "objects": objects}]}


def run(*arguments: str, stdin: bytes, **env: str) -> bytes:
    done = subprocess.run(
        ["node", str(SCRIPT), *arguments],
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def export(label_format: str) -> bytes:
    return run("export", label_format, stdin=json.dumps(labels()).encode())


def import_masks(name: str, data: bytes) -> list[tuple[str, np.ndarray]]:
    """Return class and mask of each object of the page after the import."""
    pictures = json.dumps([{"name": "plate/a.png", "width": WIDTH, "height": HEIGHT}])
    read = json.loads(run("import", name, stdin=data, PICTURES=pictures))
    names = {item["id"]: item["name"] for item in read["classes"]}
    [picture] = read["pictures"]
    return [(names[item["class"]], decode(item["mask"])) for item in picture["objects"]]


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("label_format", ["coco", "cocoPolygons"])
def test_pycocotools_reads_coco(tmp_path: Path, label_format: str) -> None:
    (tmp_path / "coco.json").write_bytes(export(label_format))
    coco = COCO(str(tmp_path / "coco.json"))
    [image] = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["width"], image["height"]) == ("plate/a.png", WIDTH, HEIGHT)
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [coco.cats[item["category_id"]]["name"] for item in annotations] == [
        CLASSES[number % 2]["name"] for number in range(len(MASKS))
    ]
    for annotation, mask in zip(annotations, MASKS, strict=True):
        found = coco.annToMask(annotation).astype(bool)
        if isinstance(annotation["segmentation"], list):  # pycocotools draws polygons a little larger
            assert (found & mask).sum() / (found | mask).sum() > 0.85
        else:
            assert np.array_equal(found, mask)
    polygons = [isinstance(item["segmentation"], list) for item in annotations]
    assert polygons == [label_format == "cocoPolygons" and number != 1 for number in range(len(MASKS))]


def label_map(data: bytes, name: str) -> np.ndarray:
    return (
        tifffile.imread(io.BytesIO(data))
        if name.endswith("tif")
        else np.asarray(Image.open(io.BytesIO(data)))
    )


@pytest.mark.parametrize(("label_format", "name"), [("labelPng", "a.png"), ("labelTiff", "a.tif")])
def test_pil_and_tifffile_read_label_maps(label_format: str, name: str) -> None:
    files = unzip(export(label_format))
    found = label_map(files[name], name)
    expected = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, mask in enumerate(MASKS, 1):
        expected[mask] = number
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)
    rows = list(csv.DictReader(io.StringIO(files["objects.csv"].decode())))
    assert [(row["file"], row["label"], row["class"]) for row in rows] == [
        (name, str(number + 1), CLASSES[number % 2]["name"]) for number in range(len(MASKS))
    ]


def test_shapely_reads_geojson() -> None:
    features = json.loads(export("geojson"))["features"]
    for feature, mask in zip(features, MASKS, strict=True):
        geometry = shape(feature["geometry"])
        assert geometry.is_valid
        y, x = np.nonzero(mask)
        assert abs(geometry.area - mask.sum()) < 0.08 * mask.sum() + 2
        assert geometry.bounds == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert len(shape(features[1]["geometry"]).interiors) == 1
    assert features[0]["properties"]["classification"] == {"name": "nucleus", "color": [47, 155, 255]}
    assert features[0]["properties"]["objectType"] == "annotation"


def test_opencv_draws_yolo_as_ultralytics_does() -> None:
    files = unzip(export("yolo"))
    names = yaml.safe_load(files["data.yaml"])["names"]
    assert names == dict(enumerate(item["name"] for item in CLASSES))
    lines = files["labels/train/a.txt"].decode().splitlines()
    for number, (line, mask) in enumerate(zip(lines, MASKS, strict=True)):
        category, *numbers = line.split()
        assert int(category) == number % 2
        points = np.array(numbers, float).reshape(-1, 2) * (WIDTH, HEIGHT)
        drawn = np.zeros((8 * HEIGHT, 8 * WIDTH), np.uint8)
        cv2.fillPoly(drawn, [(8 * points).round().astype(np.int32)], 1)
        found = drawn[4::8, 4::8].astype(bool)
        assert (found & mask).sum() / (found | mask).sum() > 0.9, number


def labelled() -> np.ndarray:
    """The masks as a label map, as other programs write it."""
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, mask in enumerate(MASKS, 1):
        values[mask] = 10 * number
    return values


def tiff_bytes(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


LABEL_FILES = {
    "plain.tif": tiff_bytes(labelled()),
    "big-endian.tif": tiff_bytes(labelled(), byteorder=">"),
    "lzw.tif": tiff_bytes(labelled().astype(np.uint8), compression="lzw"),
    "lzw-predictor.tif": tiff_bytes(labelled(), compression="lzw", predictor=True, rowsperstrip=7),
    "deflate-tiles.tif": tiff_bytes(labelled().astype(np.int32), compression="zlib", tile=(32, 48)),
    "packbits.tif": tiff_bytes(labelled().astype(np.uint8), compression="packbits"),
    "float.tif": tiff_bytes(labelled().astype(np.float32)),
    "imagej.tif": tiff_bytes(labelled(), imagej=True),
    "16-bit.png": png_bytes(Image.fromarray(labelled())),
    "8-bit.png": png_bytes(Image.fromarray(labelled().astype(np.uint8))),
    "palette.png": png_bytes(Image.fromarray(labelled().astype(np.uint8)).convert("P")),
}


@pytest.mark.parametrize("name", LABEL_FILES)
def test_label_maps_of_others_are_read(name: str) -> None:
    found = [mask for _, mask in import_masks(name, LABEL_FILES[name])]
    values = labelled()
    assert len(found) == len(MASKS)
    for number, mask in enumerate(found, 1):
        assert np.array_equal(mask, values == 10 * number)


def test_coco_of_others_is_read() -> None:
    """Compressed and uncompressed run lengths, and polygons in floats, by pycocotools and OpenCV."""
    annotations = []
    for number, mask in enumerate(MASKS):
        rle = encode(mask)
        if number == 0:
            contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            segmentation: Any = [(contour.reshape(-1, 2) + 0.5).ravel().tolist() for contour in contours]
        elif number == 1:
            flat = mask.ravel(order="F").astype(int)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
            segmentation = {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}
        else:
            segmentation = rle
        annotations.append(
            {"id": number, "image_id": 7, "category_id": 1 + number % 2, "segmentation": segmentation}
        )
    categories = [{"id": number, "name": item["name"]} for number, item in enumerate(CLASSES, 1)]
    images = [{"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}]
    data = json.dumps({"images": images, "categories": categories, "annotations": annotations})
    found = import_masks("others.json", data.encode())
    assert [name for name, _ in found] == [CLASSES[number % 2]["name"] for number in range(len(MASKS))]
    for number, ((_, mask), expected) in enumerate(zip(found, MASKS, strict=True)):
        if number == 0:  # OpenCV's line goes through the centres of the outermost pixels
            assert (mask & expected).sum() / (mask | expected).sum() > 0.88
        else:
            assert np.array_equal(mask, expected), number


def test_a_zip_of_others_is_read() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("masks/", b"")
        archive.writestr("__MACOSX/masks/._a.tif", b"x")
        archive.writestr("masks/a.tif", LABEL_FILES["lzw.tif"])
    assert len(import_masks("labels.zip", file.getvalue())) == len(MASKS)
