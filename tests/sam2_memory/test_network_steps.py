"""Bundles from which the video network can be loaded, and the errors for the others."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sam2")

from segserve.errors import BadInput, BrokenModel, WrongModel
from segserve.models.bundle import PROMPTABLE_NETWORK, Bundle, write_manifest
from segserve.models.importers.sam2_network import IMPORTER
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest, SemanticManifest
from segserve.models.weights import write_weights
from segserve.sam2_memory.network_steps import Sam2VideoNetwork
from segserve.sam2_memory.session import Sam2Session
from segserve.sam2_memory.session_state import dump_session
from segserve.types import Device
from tests.sam2_memory.reference import COUNT, SIZE, TINY, frames, network, points, session


def write_bundle(
    folder: Path, architecture: str, kind: ModelKind = ModelKind.SAM2, weights: bool = True
) -> Bundle:
    """Write what an import of SAM 2 leaves, without the ONNX graphs."""
    if weights:
        write_weights(folder, {PROMPTABLE_NETWORK: IMPORTER.promptable(network())})
    preprocess = PreprocessEntry(input_size=1024, mean=(0, 0, 0), std=(1, 1, 1), resize="stretch")
    dims = Dims(embedding=(256, 64, 64), low=256)
    manifest = PromptableManifest(
        name="m", kind=kind, architecture=architecture, files={}, preprocess=preprocess, dims=dims
    )
    return write_manifest(folder, manifest)


def test_the_weights_of_an_import_track_objects(tmp_path: Path) -> None:
    kept = write_bundle(tmp_path, f"hiera_{TINY}")
    loaded = Sam2Session(Sam2VideoNetwork.load(kept, image_size=64), SIZE, COUNT)
    expected = session(image_size=64)
    for video in (loaded, expected):
        video.add_prompt(0, frames()[0], 1, points((50, 30, 1)))
        video.track(1, frames()[1])
    expected.network.model = kept.digest
    assert dump_session(loaded) == dump_session(expected)


def test_without_kept_weights_the_remedy_is_to_import_again(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no weights for video") as refused:
        Sam2VideoNetwork.load(write_bundle(tmp_path, f"hiera_{TINY}", weights=False))
    assert "--keep-weights" in refused.value.remedy
    assert refused.value.field == "model"


def test_models_without_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no memory for video"):
        Sam2VideoNetwork.load(write_bundle(tmp_path, "vit_b", ModelKind.SAM, weights=False))
    with pytest.raises(BrokenModel, match="are not those of"):
        Sam2VideoNetwork.load(write_bundle(tmp_path, "hiera_2_tiny"))
    manifest = SemanticManifest(name="m", architecture="unet", files={}, classes=("cell",))
    with pytest.raises(WrongModel):
        Sam2VideoNetwork.load(write_manifest(tmp_path, manifest))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_cuda_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no CUDA device"):
        Sam2VideoNetwork.load(write_bundle(tmp_path, f"hiera_{TINY}", weights=False), device=Device.CUDA)
