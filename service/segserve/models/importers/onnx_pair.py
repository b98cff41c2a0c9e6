"""Import a published ONNX pair, an encoder and a decoder: copy both files, then decode one test click.

Needs no torch.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from segserve.errors import BadInput
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers.import_request import ModelCard
from segserve.models.install import new_bundle
from segserve.models.manifest import BundleRuntime, Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.onnx_pair_model import OnnxPairModel, open_promptable_model
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.settings import count_cores

INPUT_SIZE = 1024
# The number of masks that a graph returns -> their mask tokens.
TOKENS_BY_COUNT = {1: (0,), 3: (1, 2, 3), 4: (0, 1, 2, 3)}
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class OnnxPairKind(StrEnum):
    """The kinds of ONNX pairs, by the project that exported them; `models.onnx_pair_model` has the interfaces."""

    SAM = "sam_onnx"
    SAM2 = "sam2_onnx"
    EFFICIENT_SAM = "efficient_sam_onnx"


@dataclass(frozen=True)
class OnnxPairRecipe:
    """How a pair is described in the manifest."""

    kind: ModelKind
    runtime: BundleRuntime
    preprocess: PreprocessEntry


RECIPES = {
    OnnxPairKind.SAM: OnnxPairRecipe(
        ModelKind.SAM,
        BundleRuntime.STOCK,
        PreprocessEntry(input_size=INPUT_SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="pad"),
    ),
    OnnxPairKind.SAM2: OnnxPairRecipe(
        ModelKind.SAM2,
        BundleRuntime.STOCK,
        PreprocessEntry(input_size=INPUT_SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="stretch"),
    ),
    # Its graph normalises the image itself.
    OnnxPairKind.EFFICIENT_SAM: OnnxPairRecipe(
        ModelKind.SAM,
        BundleRuntime.EFFICIENT_SAM,
        PreprocessEntry(input_size=INPUT_SIZE, mean=(0, 0, 0), std=(255, 255, 255), resize="stretch"),
    ),
}


def import_onnx_pair(
    pair: OnnxPairKind,
    encoder: Path,
    decoder: Path,
    name: str,
    models_dir: Path,
    *,
    architecture: str = "",
    replace: bool = False,
    card: ModelCard | None = None,
    input_size: int = INPUT_SIZE,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Copy both files into the bundle `models_dir/name`. Raises BadInput where they are not such a pair.

    replace: whether an existing model of that name may be replaced.
    input_size: edge of the encoder's input, pixels.
    on_stage: called with the name of each stage as it begins.
    """
    recipe = RECIPES[pair]
    with new_bundle(models_dir, name, replace=replace) as folder:
        on_stage("copying the graphs")
        shutil.copyfile(encoder, folder / "encoder.onnx")
        shutil.copyfile(decoder, folder / "decoder.onnx")
        manifest = PromptableManifest(
            name=name,
            kind=recipe.kind,
            runtime=recipe.runtime,
            architecture=architecture or pair,
            preprocess=recipe.preprocess.model_copy(update={"input_size": input_size}),
            dims=Dims(embedding=(0, 0, 0), low=input_size // 4),  # the embedding is measured below
            files={},
            **vars(card or ModelCard()),
        )
        on_stage("clicking once")
        dims = measure_dims(write_manifest(folder, manifest))
        write_manifest(folder, manifest.model_copy(update={"dims": dims}))
        on_stage("putting it in place")
    return Bundle(models_dir / name)


def measure_dims(bundle: Bundle) -> Dims:
    """Encode a grey image, decode one click, and return the shapes of the results. Raises BadInput if that fails."""
    manifest = bundle.expect(PromptableManifest)
    size = manifest.preprocess.input_size
    options = RuntimeOptions(threads=count_cores())
    try:
        model = open_promptable_model(bundle, options, options)
        assert isinstance(model, OnnxPairModel)
        features = model.encode(np.zeros((1, 3, size, size), np.float32))
        click = np.full((1, 2), size / 2, np.float32)
        _, scores, *_ = model.run_decoder(model.prepare(features, None), click, np.ones(1, np.float32))
        shapes = [tuple(array.shape) for array in features.values()]
        low = manifest.dims.low
        return Dims(
            embedding=shapes[0], low=low, high_res=tuple(shapes[1:]), masks=TOKENS_BY_COUNT[scores.size]
        )
    except Exception as error:  # for inputs and shapes that do not fit, ONNX Runtime raises many types
        raise BadInput(
            "These files are not an encoder and a decoder that fit together.",
            field="checkpoint",
            remedy=f"They failed on a test click: {str(error)[:200]}",
        ) from error
