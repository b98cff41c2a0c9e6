"""The encoder in fp16 gives the masks of the float32 one, or it is not added.

The tests run the fp16 graph with every result rounded, because on a CPU ONNX Runtime leaves the roundings out.
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from segserve.decode.decode_prompt import decode_prompt
from segserve.encode.prepared_cache import PreparedImage
from segserve.encode.preprocess import preprocess_image
from segserve.errors import BrokenModel
from segserve.images.read_image import read_image
from segserve.masks.geometry import iou
from segserve.models.bundle import FP16_ENCODER_FILE, MANIFEST_FILE, Bundle, write_manifest
from segserve.models.export.fp16 import add_fp16_encoder, round_results_to_fp16
from segserve.models.export.sam import BATCH_AXES, SamEncoder
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.manifest import Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.promptable_model import PromptableModel
from segserve.models.registry import BUILT_IN_MODELS, weight_bytes
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.store.redis_cache import pack_embedding, unpack_embedding
from segserve.timing import Timings
from segserve.types import Bool, Embedding, Float32, Prompt, ReadOptions, Select, Size
from tests.models.networks import GRID, IMAGE, open_model, small_sam

OPTIONS = RuntimeOptions(threads=2)
FP16 = RuntimeOptions(threads=2, fp16=True)
CLICK_STEP_PX = 37


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("half") / "starter"
    shutil.copytree(BUILT_IN_MODELS / "starter", folder)
    return add_fp16_encoder(Bundle(folder))


def run_rounded(bundle: Bundle, image: Float32) -> Embedding:
    path = bundle.folder / "rounded.onnx"
    onnx.save(round_results_to_fp16(onnx.load(str(bundle.path(FP16_ENCODER_FILE)))), str(path))
    actual = OnnxGraph(path, OPTIONS).run({"image": image})
    path.unlink()
    return {name: array[0] for name, array in actual.items()}


def test_masks_of_the_starter_stay_the_same(starter: Bundle, nuclei: Path) -> None:
    model = open_model(starter)
    with nuclei.open("rb") as file:
        pixels = read_image(file, ReadOptions(), 10**7)
    image = preprocess_image(pixels, model.preprocess)
    size = Size(*pixels.shape[:2])
    whole, half = (
        masks(model, size, unpack_embedding(pack_embedding(e)))
        for e in (model.encode(image), run_rounded(starter, image))
    )
    shares = [iou(a, b) for a, b in zip(whole, half, strict=True) if a.sum() > 50]
    assert len(shares) > 200
    assert np.mean(shares) >= 0.999
    assert np.median(shares) >= 0.9999
    assert any((a != b).any() for a, b in zip(whole, half, strict=True)), "it was rounded indeed"


def masks(model: PromptableModel, size: Size, embedding: Embedding) -> list[Bool]:
    """Return the best mask of a click on each point of a grid, at the image's size."""
    image = PreparedImage(size, embedding, model.prepare(embedding, None))
    actual = []
    for y in range(8, size.height, CLICK_STEP_PX):
        for x in range(8, size.width, CLICK_STEP_PX):
            click = Prompt(np.array([[x, y]], np.float32), np.ones(1, np.int64))
            crop = decode_prompt(model, image, click, None, Select.BEST, Timings(), raw=True)[0].crop
            mask = np.zeros((size.height, size.width), bool)
            mask[crop.y : crop.y + crop.pixels.shape[0], crop.x : crop.x + crop.pixels.shape[1]] = crop.pixels
            actual.append(mask)
    return actual


def test_the_fp16_encoder_takes_batches_and_returns_float32(starter: Bundle) -> None:
    half = PromptableModel(starter, FP16, None)
    images = np.random.default_rng(0).normal(size=(2, 3, 512, 512)).astype(np.float32)
    expected, actual = PromptableModel(starter, OPTIONS, None).encode_batch(images), half.encode_batch(images)
    for a, b in zip(expected, actual, strict=True):
        assert b["embedding"].dtype == np.float32
        assert np.abs(a["embedding"] - b["embedding"]).max() < 1e-3 * np.abs(a["embedding"]).max()


def test_fp16_runs_only_where_it_is_allowed_and_the_bundle_has_it(
    starter: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[str] = []
    open_graph = OnnxGraph.__init__

    def note(graph: OnnxGraph, path: Path, options: RuntimeOptions) -> None:
        files.append(path.name)
        open_graph(graph, path, options)

    monkeypatch.setattr(OnnxGraph, "__init__", note)
    PromptableModel(starter, FP16, None)
    PromptableModel(starter, OPTIONS, None)
    PromptableModel(Bundle(BUILT_IN_MODELS / "starter"), FP16, None)
    assert files == [FP16_ENCODER_FILE, "encoder.onnx", "encoder.onnx"]


def test_the_bundle_lists_the_fp16_encoder_and_takes_no_more_memory(starter: Bundle) -> None:
    starter.verify()
    assert starter.digest != Bundle(BUILT_IN_MODELS / "starter").digest
    assert weight_bytes(starter) == weight_bytes(Bundle(BUILT_IN_MODELS / "starter"))


def export_encoder(folder: Path, *, patches: float = 1, neck: float = 1) -> Bundle:
    """Export SAM's encoder alone, some of its weights made larger.

    patches: factor on the patches' embedding. neck: factor on the convolution before the first norm over channels.
    """
    encoder = small_sam().image_encoder
    with torch.no_grad():
        encoder.patch_embed.proj.weight *= patches
        encoder.neck[0].weight *= neck
    image = {"image": torch.zeros(1, 3, IMAGE, IMAGE)}
    export_onnx(SamEncoder(encoder), folder / "encoder.onnx", image, ("embedding",), BATCH_AXES)
    manifest = PromptableManifest(
        name="large",
        kind=ModelKind.SAM,
        architecture="test",
        preprocess=PreprocessEntry(input_size=IMAGE, mean=(0, 0, 0), std=(1, 1, 1), resize="pad"),
        dims=Dims(embedding=(64, GRID, GRID), low=4 * GRID),
        files={},
    )
    return write_manifest(folder, manifest)


def test_the_norms_that_sam_writes_out_keep_their_range(tmp_path: Path) -> None:
    bundle = add_fp16_encoder(export_encoder(tmp_path, neck=1000))  # fp16 cannot hold the squares
    image = np.random.default_rng(1).normal(size=(1, 3, IMAGE, IMAGE)).astype(np.float32)
    expected = PromptableModel(bundle, OPTIONS, None).encode(image)["embedding"]
    actual = run_rounded(bundle, image)["embedding"]
    assert np.abs(expected - actual).max() < 0.02 * expected.std()


def test_an_encoder_that_leaves_the_range_of_fp16_is_refused(tmp_path: Path) -> None:
    bundle = export_encoder(tmp_path, patches=1e6)
    before = {path.name: path.read_bytes() for path in bundle.folder.iterdir()}
    with pytest.raises(BrokenModel, match="fp16"):
        add_fp16_encoder(bundle)
    assert {path.name: path.read_bytes() for path in bundle.folder.iterdir()} == before
    assert MANIFEST_FILE in before
