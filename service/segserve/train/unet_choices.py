"""The choices of `segserve train unet`: architectures, encoders, losses. Importing this module is fast."""

from enum import StrEnum


class Architecture(StrEnum):
    """What `segserve train unet` trains."""

    UNET = "unet"  # Ronneberger et al., 2015, arXiv 1505.04597
    UNETPLUSPLUS = "unetplusplus"  # Zhou et al., 2018, arXiv 1807.10165
    TRANSUNET = "transunet"  # Chen et al., 2021, arXiv 2102.04306


class LossName(StrEnum):
    """What training minimises; see `segserve.train.unet_losses`."""

    BCE_DICE = "bce-dice"
    FOCAL = "focal"
    GENERALISED_DICE = "generalised-dice"


AUTO_WEIGHTS = "auto"
# Channels of the levels, from the image's own size downwards.
DEFAULT_FEATURES = {
    Architecture.UNET: (16, 32, 64, 128),
    Architecture.UNETPLUSPLUS: (16, 32, 64, 128, 256),
    Architecture.TRANSUNET: (16, 64, 128, 256),
}
# A U-Net's is plain convolutions where no encoder is named.
DEFAULT_ENCODER = {Architecture.UNETPLUSPLUS: "resnet18", Architecture.TRANSUNET: "r50-vit-b16"}
TRANSUNET_ENCODERS = ("r50-vit-b16", "r50-vit-l16", "r26-vit-s16", "r14-vit-ti16")
