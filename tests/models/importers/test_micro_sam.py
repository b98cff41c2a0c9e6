"""μSAM checkpoints become bundles that compute what micro-sam computes, the automatic decoder included."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("micro_sam", reason="micro-sam is missing: make test-microsam has an environment with it")

from micro_sam.instance_segmentation import get_predictor_and_decoder, get_unetr
from micro_sam.util import precompute_image_embeddings, set_precomputed
from mobile_sam import sam_model_registry as mobile_sams
from segment_anything import sam_model_registry as sams

from segserve.automatic.ais_watershed import resize_maps
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BadInput, BrokenModel
from segserve.models.catalogue import PUBLISHED_MODELS
from segserve.models.importers import compare_promptable, sam_network
from segserve.models.importers.import_checkpoint import import_checkpoint
from segserve.models.importers.import_request import CheckpointKind
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Size
from tests.models.networks import noise_image, small_sam

TOLERANCE = 1e-4  # of maps from 0 to 1
WIDTH = 32  # of the small network's encoder, in place of vit_b's 768


@pytest.fixture
def small_vit_b(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_network, "VARIANT_BY_WIDTH", {WIDTH: "vit_b"})
    monkeypatch.setattr(sam_network, "sam_model_registry", {"vit_b": small_sam})


def make_states(network: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (model state, decoder state) with a fresh UNETR decoder, as micro-sam's training saves them."""
    torch.manual_seed(1)
    unetr = get_unetr(network.image_encoder, device="cpu")
    decoder = {k: v for k, v in unetr.state_dict().items() if not k.startswith("encoder")}
    return dict(network.state_dict()), decoder


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def open_model(bundle: Any) -> PromptableModel:
    options = RuntimeOptions(threads=2)
    return PromptableModel(bundle, options, options, options)


def write_one_file(folder: Path, model: Any, decoder: Any) -> tuple[Path, Path | None]:
    return save({"model_state": model, "decoder_state": decoder}, folder / "both.pt"), None


def write_training_file(folder: Path, model: Any, decoder: Any) -> tuple[Path, Path | None]:
    prefixed = {f"sam.{key}": value for key, value in model.items()}
    content = {"model_state": prefixed, "decoder_state": decoder, "epoch": 3}
    return save(content, folder / "best.pt"), None


def write_two_files(folder: Path, model: Any, decoder: Any) -> tuple[Path, Path | None]:
    return save(model, folder / "vit_b.pt"), save(decoder, folder / "vit_b_decoder.pt")


@pytest.mark.parametrize("write", [write_one_file, write_training_file, write_two_files])
def test_the_decoder_is_found_where_micro_sam_keeps_it(
    tmp_path: Path, small_vit_b: None, write: Callable[..., tuple[Path, Path | None]]
) -> None:
    checkpoint, decoder = write(tmp_path, *make_states(small_sam(3)))
    bundle = import_checkpoint("micro_sam", checkpoint, "mine", tmp_path / "models", decoder=decoder)
    assert bundle.manifest.architecture == "vit_b"
    bundle.verify()
    model = open_model(bundle)
    maps = model.predict_ais_maps(model.encode(np.zeros((1, 3, 256, 256), np.float32)))
    assert maps.shape == (3, 256, 256)
    assert maps.min() >= 0
    assert maps.max() <= 1


@pytest.mark.parametrize("architecture", ["vit_t", pytest.param("vit_b", marks=pytest.mark.large)])
def test_maps_over_an_image_are_micro_sams(tmp_path: Path, architecture: str) -> None:
    torch.manual_seed(0)
    network = mobile_sams["vit_t"]() if architecture == "vit_t" else sams[architecture]()
    checkpoint, _ = write_one_file(tmp_path, *make_states(network.eval()))
    image = noise_image(300, 410)

    predictor, decoder = get_predictor_and_decoder(architecture, checkpoint, device="cpu")
    embeddings = precompute_image_embeddings(predictor, image, ndim=2, verbose=False)
    set_precomputed(predictor, embeddings)
    assert decoder.training  # micro-sam uses it so; if that changes, the importer must change too
    with torch.no_grad():
        theirs = decoder(predictor.features, tuple(predictor.input_size), tuple(predictor.original_size))

    model = open_model(import_checkpoint("micro_sam", checkpoint, "mine", tmp_path / "models"))
    ours = resize_maps(
        model.predict_ais_maps(model.encode(preprocess_image(image, model.preprocess))),
        model.manifest,
        Size(300, 410),
    )
    assert np.abs(ours - theirs[0].numpy()).max() < TOLERANCE


def test_a_checkpoint_without_a_decoder_is_refused_and_leaves_nothing(
    tmp_path: Path, small_vit_b: None
) -> None:
    model, decoder = make_states(small_sam(3))
    alone = save(model, tmp_path / "vit_b.pt")
    lacking = dict(list(decoder.items())[1:])
    cases = [
        (alone, None, "holds no decoder"),
        (alone, save({"epoch": 1}, tmp_path / "none.pt"), "holds no decoder"),
        (write_one_file(tmp_path, model, lacking)[0], None, "does not fit"),
        (alone, save({k: v.flatten()[:1] for k, v in decoder.items()}, tmp_path / "cut.pt"), "does not fit"),
    ]
    for checkpoint, extra, message in cases:
        with pytest.raises(BadInput, match=message):
            import_checkpoint("micro_sam", checkpoint, "mine", tmp_path / "models", decoder=extra)
    assert not [p for p in (tmp_path / "models").rglob("*") if p.name != ".incoming"]


def test_an_automatic_decoder_that_disagrees_with_the_library_is_refused(
    tmp_path: Path, small_vit_b: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = compare_promptable.PromptableModel.predict_ais_maps
    monkeypatch.setattr(
        compare_promptable.PromptableModel,
        "predict_ais_maps",
        lambda self, embedding: original(self, embedding) + 2e-4,
    )
    checkpoint, _ = write_one_file(tmp_path, *make_states(small_sam(3)))
    with pytest.raises(BrokenModel, match="automatic decoder"):
        import_checkpoint("micro_sam", checkpoint, "mine", tmp_path / "models")


def test_the_catalogue_holds_what_micro_sam_publishes() -> None:
    from micro_sam.util import models

    theirs = models()
    listed = [entry for entry in PUBLISHED_MODELS if entry.kind is CheckpointKind.MICRO_SAM]
    with_decoder = {name.removesuffix("_decoder") for name in theirs.urls if name.endswith("_decoder")}
    assert {entry.name.removeprefix("micro_sam_") for entry in listed} == with_decoder
    for entry in listed:
        name = entry.name.removeprefix("micro_sam_")
        for file, theirs_name in zip(entry.files, (name, f"{name}_decoder"), strict=True):
            assert (file.url, file.digest) == (theirs.urls[theirs_name], theirs.registry[theirs_name])
