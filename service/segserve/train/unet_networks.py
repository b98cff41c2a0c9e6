"""The networks that `segserve train unet` trains, with random weights: U-Net, U-Net++ and TransUNet."""

from collections.abc import Sequence
from typing import Any

from segserve.errors import BadInput
from segserve.models.networks.transunet import TransUNet, TransUnetShape
from segserve.models.networks.unet import FeatureListUNet
from segserve.train.unet_choices import TRANSUNET_ENCODERS, Architecture

# By the name of the encoder: the paper's two, and two that a CPU trains.
TRANSUNET_SHAPES = dict(
    zip(
        TRANSUNET_ENCODERS,
        (
            TransUnetShape(),
            TransUnetShape(hidden=1024, layers=24, heads=16, mlp=4096),
            TransUnetShape(units=(2, 2, 2), hidden=384, heads=6, mlp=1536, bridge=256),
            TransUnetShape(width=32, units=(1, 1, 1), hidden=192, layers=6, heads=3, mlp=768, bridge=128),
        ),
        strict=True,
    )
)
TRANSUNET_STRIDE = 16


def input_multiple(architecture: Architecture, features: Sequence[int]) -> int:
    """Return the number that divides every input's edge: each level halves it."""
    return TRANSUNET_STRIDE if architecture is Architecture.TRANSUNET else 2 ** len(features)


def build_network(
    architecture: Architecture, encoder: str | None, features: Sequence[int], classes: int, window_px: int
) -> Any:
    """Return a network, images [N, 3, H, W] -> logits [N, classes, H, W], with random weights.

    encoder: of U-Net and U-Net++, a name of segmentation-models-pytorch, or None for a U-Net's plain convolutions; of
        TransUNet, one of TRANSUNET_SHAPES.
    features: channels of the levels, from the image's own size downwards; of the decoder, where there is an encoder.
    window_px: the edge of the windows. A TransUNet takes no other size.

    The network has attributes `multiple`, which divides the edges of every input, and `fixed_px`, their only length,
    or None. Raises BadInput, also for an encoder that is not known. Nothing is downloaded.
    """
    if architecture is Architecture.TRANSUNET:
        return build_transunet(encoder, features, classes, window_px)
    if encoder is None:
        return FeatureListUNet(3, classes, features)
    network = build_smp_network(architecture, encoder, features, classes)
    network.multiple, network.fixed_px = input_multiple(architecture, features), None
    return network


def build_transunet(encoder: str | None, features: Sequence[int], classes: int, window_px: int) -> TransUNet:
    if encoder not in TRANSUNET_SHAPES:
        raise BadInput(
            f"TransUNet has no encoder {encoder!r}.",
            field="encoder",
            remedy=f"Its encoders are {', '.join(TRANSUNET_SHAPES)}.",
        )
    if len(features) != len(TransUnetShape.decoder):
        raise BadInput(
            f"TransUNet's decoder has {len(TransUnetShape.decoder)} levels, not {len(features)}.",
            field="features",
            remedy="Example: 16,64,128,256.",
        )
    shape = TRANSUNET_SHAPES[encoder]
    changed = {"image_px": window_px, "decoder": tuple(reversed(features))}
    return TransUNet(classes, TransUnetShape(**{**vars(shape), **changed}))


def build_smp_network(architecture: Architecture, encoder: str, features: Sequence[int], classes: int) -> Any:
    # It imports all encoders, which takes seconds.
    import segmentation_models_pytorch as smp

    from segserve.models.importers.smp import check_encoder

    try:
        check_encoder(encoder)
    except BadInput as error:
        raise BadInput(error.message, field="encoder", remedy=error.remedy) from None
    try:
        return smp.create_model(
            str(architecture),
            encoder,
            encoder_weights=None,
            encoder_depth=len(features),
            decoder_channels=tuple(reversed(features)),
            classes=classes,
        )
    except (ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise BadInput(
            f"{encoder} does not fit {len(features)} levels of features.",
            field="features",
            remedy="Give five numbers of channels, or another --encoder.",
        ) from error
