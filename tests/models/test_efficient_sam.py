"""EfficientSAM's published ONNX pair, here a small network with the same interface, returns the same as its library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BadInput
from segserve.models.export.fast_decoder import embed_points
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.manifest import BundleRuntime
from segserve.models.promptable_model import PromptableModel
from segserve.timing import Timings
from segserve.types import Prompt, Select, Size
from tests.models.networks import (
    GRID,
    IMAGE,
    noise_image,
    small_sam,
)
from tests.models.test_onnx_pair_model import load_model
from tests.rounding import CLICK_ERROR, undecided

LOW = 4 * GRID


class EfficientSamEncoder(torch.nn.Module):
    """EfficientSAM's encoder normalises and resizes any image itself."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, batched_images: Any) -> Any:
        resized = F.interpolate(batched_images, (IMAGE, IMAGE), mode="bilinear")
        return self.sam.image_encoder((resized * 255 - self.sam.pixel_mean) / self.sam.pixel_std)


class EfficientSamDecoder(torch.nn.Module):
    """The interface of yformer/EfficientSAM's onnx_models.py: coordinates of the image, six points, three masks."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, embedding: Any, coords: Any, labels: Any, size: Any) -> Any:
        scaled = torch.stack([coords[..., 0] * IMAGE / size[1], coords[..., 1] * IMAGE / size[0]], dim=-1)
        missing = 6 - coords.shape[2]
        scaled, labels = (
            F.pad(scaled, (0, 0, 0, missing), value=-1.0),
            F.pad(labels, (0, missing), value=-1.0),
        )
        prompt_encoder = self.sam.prompt_encoder
        masks, scores = self.sam.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=embed_points(prompt_encoder, scaled[0], labels[0]),
            dense_prompt_embeddings=torch.zeros(1, 64, GRID, GRID),
        )
        full = F.interpolate(masks[:, 1:], (size[0], size[1]), mode="bilinear")
        return full[:, None], scores[None, :, 1:]


@pytest.fixture
def efficient_sam(tmp_path: Path) -> PromptableModel:
    sam = small_sam()
    image = {"batched_images": torch.rand(1, 3, 300, 200)}
    export_onnx(
        EfficientSamEncoder(sam),
        tmp_path / "e.onnx",
        image,
        ("image_embeddings",),
        {"batched_images": {2: "height", 3: "width"}},
    )
    inputs = {
        "image_embeddings": torch.randn(1, 64, GRID, GRID),
        "batched_point_coords": torch.rand(1, 1, 2, 2),
        "batched_point_labels": torch.ones(1, 1, 2),
        "orig_im_size": torch.tensor([300, 200]),
    }
    dynamic = {"batched_point_coords": {2: "n"}, "batched_point_labels": {2: "n"}}
    export_onnx(
        EfficientSamDecoder(sam), tmp_path / "d.onnx", inputs, ("output_masks", "iou_predictions"), dynamic
    )
    import_checkpoint("onnx_pair", tmp_path / "e.onnx", "pair", tmp_path / "m", decoder=tmp_path / "d.onnx")
    return load_model(tmp_path / "m", "pair")


def test_an_efficient_sam_pair_answers_as_at_full_size(efficient_sam: PromptableModel) -> None:
    """Its low-res masks, upscaled, equal the masks that the graph returns at full size."""
    model, height, width = efficient_sam, 150, 230
    assert model.manifest.runtime is BundleRuntime.EFFICIENT_SAM
    assert model.manifest.dims.masks == (1, 2, 3)
    sam = small_sam()
    picture = noise_image(height, width)
    embedding = model.encode(preprocess_image(picture, model.preprocess))
    image = PreparedImage(Size(height, width), embedding, model.prepare(embedding, None))
    points, labels = np.array([[100.0, 60.0], [20.0, 30.0]], np.float32), np.array([1, 0])
    with torch.no_grad():
        full, scores = EfficientSamDecoder(sam)(
            torch.from_numpy(embedding["embedding"])[None],
            torch.from_numpy(points)[None, None],
            torch.from_numpy(labels)[None, None].float(),
            torch.tensor([height, width]),
        )
    for multimask in (True, False):
        candidate = decode_prompt(
            model, image, Prompt(points, labels), multimask, Select.BEST, Timings(), raw=True
        )[0]
        best = int(scores.argmax())  # there is no single mask: the best candidate stands in for it
        expected = full[0, 0, best].numpy()
        mask = np.zeros((height, width), bool)
        crop = candidate.crop
        mask[crop.y : crop.y + crop.pixels.shape[0], crop.x : crop.x + crop.pixels.shape[1]] = crop.pixels
        assert (mask == (expected > 0))[~undecided(expected, CLICK_ERROR * expected.std())].all()
        assert candidate.score == pytest.approx(
            float(scores.max()), abs=CLICK_ERROR * float(scores.abs().max())
        )


def test_efficient_sam_refuses_masks_and_too_many_points(efficient_sam: PromptableModel) -> None:
    features = efficient_sam.encode(np.zeros((1, 3, IMAGE, IMAGE), np.float32))
    with pytest.raises(BadInput, match="no mask as a prompt"):
        efficient_sam.prepare(features, np.zeros((LOW, LOW), np.float32))
    prepared = efficient_sam.prepare(features, None)
    seven = np.zeros((7, 2), np.float32), np.ones(7, np.float32)
    with pytest.raises(BadInput, match="at most 6 points"):
        efficient_sam.decode(prepared, *seven, [1])
