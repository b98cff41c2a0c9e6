"""A SAM bundle returns the same as segment-anything's SamPredictor, from image and prompt to binary mask."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from segment_anything import SamPredictor

from segserve.encode.prepared_cache import PreparedImage
from segserve.models.bundle import Bundle
from segserve.models.export.sam import export_sam
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.manifest import ModelKind
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Size
from tests.models.networks import GRID, IMAGE, noise_image, open_model, small_sam
from tests.models.predictors import PROMPTS, check_batch, check_click, encode_noise
from tests.rounding import CLICK_ERROR, ENCODER_ERROR

HEIGHT, WIDTH = 150, 230
SIZE = Size(HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_sam(small_sam(), tmp_path_factory.mktemp("b") / "small", name="small", architecture="test")


@pytest.fixture(scope="module")
def predictor() -> SamPredictor:
    predictor = SamPredictor(small_sam())
    predictor.set_image(noise_image(HEIGHT, WIDTH))
    return predictor


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> PromptableModel:
    return open_model(bundle)


@pytest.fixture(scope="module")
def image(model: PromptableModel) -> PreparedImage:
    return encode_noise(model, SIZE)


def test_the_manifest_says_what_the_files_are(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.kind is ModelKind.SAM
    assert manifest.dims.embedding == (64, GRID, GRID)
    assert manifest.dims.low == IMAGE // 4
    assert manifest.preprocess.mean == pytest.approx((123.675, 116.28, 103.53))
    bundle.verify()


def test_encodes_as_the_predictor_does(predictor: SamPredictor, image: PreparedImage) -> None:
    expected = predictor.get_image_embedding()[0].numpy()
    actual = image.embedding["embedding"]
    assert error_over_std(actual, expected) < 2 * ENCODER_ERROR


def test_images_encoded_together_equal_each_alone(model: PromptableModel) -> None:
    check_batch(model, SIZE, 3)


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("name", PROMPTS)
def test_segments_as_the_predictor_does(
    predictor: SamPredictor,
    model: PromptableModel,
    image: PreparedImage,
    name: str,
    multimask: bool,
    prior: bool,
) -> None:
    check_click(predictor, model, image, name, multimask=multimask, prior=prior)


def test_the_stock_decoder_has_segment_anythings_interface(
    bundle: Bundle, predictor: SamPredictor, image: PreparedImage
) -> None:
    graph = OnnxGraph(bundle.path("decoder.onnx"), RuntimeOptions(threads=2))
    assert graph.inputs == [
        "image_embeddings",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
        "orig_im_size",
    ]
    point = np.array([[100.0, 60.0]])
    scaled = predictor.transform.apply_coords(point, (HEIGHT, WIDTH))
    answer = graph.run(
        {
            "image_embeddings": image.embedding["embedding"][None],
            "point_coords": np.concatenate([scaled, [[0, 0]]])[None].astype(np.float32),
            "point_labels": np.array([[1, -1]], np.float32),
            "mask_input": np.zeros((1, 1, IMAGE // 4, IMAGE // 4), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([HEIGHT, WIDTH], np.float32),
        }
    )
    expected, *_ = predictor.predict(point, np.array([1]), return_logits=True)
    assert error_over_std(answer["masks"][0, 1:], expected) < CLICK_ERROR


def test_fp16_weights_are_exact_for_the_rounded_network(tmp_path: Path) -> None:
    sam = small_sam(seed=2)
    whole = export_sam(small_sam(seed=2), tmp_path / "whole", name="whole", architecture="test")
    half = export_sam(sam, tmp_path / "half", name="half", architecture="test", fp16_weights=True)
    size = [sum(f.bytes for f in b.manifest.files.values()) for b in (whole, half)]
    assert size[1] < 0.7 * size[0]
    for tensor in (*sam.parameters(), *sam.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.half().float()
    image = torch.randn(1, 3, IMAGE, IMAGE)
    with torch.no_grad():
        expected = sam.image_encoder(image).numpy()
    actual = open_model(half).encode(image.numpy())["embedding"][None]
    assert error_over_std(actual, expected) < 2 * ENCODER_ERROR


@pytest.mark.large
@pytest.mark.parametrize("variant", ["vit_b", "vit_l", "vit_h"])
def test_the_published_sizes(tmp_path: Path, variant: str) -> None:
    from segment_anything import sam_model_registry

    from segserve.models.export.fp16 import add_fp16_encoder
    from segserve.models.importers.compare_promptable import compare_promptable
    from segserve.models.importers.sam_network import IMPORTER

    torch.manual_seed(0)
    sam = sam_model_registry[variant]()
    sam.eval()
    bundle = export_sam(sam, tmp_path / variant, name=variant.replace("_", "-"), architecture=variant)
    compare_promptable(bundle, IMPORTER, sam)
    add_fp16_encoder(bundle).verify()
