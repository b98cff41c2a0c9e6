"""Published ONNX pairs return the same as their library. The pairs here are small networks with the same interfaces."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F

from segserve.automatic.parameters import AmgParams
from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.masks import crop
from segserve.models.bundle import Bundle
from segserve.models.export.fast_decoder import embed_mask, embed_points
from segserve.models.export.sam import SamEncoder, export_sam
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.import_request import ModelCard, OnnxPairKind
from segserve.models.manifest import BundleRuntime
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import ModelRegistry, RuntimeOptionsByGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.types import Box, Prompt, Select, Size
from tests.automatic.test_amg_generator import Ours
from tests.models.networks import (
    GRID,
    IMAGE,
    LibraryDecoder,
    noise_image,
    open_model,
    sam2_decoder,
    small_sam,
)
from tests.rounding import CLICK_ERROR, MASK_DECODER_ERROR

LOW = 4 * GRID
LIBRARY = LibraryDecoder()
POINT = np.array([[100.0, 60.0], [0.0, 0.0]], np.float32), np.array([1, -1], np.float32)
BOX = np.array([[30.0, 40.0], [200.0, 140.0]], np.float32), np.array([2, 3], np.float32)


def load_model(models: Path, name: str) -> PromptableModel:
    return ModelRegistry(
        [models],
        RuntimeOptionsByGraph(RuntimeOptions(threads=2), RuntimeOptions(threads=2)),
        budget_bytes=1 << 30,
    ).load(name, PromptableModel)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with fast graphs. Its encoder and stock decoder also serve as a published pair."""
    return export_sam(small_sam(), tmp_path_factory.mktemp("e") / "fast", name="fast", architecture="test")


def import_pair(bundle: Bundle, models: Path, pair: OnnxPairKind = OnnxPairKind.SAM) -> PromptableModel:
    import_checkpoint(
        "onnx_pair",
        bundle.path("encoder.onnx"),
        "pair",
        models,
        variant=pair,
        decoder=bundle.path("decoder.onnx"),
        card=ModelCard(licence="Apache-2.0"),
    )
    return load_model(models, "pair")


def test_a_sam_pair_answers_as_the_fast_graphs(exported: Bundle, tmp_path: Path) -> None:
    fast, stock = open_model(exported), import_pair(exported, tmp_path)
    assert stock.manifest.runtime is BundleRuntime.STOCK
    assert stock.manifest.dims == fast.manifest.dims
    assert stock.manifest.licence == "Apache-2.0"
    image = noise_image(150, 230)
    features = stock.encode(preprocess_image(image, stock.preprocess))
    prior = np.random.default_rng(1).normal(size=(LOW, LOW)).astype(np.float32)
    for coords, labels in (POINT, BOX):
        for mask_input in (None, prior):
            expected, expected_scores = fast.decode(
                fast.prepare(features, mask_input), coords, labels, [1, 0, 3]
            )
            logits, scores = stock.decode(stock.prepare(features, mask_input), coords, labels, [1, 0, 3])
            assert error_over_std(logits, expected) < 2 * MASK_DECODER_ERROR
            assert (
                np.abs(scores - expected_scores).max()
                < 2 * MASK_DECODER_ERROR * np.abs(expected_scores).max()
            )


def test_a_click_goes_through_the_whole_decode_path(exported: Bundle, tmp_path: Path) -> None:
    models = [open_model(exported), import_pair(exported, tmp_path)]
    answers = []
    for model in models:
        embedding = model.encode(preprocess_image(noise_image(150, 230), model.preprocess))
        image = PreparedImage(Size(150, 230), embedding, model.prepare(embedding, None))
        prompt = Prompt(np.array([[100.0, 60.0]], np.float32), np.array([1]), Box(30, 40, 200, 140))
        answers.append(decode_prompt(model, image, prompt, None, Select.BEST, Timings(), raw=True)[0])
    assert answers[0].score == pytest.approx(answers[1].score, abs=CLICK_ERROR)
    assert (answers[0].crop.x, answers[0].crop.y) == (answers[1].crop.x, answers[1].crop.y)
    assert (answers[0].crop.pixels == answers[1].crop.pixels).mean() > 0.9999


def test_a_graph_with_one_mask_returns_it_for_every_token(tmp_path: Path) -> None:
    """labelme's exports are such graphs: they select the mask by the number of points."""
    from segment_anything.utils.onnx import SamOnnxModel

    sam = small_sam()
    export_onnx(
        SamEncoder(sam.image_encoder),
        tmp_path / "e.onnx",
        {"x": torch.zeros(1, 3, IMAGE, IMAGE)},
        ("output",),
    )
    inputs = {
        "image_embeddings": torch.randn(1, 64, GRID, GRID),
        "point_coords": torch.rand(1, 2, 2),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, LOW, LOW),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([480.0, 640.0]),
    }
    dynamic = {"point_coords": {1: "n"}, "point_labels": {1: "n"}}
    outputs = ("masks", "iou_predictions", "low_res_masks")
    single = SamOnnxModel(sam, return_single_mask=True)
    export_onnx(single, tmp_path / "d.onnx", inputs, outputs, dynamic)
    import_checkpoint("onnx_pair", tmp_path / "e.onnx", "one", tmp_path / "m", decoder=tmp_path / "d.onnx")
    model = load_model(tmp_path / "m", "one")
    assert model.manifest.dims.masks == (0,)
    image = torch.randn(1, 3, IMAGE, IMAGE)
    with torch.no_grad():
        features = {"embedding": sam.image_encoder(image)}
        points = torch.tensor([[[100.0, 60.0]]]), torch.tensor([[1]])
        parts = sam.prompt_encoder, sam.mask_decoder
        expected, expected_scores = LIBRARY.decode(parts, features, points, None, None)
    best = 1 + int(expected_scores[1:].argmax())
    prepared = model.prepare(model.encode(image.numpy()), None)
    logits, scores = model.decode(prepared, *POINT, [1, 2, 3])
    assert error_over_std(logits, expected[[best] * 3].numpy()) < CLICK_ERROR
    assert np.abs(scores - float(expected_scores[best])).max() < CLICK_ERROR * float(
        expected_scores.abs().max()
    )


class Features(torch.nn.Module):
    """Stands in for SAM 2's encoder: only its outputs' names and shapes matter here."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = torch.nn.ModuleList(
            torch.nn.Conv2d(3, channels, stride, stride) for channels, stride in ((64, 16), (8, 4), (16, 8))
        )

    def forward(self, image: Any) -> Any:
        return tuple(step(image) for step in self.steps)


class RectLabelDecoder(torch.nn.Module):
    """The interface of the SAM 2 exports that osam lists: the graph adds the padding point itself."""

    def __init__(self, prompt_encoder: Any, mask_decoder: Any) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = prompt_encoder, mask_decoder

    def forward(
        self,
        embedding: Any,
        fine: Any,
        middle: Any,
        coords: Any,
        labels: Any,
        prior: Any,
        has: Any,
        size: Any,
    ) -> Any:
        coords = torch.cat([coords, torch.zeros(1, 1, 2) - 0.5], dim=1)
        labels = torch.cat([labels, -torch.ones(1, 1)], dim=1)
        masks, scores, _, _ = self.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=embed_points(self.prompt_encoder, coords, labels),
            dense_prompt_embeddings=embed_mask(self.prompt_encoder, prior, has),
            repeat_image=False,
            high_res_features=[fine, middle],
        )
        full = F.interpolate(masks, (size[0], size[1]), mode="bilinear", align_corners=False)
        return full, scores, masks.clamp(-32, 32)


def test_a_sam2_pair_answers_as_the_library(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder, parts = Features().eval(), sam2_decoder(64, GRID, 4, 128)
    names = ("image_embeddings", "high_res_features1", "high_res_features2")
    export_onnx(encoder, tmp_path / "e.onnx", {"input": torch.zeros(1, 3, IMAGE, IMAGE)}, names)
    inputs = {
        names[0]: torch.randn(1, 64, GRID, GRID),
        names[1]: torch.randn(1, 8, 4 * GRID, 4 * GRID),
        names[2]: torch.randn(1, 16, 2 * GRID, 2 * GRID),
        "point_coords": torch.rand(1, 2, 2),
        "point_labels": torch.tensor([[1.0, 0.0]]),
        "mask_input": torch.zeros(1, 1, LOW, LOW),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([480, 640]),
    }
    dynamic = {"point_coords": {1: "n"}, "point_labels": {1: "n"}}
    outputs = ("masks", "iou_predictions", "low_res_masks")
    export_onnx(RectLabelDecoder(*parts), tmp_path / "d.onnx", inputs, outputs, dynamic)
    import_checkpoint("onnx_pair", tmp_path / "e.onnx", "pair", tmp_path / "m", decoder=tmp_path / "d.onnx")
    model = load_model(tmp_path / "m", "pair")
    assert model.manifest.dims.high_res == ((8, 64, 64), (16, 32, 32))
    image = torch.randn(1, 3, IMAGE, IMAGE) * 3
    prior = torch.randn(1, 1, LOW, LOW)
    with torch.no_grad():
        features = dict(zip(("embedding", "high_res_0", "high_res_1"), encoder(image), strict=True))
        points = torch.tensor([[[30.0, 40.0], [200.0, 140.0]]]), torch.tensor([[2, 3]])
        expected, expected_scores = LIBRARY.decode(parts, features, points, None, prior)
    prepared = model.prepare(model.encode(image.numpy()), prior[0, 0].numpy())
    coords, labels = np.concatenate([BOX[0], [[0, 0]]]), np.append(BOX[1], -1)  # as decode.prompts makes them
    logits, scores = model.decode(prepared, coords, labels, [0, 1, 2, 3])
    assert error_over_std(logits, expected.numpy()) < CLICK_ERROR
    assert np.abs(scores - expected_scores.numpy()).max() < CLICK_ERROR * float(expected_scores.abs().max())


def test_automatic_masks_of_a_pair_are_those_of_the_fast_graphs(exported: Bundle, tmp_path: Path) -> None:
    params = AmgParams(points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    image = noise_image(150, 230)
    fast, stock = (
        Ours(model).generate(image, params)
        for model in (open_model(exported), import_pair(exported, tmp_path))
    )
    assert len(fast) == len(stock) == 27
    for a, b in zip(fast, stock, strict=True):
        assert (a.point, a.predicted_iou) == (b.point, pytest.approx(b.predicted_iou, abs=CLICK_ERROR))
        assert np.mean(crop.to_mask(a.crop) == crop.to_mask(b.crop)) > 0.999
