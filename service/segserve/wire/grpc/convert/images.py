"""Options for reading images, between messages and what is used inside."""

from segserve.types import Normalise, ReadOptions
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum

NORMALISE = dict(enumerate([Normalise.NONE, Normalise.NONE, Normalise.MINMAX, Normalise.PERCENTILE]))


def read_options_from_message(message: segmentation_pb2.ReadOptions) -> ReadOptions:
    """Raises BadInput naming the field at fault."""
    channels = tuple(message.channels) or None
    return ReadOptions(message.page, channels, decode_enum(NORMALISE, message.normalise, "options.normalise"))


def read_options_to_message(options: ReadOptions) -> segmentation_pb2.ReadOptions:
    return segmentation_pb2.ReadOptions(
        page=options.page,
        channels=options.channels or (),
        normalise=f"NORMALISE_{options.normalise.name}",
    )
