"""Import an ONNX pair, an encoder and a decoder: recognise it, give both graphs the interface that is run, click once.

Needs no torch.
"""

from dataclasses import dataclass

import numpy as np

from segserve.errors import BadInput
from segserve.models.bundle import Bundle, write_manifest
from segserve.models.importers.import_request import ImportRequest, OnnxPairKind
from segserve.models.importers.onnx_file import read_onnx_file, store_onnx_file
from segserve.models.importers.pair_interface import (
    DEFAULT_INPUT_SIZE,
    adapt_decoder,
    adapt_encoder,
    find_features,
    recognise_pair,
)
from segserve.models.manifest import BundleRuntime, Dims, ModelKind, PreprocessEntry, PromptableManifest
from segserve.models.onnx_pair_model import OnnxPairModel, open_promptable_model
from segserve.models.runtime.runtime_options import RuntimeOptions

# The number of masks that a graph returns -> their mask tokens.
TOKENS_BY_COUNT = {1: (0,), 3: (1, 2, 3), 4: (0, 1, 2, 3)}
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class OnnxPairRecipe:
    """How a pair is described in the manifest. No graph tells how images must be prepared: it is as its kind's library
    prepares them."""

    kind: ModelKind
    runtime: BundleRuntime
    preprocess: PreprocessEntry


RECIPES = {
    OnnxPairKind.SAM: OnnxPairRecipe(
        ModelKind.SAM,
        BundleRuntime.STOCK,
        PreprocessEntry(input_size=DEFAULT_INPUT_SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="pad"),
    ),
    OnnxPairKind.SAM2: OnnxPairRecipe(
        ModelKind.SAM2,
        BundleRuntime.STOCK,
        PreprocessEntry(
            input_size=DEFAULT_INPUT_SIZE, mean=IMAGENET_MEAN, std=IMAGENET_STD, resize="stretch"
        ),
    ),
    # Its graph normalises the image itself.
    OnnxPairKind.EFFICIENT_SAM: OnnxPairRecipe(
        ModelKind.SAM,
        BundleRuntime.EFFICIENT_SAM,
        PreprocessEntry(input_size=DEFAULT_INPUT_SIZE, mean=(0, 0, 0), std=(255, 255, 255), resize="stretch"),
    ),
}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle of a pair. Raises BadInput where the files are no pair that is known."""
    if request.decoder is None:
        raise BadInput("A pair has two files.", field="decoder", remedy="Give the decoder with --decoder.")
    request.on_stage("reading the graphs")
    encoder, decoder = read_onnx_file(request.checkpoint), read_onnx_file(request.decoder, "decoder")
    pair = recognise_pair(encoder, decoder, parse_pair_kind(request.variant))
    recipe = RECIPES[pair.kind]
    preprocess = recipe.preprocess.model_copy(update={"input_size": pair.input_size})
    is_encoder_changed = adapt_encoder(encoder, find_features(decoder), preprocess)
    store_onnx_file(
        encoder, request.checkpoint, request.folder / "encoder.onnx", is_changed=is_encoder_changed
    )
    is_decoder_changed = adapt_decoder(decoder, pair.kind)
    store_onnx_file(decoder, request.decoder, request.folder / "decoder.onnx", is_changed=is_decoder_changed)
    manifest = PromptableManifest(
        name=request.name,
        kind=recipe.kind,
        runtime=recipe.runtime,
        architecture=pair.kind,
        preprocess=preprocess,
        dims=Dims(embedding=(0, 0, 0), low=pair.low),  # the embedding is measured below
        files={},
        **vars(request.card),
    )
    request.on_stage("clicking once")
    dims = measure_dims(write_manifest(request.folder, manifest))
    write_manifest(request.folder, manifest.model_copy(update={"dims": dims}))


def parse_pair_kind(variant: str | None) -> OnnxPairKind | None:
    """Return the kind of that name. Raises BadInput naming the known ones."""
    try:
        return None if variant is None else OnnxPairKind(variant)
    except ValueError:
        raise BadInput(
            f"There is no kind of pairs {variant!r}.",
            field="variant",
            remedy=f"Known: {', '.join(OnnxPairKind)}. Leave it out: the graphs tell it.",
        ) from None


def measure_dims(bundle: Bundle) -> Dims:
    """Encode a grey image, decode one click, and return the shapes of the results. Raises BadInput if that fails."""
    manifest = bundle.expect(PromptableManifest)
    size = manifest.preprocess.input_size
    options = RuntimeOptions.for_trial()
    try:
        model = open_promptable_model(bundle, options, options)
        assert isinstance(model, OnnxPairModel)
        features = model.encode(np.zeros((1, 3, size, size), np.float32))
        click = np.full((1, 2), size / 2, np.float32)
        answers = model.run_decoder(model.prepare(features, None), click, np.ones(1, np.float32))
        logits, scores = model.read_logits(answers), answers[1]
        if len(logits) != scores.size or not (np.isfinite(logits).all() and np.isfinite(scores).all()):
            raise ValueError("masks and scores that do not fit each other, or no numbers")
        shapes = [tuple(array.shape) for array in features.values()]
        low = manifest.dims.low
        return Dims(
            embedding=shapes[0], low=low, high_res=tuple(shapes[1:]), masks=TOKENS_BY_COUNT[scores.size]
        )
    except Exception as error:  # for inputs and shapes that do not fit, ONNX Runtime raises many types
        raise BadInput(
            "These files are not an encoder and a decoder that fit together.",
            field="checkpoint",
            remedy="They failed on a test click. Give the encoder that was exported with this decoder.",
        ) from error
