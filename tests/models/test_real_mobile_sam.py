"""The published MobileSAM answers on real pictures what its own predictor and its own mask generator answer.

Needs the checkpoint, from its official address or a package index; skips where neither answers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
data = pytest.importorskip("skimage.data", reason="scikit-image has the pictures")

from segserve.automatic.parameters import AmgParams
from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.errors import Unavailable
from segserve.models.catalogue import find_published_model
from segserve.models.download import Digest
from segserve.models.fetch_file import fetch_file
from segserve.models.importers import mobile_sam_network
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Box, Prompt, Select, Size
from tests.automatic.test_amg_generator import Ours, Reference, assert_same
from tests.models.networks import open_model

pytestmark = pytest.mark.clients

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOGRAPHS = ("astronaut", "camera", "coffee", "chelsea", "rocket")
MICROSCOPY = ("cell", "immunohistochemistry", "nuclei.png", "cells.png", "tissue.jpg")
MIN_IOU = 0.9999


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = find_published_model("mobile-sam").files[0]
    target = tmp_path_factory.mktemp("real") / "mobile_sam.pt"
    try:
        fetch_file(file, target, Digest.parse(str(file.digest)), lambda done, total: None)
    except Unavailable as error:
        pytest.skip(f"MobileSAM cannot be fetched: {error.message}")
    return target


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> PromptableModel:
    bundle = import_checkpoint("mobile_sam", checkpoint, "mobile-sam", checkpoint.parent / "models")
    return open_model(bundle)


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Any:
    from mobile_sam import SamPredictor

    network, _ = mobile_sam_network.IMPORTER.build(read_checkpoint(checkpoint), None)
    return SamPredictor(network)


def read_picture(name: str) -> Any:
    picture = Image.open(EXAMPLES / name) if "." in name else Image.fromarray(getattr(data, name)())
    return np.asarray(picture.convert("RGB"))


def make_prompts(height: int, width: int) -> list[dict[str, Any]]:
    """Return points, boxes and both, in the middle and beside it."""
    x, y = width / 2, height / 2
    box = [0.3 * width, 0.25 * height, 0.75 * width, 0.8 * height]
    return [
        {"points": [[x, y]], "labels": [1]},
        {"points": [[0.43 * width, 0.29 * height]], "labels": [1]},
        {"points": [[x, y], [0.1 * width, 0.9 * height]], "labels": [1, 0]},
        {"box": box},
        {"points": [[x, y]], "labels": [1], "box": box},
    ]


def predict(predictor: Any, prompt: dict[str, Any], prior: Any) -> tuple[Any, Any]:
    """Return the predictor's three masks and their low-res logits."""
    masks, _, low_res = predictor.predict(
        np.array(prompt["points"], np.float32) if "points" in prompt else None,
        np.array(prompt["labels"]) if "labels" in prompt else None,
        np.array(prompt["box"]) if "box" in prompt else None,
        None if prior is None else prior[None],
        multimask_output=True,
    )
    return masks, low_res


def segment(model: PromptableModel, image: PreparedImage, fields: dict[str, Any], prior: Any) -> list[Any]:
    """Return this model's three masks of the image's size."""
    prompt = Prompt(
        np.array(fields.get("points", np.zeros((0, 2))), np.float32),
        np.array(fields.get("labels", []), np.int64),
        Box(*fields["box"]) if "box" in fields else None,
        logits=prior,
    )
    masks = []
    for candidate in decode_prompt(model, image, prompt, True, Select.ALL, Timings(), raw=True):
        mask, crop = np.zeros((image.size.height, image.size.width), bool), candidate.crop
        mask[crop.y : crop.y + crop.pixels.shape[0], crop.x : crop.x + crop.pixels.shape[1]] = crop.pixels
        masks.append(mask)
    return masks


@pytest.mark.parametrize("name", [*PHOTOGRAPHS, *MICROSCOPY])
def test_masks_are_the_predictors(model: PromptableModel, predictor: Any, name: str) -> None:
    """Points, boxes, both, and each refined by its first answer."""
    picture = read_picture(name)
    height, width = picture.shape[:2]
    predictor.set_image(picture)
    embedding = model.encode(preprocess_image(picture, model.preprocess))
    refined = 0
    for fields in make_prompts(height, width):
        prior = None
        for _ in range(2):
            image = PreparedImage(Size(height, width), embedding, model.prepare(embedding, prior))
            expected, low_res = predict(predictor, fields, prior)
            for mask, reference in zip(segment(model, image, fields, prior), expected, strict=True):
                union, different = (mask | reference).sum(), (mask ^ reference).sum()
                # A pixel whose logit is zero but for rounding may be either; in a small mask one is a lot.
                assert different <= 1 or 1 - different / union >= MIN_IOU, fields
            prior, refined = low_res[0], refined + 1
    assert refined == 10


AMG_CASES = {
    "coffee": AmgParams(points_per_side=12),  # else the defaults
    "nuclei.png": AmgParams(points_per_side=6, crop_n_layers=1, min_mask_region_area=100),
}


@pytest.mark.parametrize("name", AMG_CASES)
def test_automatic_masks_are_the_generators(model: PromptableModel, predictor: Any, name: str) -> None:
    """Scores, stability, order and pixels of all masks, by `SamAutomaticMaskGenerator`."""
    picture, params = read_picture(name), AMG_CASES[name]
    theirs = Reference(predictor.model).generate(picture, params)
    assert_same(Ours(model).generate(picture, params), theirs)
