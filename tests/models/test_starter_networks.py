"""The starter with fine features: it begins as the one without, and its bundle computes what its network does."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from segserve.decode.decode_prompt import decode_prompt
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers.import_request import ModelCard
from segserve.models.manifest import ModelKind, PromptableManifest
from segserve.models.networks.starter import (
    AutomaticDecoder,
    FineAutomaticDecoder,
    build_fine_starter_sam,
    build_starter_sam,
    load_coarse_weights,
)
from segserve.models.promptable_model import FINE_PREPARATION_FILE, PromptableModel
from segserve.models.registry import BUILT_IN_MODELS
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.timing import Timings
from segserve.train.batched_decoder import decode_masks, encode_images, encode_prompts, predict_maps
from segserve.train.trainable_networks import FINE_STARTER, load_trainable, write_promptable_bundle
from segserve.types import Prompt, Select, Size
from tests.models.predictors import check_batch, encode_noise

SIZE = Size(150, 230)
OPTIONS = RuntimeOptions(threads=1)


def randomise(network: Any) -> Any:
    """Give every weight a part, also those that begin as zero."""
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def networks(sam: Any, automatic: Any) -> Any:
    return torch.nn.ModuleDict({"sam": sam, "automatic": automatic}).eval()


@torch.no_grad()
def compute(both: Any) -> list[Any]:
    """Return the masks, scores and maps of an image, by the networks of a starter."""
    generator = torch.Generator().manual_seed(1)
    sam = both["sam"]
    features = encode_images(sam, torch.randn(1, 3, 512, 512, generator=generator))
    tokens = encode_prompts(sam, torch.tensor([[[200.0, 300.0]]]), torch.ones(1, 1), None)
    masks, scores = decode_masks(sam, features, sam.prompt_encoder.get_dense_pe(), tokens, None)
    return [masks, scores, predict_maps(both["automatic"], features)]


def test_with_the_weights_of_the_coarse_starter_it_computes_the_same() -> None:
    torch.manual_seed(0)
    coarse = networks(build_starter_sam(), AutomaticDecoder())
    fine = networks(build_fine_starter_sam(), FineAutomaticDecoder())
    expected = compute(coarse)
    assert not torch.equal(compute(fine)[0], expected[0])
    for name, network in fine.items():
        load_coarse_weights(network, coarse[name].state_dict())
    for ours, theirs in zip(compute(fine), expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="no weights of starter-conv"):
        load_coarse_weights(build_fine_starter_sam(), AutomaticDecoder().state_dict())


@pytest.fixture(scope="module")
def both() -> Any:
    torch.manual_seed(0)
    return networks(randomise(build_fine_starter_sam()), randomise(FineAutomaticDecoder()))


@pytest.fixture(scope="module")
def bundle(both: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights. Writing it compares all its graphs with the networks."""
    like = Bundle(BUILT_IN_MODELS / "starter").expect(PromptableManifest)
    folder = tmp_path_factory.mktemp("b") / "fine"
    folder.mkdir()
    like = like.model_copy(update={"architecture": FINE_STARTER})
    return write_promptable_bundle(both, like, folder, name="fine", about=ModelCard(), fp16_weights=True)


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> PromptableModel:
    return PromptableModel(bundle, OPTIONS, OPTIONS, OPTIONS)


def test_the_manifest_says_what_the_embedding_holds(bundle: Bundle, model: PromptableModel) -> None:
    manifest = bundle.expect(PromptableManifest)
    assert (manifest.kind, manifest.architecture) == (ModelKind.SAM, FINE_STARTER)
    assert manifest.dims.high_res == ((16, 128, 128), (32, 64, 64))
    embedding = encode_noise(model, SIZE).embedding
    assert [array.shape for array in embedding.values()] == [
        manifest.dims.embedding,
        *manifest.dims.high_res,
    ]
    assert all(np.abs(array).max() > 0.01 for array in embedding.values())


def test_images_encoded_together_equal_each_alone(model: PromptableModel) -> None:
    check_batch(model, SIZE, 2)


def test_masks_and_maps_depend_on_the_fine_features(model: PromptableModel) -> None:
    image = encode_noise(model, SIZE)
    click = Prompt(np.array([[100.0, 60.0]], np.float32), np.array([1]))

    def answer(features: Any) -> list[Any]:
        prepared = type(image)(SIZE, features, model.prepare(features, None))
        candidate = decode_prompt(model, prepared, click, False, Select.BEST, Timings(), raw=True)[0]
        return [candidate.logits, model.predict_ais_maps(features)]

    before = answer(image.embedding)
    for name in ("high_res_0", "high_res_1"):
        changed = {**image.embedding, name: np.zeros_like(image.embedding[name])}
        for ours, theirs in zip(answer(changed), before, strict=True):
            assert np.abs(ours - theirs).max() > 1e-3


def test_a_prior_mask_leaves_the_fine_features_as_they_are(model: PromptableModel) -> None:
    image, low = encode_noise(model, SIZE), model.manifest.dims.low
    again = model.prepare(image.embedding, np.ones((low, low), np.float32), image.prepared)
    assert again["fine_0"] is image.prepared["fine_0"]
    assert again["keys"] is not image.prepared["keys"]


def test_a_bundle_whose_click_decoder_reads_the_features_itself_still_works(
    bundle: Bundle, model: PromptableModel, tmp_path: Path
) -> None:
    """Those of SAM 2 that segserve 0.2 imported are such."""
    folder = tmp_path / "fine"
    shutil.copytree(bundle.folder, folder)
    fine = onnx.compose.add_prefix(onnx.load(str(folder / FINE_PREPARATION_FILE)), "p/", rename_inputs=False)
    for name in ("fast_decoder.onnx", "fast_decoder_many.onnx"):
        decoder = onnx.load(str(folder / name))
        pairs = [(f"p/{each}", each) for each in ("fine_0", "fine_1")]
        onnx.save(onnx.compose.merge_models(fine, decoder, pairs), str(folder / name))
    (folder / FINE_PREPARATION_FILE).unlink()
    old = PromptableModel(write_manifest(folder, bundle.manifest), None, OPTIONS)
    image, low = encode_noise(model, SIZE), model.manifest.dims.low
    coords, labels = np.array([[100.0, 60.0], [0, 0]], np.float32), np.array([1, -1], np.float32)
    for prior in (None, np.ones((low, low), np.float32)):
        masks = [
            each.decode(each.prepare(image.embedding, prior), coords, labels, [1])[0] for each in (old, model)
        ]
        assert np.array_equal(*masks)


def test_the_stock_decoder_has_the_inputs_of_sam2s(bundle: Bundle, model: PromptableModel) -> None:
    """Its masks are compared with the fast decoder's, for a click."""
    graph = OnnxGraph(bundle.path("decoder.onnx"), OPTIONS)
    assert graph.inputs[:3] == ["image_embeddings", "high_res_feats_0", "high_res_feats_1"]
    image = encode_noise(model, Size(512, 512))
    coords, labels = np.array([[100.0, 60.0], [0, 0]], np.float32), np.array([1, -1], np.float32)
    low = model.manifest.dims.low
    answer = graph.run(
        {
            **dict(zip(graph.inputs[:3], (array[None] for array in image.embedding.values()), strict=True)),
            "point_coords": coords[None],
            "point_labels": labels[None],
            "mask_input": np.zeros((1, 1, low, low), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([512, 512], np.float32),
        }
    )
    logits, scores = model.decode(image.prepared, coords, labels, [0, 1, 2, 3])
    scale = float(np.abs(logits).max())
    assert np.abs(answer["low_res_masks"][0] - logits).max() < 0.01 * scale
    assert answer["iou_predictions"][0] == pytest.approx(scores, abs=0.01)


def test_it_can_be_trained_further(bundle: Bundle, both: Any) -> None:
    trainable = load_trainable(bundle)
    assert (trainable.takes_windows, trainable.automatic_is_new) == (True, False)
    expected = both["automatic"].fine_lateral.weight
    assert torch.allclose(trainable.networks["automatic"].fine_lateral.weight, expected, atol=1e-3)
