"""The JavaScript client in Node: its own tests, its masks against pycocotools and the service's polygons, a service."""

import base64
import io
import json
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco

from segserve.masks import crop, polygon
from tests.docs_blocks import ROOT, read_blocks
from tests.serving import Server

SCRIPTS = Path(__file__).parent / "js"
PACKAGE = ROOT / "clients" / "js"
MIN_NODE = 20
TIMEOUT_S = 120
TOLERANCE_PX = 1.5
IMAGES = 96  # of a batch: three chunks


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: the JavaScript client is not tested")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < MIN_NODE:
        pytest.skip(f"node is {version.strip()}: the JavaScript client needs {MIN_NODE}")
    return program


def run_script(node: str, name: str, *arguments: object, stdin: str = "") -> Any:
    """Return the JSON that a script prints. Fails with its output where it fails."""
    command = [node, str(SCRIPTS / name), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def test_its_own_tests(node: str) -> None:
    files = sorted(str(path) for path in (PACKAGE / "test").glob("*.test.js"))
    done = subprocess.run([node, "--test", *files], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def random_masks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = [rng.random((h, w)) < share for h, w, share in [(1, 1, 1), (5, 7, 0), (9, 4, 1), (23, 17, 0.5)]]
    rows, columns = np.mgrid[:90, :120]
    blob = (rows - 40) ** 2 / 900 + (columns - 60) ** 2 / 2000 < 1
    ring = blob & ~((rows - 38) ** 2 + (columns - 66) ** 2 < 100)
    parts = ring | ((rows > 70) & (columns < 25))
    return [*noise, blob, ring, parts, blob & (rng.random(blob.shape) < 0.9)]


def ring_set(geometry: dict[str, Any]) -> set[frozenset[tuple[tuple[float, float], tuple[float, float]]]]:
    """The rings of a GeoJSON geometry, each as the set of its directed lines: where a ring begins does not count."""
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    rings = [ring for polygon_ in polygons for ring in polygon_]
    return {frozenset((tuple(a), tuple(b)) for a, b in pairwise(ring)) for ring in rings}


def test_masks_are_those_of_pycocotools_and_polygons_those_of_the_service(node: str) -> None:
    masks = random_masks()
    encoded = [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    sent = [
        {
            "size": rle["size"],
            "counts": rle["counts"].decode(),
            "bitmap": base64.b64encode(mask.astype(np.uint8).tobytes()).decode(),
            "tolerance": TOLERANCE_PX,
        }
        for rle, mask in zip(encoded, masks, strict=True)
    ]
    for mask, rle, result in zip(
        masks, encoded, run_script(node, "masks.mjs", stdin=json.dumps(sent)), strict=True
    ):
        assert result["counts"] == rle["counts"].decode()
        assert coco.frPyObjects({"size": rle["size"], "counts": result["lengths"]}, *mask.shape) == rle
        decoded = np.frombuffer(base64.b64decode(result["bitmap"]), np.uint8).reshape(mask.shape)
        assert (decoded == mask).all()
        assert result["area"] == mask.sum()
        assert tuple(result["box"]) == crop.bounding_box(crop.from_mask(mask))
        expected = polygon.to_geojson(crop.from_mask(mask))
        assert result["polygon"]["type"] == expected["type"]
        assert ring_set(result["polygon"]) == ring_set(expected)
        assert count_vertices(result["simplified"]) <= count_vertices(result["polygon"])


def count_vertices(geometry: dict[str, Any]) -> int:
    return sum(len(ring) for ring in ring_set(geometry))


def test_rest(node: str, server: Server, nuclei: Path, tmp_path: Path) -> None:
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(
        stack, np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30), photometric="minisblack"
    )
    result = run_script(node, "rest.mjs", server.url, nuclei, stack)
    image = result.pop("image")
    assert image["pages"] == 1
    assert "starter" in result.pop("models")
    assert result["box"][0] == result["box"][1]
    assert result["area"][0] == result["area"][1] > 1000
    del result["box"], result["area"]
    assert result == {
        "sent": [True, nuclei.stat().st_size],
        "tiff": ["image/tiff", True],
        "preview": ["image/jpeg", True],
        "previewUrl": "image/jpeg",
        "tile": "image/jpeg",
        "file": [3, "frames"],
        "frame": [30, 20],
        "frameUrl": "image/jpeg",
        "embedding": [True, False],
        "job": [True, "end", "succeeded"],
        "later": True,
        "lines": 1,
        "coco": True,
        "missing": {"status": 404, "code": "image_not_found", "field": "image_id"},
        "invalid": {"status": 422, "code": "bad_input", "field": "prompts.0"},
        "outside": {"status": 422, "code": "bad_input", "field": "prompts.0.points.0"},
        "unreachable": {"status": 0, "code": "unreachable", "field": None},
        "aborted": "AbortError: This operation was aborted",
        "deleted": {"status": 404, "code": "image_not_found", "field": "image_id"},
    }


def test_the_example_of_its_readme(node: str, server: Server, tmp_path: Path) -> None:
    """It runs as it stands there, with the package installed and the service's address."""
    [example] = [block.text for block in read_blocks(PACKAGE / "README.md") if block.language == "javascript"]
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "segserve-client").symlink_to(PACKAGE)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = tmp_path / "example.mjs"
    script.write_text(example.replace("http://127.0.0.1:8000", server.url))
    done = subprocess.run([node, script], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("the pixel that was clicked is of it: true\n")


@pytest.mark.clients
def test_a_job_is_followed_past_a_killed_service(node: str, tmp_path: Path, nuclei: Path) -> None:
    """The service is killed after the first lines, and started again: nothing is missing, nothing comes twice."""
    server = Server(tmp_path / "data")
    server.wait_ready()
    picture = io.BytesIO()
    Image.open(nuclei).reduce(4).save(picture, "PNG")
    body = {
        "kind": "batch",
        "input": {"image_ids": [server.upload(picture.getvalue())] * IMAGES},
        "params": {"operation": "automatic", "options": {"method": "ais"}},
    }
    answer = server.client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    printed = tmp_path / "printed.jsonl"
    command = [node, str(SCRIPTS / "follow.mjs"), server.url, answer.json()["job_id"]]
    with printed.open("w") as output, subprocess.Popen(command, stdout=output) as follower:
        deadline = time.monotonic() + TIMEOUT_S
        while '"index"' not in printed.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.kill()
        server.arguments = ("serve", "--port", server.url.rpartition(":")[2])  # type: ignore[misc]
        server.start()
        assert follower.wait(TIMEOUT_S) == 0
    entries = [json.loads(text) for text in printed.read_text().splitlines()]
    events = [entry for entry in entries if "id" in entry]
    assert [entry["index"] for entry in entries if "index" in entry] == list(range(IMAGES))
    assert len({event["id"] for event in events}) == len(events)
    assert (events[-1]["event"], events[-1]["state"]) == ("end", "succeeded")
    assert server.stop() == 0
