"""Import a TransUNet whose weights have the names of the published repository; see `models.networks.transunet`.

The shapes of the weights tell everything but the number of attention heads: one for 64 channels, as in ViT-B and ViT-L.
"""

import math

from segserve.errors import BadInput
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest
from segserve.models.importers.compare_semantic import export_and_compare
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.load_weights import build_and_load
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint
from segserve.models.networks.transunet import (
    GROUPS,
    HEAD_CHANNELS,
    STRIDE,
    TransUNet,
    TransUnetShape,
    fold_standardised_weights,
)

PARTS = ("transformer.", "decoder.", "segmentation_head.")
ROOT = "transformer.embeddings.hybrid_model.root.conv.weight"
UNIT = "transformer.embeddings.hybrid_model.body.block{}.unit{}.conv1.weight"
POSITIONS = "transformer.embeddings.position_embeddings"
MLP = "transformer.encoder.layer.{}.ffn.fc1.weight"
BRIDGE = "decoder.conv_more.0.weight"
LEVEL = "decoder.blocks.{}.conv1.0.weight"
HEAD = "segmentation_head.0.weight"
STAGES = 3
# Attention of 64 x 64 tokens with 16 heads takes 1 GB.
MAX_IMAGE_PX = 1024
LEVELS = 4


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and compare it with the network. Raises BadInput, BrokenModel."""
    if request.variant is not None:
        raise BadInput(
            "The weights of a TransUNet tell its variant.", field="variant", remedy="Leave --variant out."
        )
    request.on_stage("reading the checkpoint")
    state = read_checkpoint(request.checkpoint)
    shape, classes = read_shape(state)
    detected = {"tile": [shape.image_px] * 2, "fixed": True, "multiple": STRIDE}
    manifest = build_semantic_manifest(request, "transunet", channels=3, classes=classes, detected=detected)
    if manifest.tile != (shape.image_px,) * 2:
        raise BadInput(
            f"The network takes only {shape.image_px} x {shape.image_px}.",
            field="tile",
            remedy="Leave it out.",
        )
    network = build_and_load(lambda: TransUNet(classes, shape), state, "TransUNet", PARTS)
    export_and_compare(
        network, request.folder, manifest, request.on_stage, exported=fold_standardised_weights(network)
    )


def read_shape(state: StateDict) -> tuple[TransUnetShape, int]:
    """Return (the network's shape, its number of classes) from the shapes of its weights. Raises BadInput."""
    keys = [ROOT, POSITIONS, MLP.format(0), BRIDGE, HEAD, *(LEVEL.format(n) for n in range(LEVELS))]
    missing = [key for key in keys if key not in state]
    if missing:
        raise BadInput(
            f"This is not a checkpoint of a TransUNet with a ResNet: it lacks {missing[0]}.",
            field="checkpoint",
            remedy="Expected the names of Beckschen/TransUNet, R50-ViT-B_16 or R50-ViT-L_16. Export any other network "
            "to ONNX and import it as onnx.",
        )
    ranks = [(POSITIONS, 3), (MLP.format(0), 2), *((key, 4) for key in (ROOT, BRIDGE, HEAD))]
    ranks += [(LEVEL.format(n), 4) for n in range(LEVELS)]
    width, tokens, hidden = state[ROOT].shape[0], *(*state[POSITIONS].shape, 0, 0)[1:3]
    grid = math.isqrt(tokens)
    misshapen = [key for key, rank in ranks if state[key].ndim != rank or not state[key].size]
    if misshapen or grid**2 != tokens or width % GROUPS or hidden % HEAD_CHANNELS:
        raise BadInput(
            f"This TransUNet has {tokens} tokens of {hidden} channels, and a ResNet of width {width}.",
            field="checkpoint",
            remedy=f"Tokens must make a square, channels be a multiple of {HEAD_CHANNELS}, the width of {GROUPS}.",
        )
    if grid * STRIDE > MAX_IMAGE_PX:
        raise BadInput(
            f"This TransUNet takes images of {grid * STRIDE} x {grid * STRIDE}.",
            field="checkpoint",
            remedy=f"At most {MAX_IMAGE_PX} are served: each token attends to all others.",
        )
    decoder = tuple(state[LEVEL.format(n)].shape[0] for n in range(LEVELS))
    inputs = (state[BRIDGE].shape[0], *decoder[:-1])
    skips = sum(state[LEVEL.format(n)].shape[1] > channels for n, channels in enumerate(inputs))
    shape = TransUnetShape(
        image_px=grid * STRIDE,
        width=width,
        units=tuple(count_keys(state, UNIT.format(stage + 1, "{}"), first=1) for stage in range(STAGES)),
        hidden=hidden,
        layers=count_keys(state, MLP),
        heads=hidden // HEAD_CHANNELS,
        mlp=state[MLP.format(0)].shape[0],
        bridge=inputs[0],
        decoder=decoder,
        skips=min(skips, LEVELS - 1),
    )
    return shape, state[HEAD].shape[0]


def count_keys(state: StateDict, pattern: str, first: int = 0) -> int:
    """Return how many of the keys `pattern` with first, first + 1 and so on there are, up to the first missing one."""
    count = 0
    while pattern.format(first + count) in state:
        count += 1
    return count
