"""A SAM 2 bundle returns the same as sam2's SAM2ImagePredictor, its rule for a single mask included."""

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from segserve.automatic.parameters import AmgParams
from segserve.decode.mask_choice import is_stable
from segserve.encode.prepared_cache import PreparedImage
from segserve.models.bundle import Bundle
from segserve.models.export.sam2 import export_sam2
from segserve.models.importers.compare_arrays import error_over_std
from segserve.models.importers.compare_promptable import compare_promptable
from segserve.models.importers.sam2_network import IMPORTER, fit_features
from segserve.models.manifest import ModelKind
from segserve.models.networks.sam2 import build_sam2_network
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Size
from tests.automatic.test_amg_generator import Ours, assert_same
from tests.models.networks import noise_image, open_model
from tests.models.predictors import PROMPTS, check_batch, check_click, encode_noise
from tests.rounding import CLICK_ERROR, ENCODER_ERROR

HEIGHT, WIDTH = 300, 500
SIZE = Size(HEIGHT, WIDTH)
# Edge of the network's input. No weight depends on it, and the published 1024 takes 16 times the time.
IMAGE = 256
GRID = IMAGE // 16


def network(variant: str, image_size: int | None = None) -> Any:
    torch.manual_seed(0)
    return build_sam2_network(variant, image_size=image_size)


@pytest.fixture(scope="module")
def tiny() -> Any:
    return network("2.1_tiny", IMAGE)


@pytest.fixture(scope="module")
def bundle(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_sam2(
        tiny, tmp_path_factory.mktemp("b") / "tiny", name="tiny", architecture="hiera_2.1_tiny"
    )


@pytest.fixture(scope="module")
def predictor(tiny: Any) -> Any:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sam2 uses what torch deprecates
        predictor = SAM2ImagePredictor(tiny)
        fit_features(predictor, tiny)
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
    assert manifest.kind is ModelKind.SAM2
    assert manifest.dims.embedding == (256, GRID, GRID)
    assert manifest.dims.high_res == ((32, 4 * GRID, 4 * GRID), (64, 2 * GRID, 2 * GRID))
    assert manifest.preprocess.resize == "stretch"


def test_images_encoded_together_equal_each_alone(model: PromptableModel) -> None:
    check_batch(model, SIZE, 2)


def test_encodes_as_the_predictor_does(predictor: Any, image: PreparedImage) -> None:
    fine, middle = predictor._features["high_res_feats"]
    expected = {"embedding": predictor._features["image_embed"], "high_res_0": fine, "high_res_1": middle}
    assert image.embedding.keys() == expected.keys()
    for name, tensor in expected.items():
        assert error_over_std(image.embedding[name], tensor[0].numpy()) < 2 * ENCODER_ERROR


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("name", PROMPTS)
def test_segments_as_the_predictor_does(
    predictor: Any, model: PromptableModel, image: PreparedImage, name: str, multimask: bool
) -> None:
    check_click(predictor, model, image, name, multimask=multimask)


@pytest.mark.parametrize("name", ["a point", "a box"])
def test_refines_a_prior_mask_as_the_predictor_does(
    predictor: Any, model: PromptableModel, image: PreparedImage, name: str
) -> None:
    check_click(predictor, model, image, name, multimask=False, prior=True)


def test_an_unstable_single_mask_gives_way_to_the_best_candidate(
    predictor: Any, model: PromptableModel, image: PreparedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights give logits near 0, so the mask is unstable. Scaled up, the same mask is stable."""
    assert not is_stable(single_mask(model, image))
    single = check_click(predictor, model, image, "a box", multimask=False)
    candidates = check_click(predictor, model, image, "a box", multimask=True)
    assert single[0].score == max(c.score for c in candidates)

    def scaled(graph: OnnxGraph, inputs: Any, outputs: Any = None, run: Any = OnnxGraph.run) -> Any:
        answer = run(graph, inputs, outputs)
        if "low_res" in answer:
            answer["low_res"] = answer["low_res"] * 1000
        return answer

    decoder = predictor.model.sam_mask_decoder
    library = decoder.predict_masks

    def scaled_masks(*args: Any, **kwargs: Any) -> Any:
        masks, *rest = library(*args, **kwargs)
        return masks * 1000, *rest

    monkeypatch.setattr(OnnxGraph, "run", scaled)
    monkeypatch.setattr(decoder, "predict_masks", scaled_masks)
    assert is_stable(single_mask(model, image))
    check_click(predictor, model, image, "a box", multimask=False)


def single_mask(model: PromptableModel, image: PreparedImage) -> Any:
    scale = np.array([IMAGE / WIDTH, IMAGE / HEIGHT], np.float32)
    corners = np.array(PROMPTS["a box"]["box"], np.float32).reshape(2, 2) * scale
    coords = np.concatenate([corners, np.zeros((1, 2), np.float32)])
    return model.decode(image.prepared, coords, np.array([2, 3, -1], np.float32), [0])[0][0]


def test_the_stock_decoder_has_sam1s_interface_and_two_features(
    bundle: Bundle, predictor: Any, image: PreparedImage
) -> None:
    graph = OnnxGraph(bundle.path("decoder.onnx"), RuntimeOptions(threads=2))
    assert graph.inputs == [
        "image_embeddings",
        "high_res_feats_0",
        "high_res_feats_1",
        "point_coords",
        "point_labels",
        "mask_input",
        "has_mask_input",
        "orig_im_size",
    ]
    answer = graph.run(
        {
            "image_embeddings": image.embedding["embedding"][None],
            "high_res_feats_0": image.embedding["high_res_0"][None],
            "high_res_feats_1": image.embedding["high_res_1"][None],
            "point_coords": np.array([[[100 * IMAGE / WIDTH, 60 * IMAGE / HEIGHT], [0, 0]]], np.float32),
            "point_labels": np.array([[1, -1]], np.float32),
            "mask_input": np.zeros((1, 1, 4 * GRID, 4 * GRID), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([HEIGHT, WIDTH], np.float32),
        }
    )
    expected, *_ = predictor.predict(np.array([[100.0, 60.0]]), np.array([1]), return_logits=True)
    assert answer["masks"].shape == (1, 4, HEIGHT, WIDTH)
    assert error_over_std(answer["masks"][0, 1:], expected) < CLICK_ERROR


@pytest.mark.large
@pytest.mark.parametrize("variant", ["2_tiny", "2.1_tiny", "2.1_small", "2.1_base_plus", "2.1_large"])
def test_the_published_sizes(tmp_path: Path, variant: str) -> None:
    model = network(variant)
    exported = export_sam2(model, tmp_path / "b", name="b", architecture=variant)
    compare_promptable(exported, IMPORTER, model)
    exported.verify()


def test_automatic_masks_are_those_of_sam2s_generator(tiny: Any, model: PromptableModel) -> None:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    params = AmgParams(points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, box_nms_thresh=1.0)
    picture = noise_image(HEIGHT, WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sam2 uses what torch deprecates
        generator = SAM2AutomaticMaskGenerator(tiny, **asdict(params))
        fit_features(generator.predictor, tiny)
        theirs = generator.generate(picture)
    ours = Ours(model).generate(picture, params)
    assert_same(ours, [each for each in theirs if each["area"]])
