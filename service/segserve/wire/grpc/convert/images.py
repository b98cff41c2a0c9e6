"""Options for reading images, between messages and what is used inside."""

from segserve.types import Normalise, ReadOptions, Stain
from segserve.v1 import segmentation_pb2
from segserve.wire.grpc.convert.enums import decode_enum

NORMALISE = dict(
    enumerate([Normalise.AUTO, Normalise.NONE, Normalise.MINMAX, Normalise.PERCENTILE, Normalise.AUTO])
)
STAIN = dict(enumerate([None, *Stain]))


def read_options_from_message(message: segmentation_pb2.ReadOptions) -> ReadOptions:
    """Raises BadInput naming the field at fault."""
    return ReadOptions(
        message.page,
        tuple(message.channels) or None,
        decode_enum(NORMALISE, message.normalise, "options.normalise"),
        decode_enum(STAIN, message.stain, "options.stain"),
        message.invert,
    )


def read_options_to_message(options: ReadOptions) -> segmentation_pb2.ReadOptions:
    return segmentation_pb2.ReadOptions(
        page=options.page,
        channels=options.channels or (),
        normalise=f"NORMALISE_{options.normalise.name}",
        stain=f"STAIN_{'UNSPECIFIED' if options.stain is None else options.stain.name}",
        invert=options.invert,
    )
