"""The id of an image is the sha256 of its bytes, and of the options that change its pixels."""

import hashlib
import io

import numpy as np

from segserve.images.image_library import resolve_image_id
from segserve.images.read_image import open_image
from segserve.store.content_id import add_options, hash_content
from segserve.types import Normalise, ReadOptions, Stain
from segserve.wire.grpc.convert.images import read_options_from_message, read_options_to_message
from tests.images.sample_images import write_tiff

DIGEST = hashlib.sha256(b"x").digest()
OPTIONS = [
    ReadOptions(normalise=Normalise.NONE),
    ReadOptions(),
    ReadOptions(1),
    ReadOptions(channels=(0,)),
    ReadOptions(normalise=Normalise.MINMAX),
    ReadOptions(stain=Stain.DAB),
    ReadOptions(stain=Stain.EOSIN),
    ReadOptions(invert=True),
    ReadOptions(stain=Stain.EOSIN, invert=True),
]


def find_id(values: np.ndarray, options: ReadOptions) -> str:
    data = write_tiff(values)
    source = open_image(io.BytesIO(data), 0, 10**6, 10**6)
    return resolve_image_id(hash_content(io.BytesIO(data))[0], source, options)[0]


def test_each_option_changes_the_id() -> None:
    assert len({add_options(DIGEST, options) for options in OPTIONS}) == len(OPTIONS)
    assert add_options(DIGEST, OPTIONS[0]) == DIGEST.hex()


def test_auto_changes_the_id_of_what_it_stretches() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    none = ReadOptions(normalise=Normalise.NONE)
    assert find_id(grey, ReadOptions()) == find_id(grey, none)
    assert find_id(grey.astype(np.uint16), ReadOptions()) != find_id(grey.astype(np.uint16), none)


def test_messages_carry_every_option() -> None:
    for options in OPTIONS:
        assert read_options_from_message(read_options_to_message(options)) == options
