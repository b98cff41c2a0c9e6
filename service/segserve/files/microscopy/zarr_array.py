"""Read arrays of Zarr, version 2 and 3, that are the entries of a zip: chunks, shards and their codecs.

Zarr 2: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html, version 3 the same with v3. A chunk that is not there
has the fill value.
"""

import bz2
import itertools
import lzma
import math
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from segserve.errors import BadInput, SegserveError
from segserve.images.image_source import damaged_file_error, unsupported_error

NAME = "OME-Zarr"
MAX_METADATA_BYTES = 4 << 20
MAX_CHUNK_BYTES = 512 << 20
# Decoded chunks that are kept: slices that lie in one chunk are read one after the other.
CACHE_BYTES = 64 << 20
MAX_DIMENSIONS = 8
MAX_CODECS = 8
# Of an inner chunk that is not in its shard.
MISSING = (1 << 64) - 1
CRC32C_BYTES = 4


class Store(Protocol):
    """`Store` holds the entries of an archive by their keys."""

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an entry, None where there is none. Raises BadInput, TooLarge."""
        ...


@dataclass(frozen=True)
class ArrayHeader:
    """`ArrayHeader` is an array's metadata.

    chunks: size of a chunk; of the inner ones where there are shards.
    shards: size of a shard in chunks, None without.
    order: of a chunk's axes as they are stored.
    codecs: (name, configuration) of what packs a chunk, in the order in which they are undone.
    index_codecs: of a shard's index. is_index_first: it begins the shard.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: np.dtype[Any]
    order: tuple[int, ...]
    fill: Any
    codecs: tuple[tuple[str, dict[str, Any]], ...]
    separator: str
    prefix: str
    index_codecs: tuple[str, ...] = ()
    is_index_first: bool = False

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Return the most bytes of an entry that are believed: codecs may make small chunks larger."""
        return 2 * self.chunk_bytes * math.prod(self.shards or (1,)) + (1 << 20)


class ZarrArray:
    """`ZarrArray` reads parts of an array. path: of the array in the store. Raises BadInput, UnsupportedFormat."""

    def __init__(self, store: Store, path: str) -> None:
        self._store, self._path = store, path
        if (data := store.read(f"{path}zarr.json", MAX_METADATA_BYTES)) is not None:
            self.header = parse_version_3(parse_json(data))
        elif (data := store.read(f"{path}.zarray", MAX_METADATA_BYTES)) is not None:
            self.header = parse_version_2(parse_json(data))
        else:
            raise BadInput(
                f"The OME-Zarr has no array {path.rstrip('/')[-100:]!r}.",
                field="file",
                remedy="Make the zip again, with all files of its folder, hidden ones too.",
            )
        check_header(self.header)
        self._decoded: OrderedDict[tuple[int, ...], NDArray[Any] | None] = OrderedDict()
        self._shard: tuple[str, bytes | None] = "", None

    @property
    def memory_bytes(self) -> int:
        """Return what reading takes beside its result: a shard or chunk, unpacked twice, and those that are kept."""
        header = self.header
        shard_bytes = header.chunk_bytes * math.prod(header.shards) if header.shards else 0
        return 3 * header.chunk_bytes + shard_bytes + max(CACHE_BYTES, header.chunk_bytes)

    def read(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[Any]:
        """Return the values from `start` up to `stop`, which are inside the array. Raises BadInput."""
        header = self.header
        out = np.full([b - a for a, b in zip(start, stop, strict=True)], header.fill, header.dtype)
        ranges = [
            range(a // size, -(-b // size)) for a, b, size in zip(start, stop, header.chunks, strict=True)
        ]
        for number in itertools.product(*ranges):
            chunk = self._read_chunk(number)
            if chunk is None:
                continue
            inner, outer = [], []
            for index, size, a, b in zip(number, header.chunks, start, stop, strict=True):
                low, high = max(a, index * size), min(b, (index + 1) * size)
                inner.append(slice(low - index * size, high - index * size))
                outer.append(slice(low - a, high - a))
            out[tuple(outer)] = chunk[tuple(inner)]
        return out

    def _read_chunk(self, number: tuple[int, ...]) -> NDArray[Any] | None:
        """Return a chunk, None where it is not there."""
        if number in self._decoded:
            self._decoded.move_to_end(number)
            return self._decoded[number]
        while len(self._decoded) and (len(self._decoded) + 1) * self.header.chunk_bytes > CACHE_BYTES:
            self._decoded.popitem(last=False)
        data = self._read_packed(number)
        self._decoded[number] = None if data is None else decode_chunk(data, self.header)
        return self._decoded[number]

    def _read_packed(self, number: tuple[int, ...]) -> bytes | None:
        header = self.header
        if header.shards is None:
            return self._store.read(self._key(number), header.stored_bytes)
        shard = tuple(index // count for index, count in zip(number, header.shards, strict=True))
        if self._shard[0] != (key := self._key(shard)):
            self._shard = "", None
            self._shard = key, self._store.read(key, header.stored_bytes)
        if (data := self._shard[1]) is None:
            return None
        inner = tuple(index % count for index, count in zip(number, header.shards, strict=True))
        return find_inner_chunk(data, int(np.ravel_multi_index(inner, header.shards)), header)

    def _key(self, number: tuple[int, ...]) -> str:
        header = self.header
        parts = [header.prefix] * bool(header.prefix) + [str(index) for index in number]
        return self._path + (header.separator.join(parts) or "0")


def find_inner_chunk(shard: bytes, number: int, header: ArrayHeader) -> bytes | None:
    """Return a chunk of a shard. Raises BadInput."""
    assert header.shards is not None
    index_bytes = 16 * math.prod(header.shards)
    tail = CRC32C_BYTES if "crc32c" in header.index_codecs else 0
    start = 0 if header.is_index_first else len(shard) - index_bytes - tail
    if start < 0 or start + index_bytes > len(shard):
        raise damaged_file_error(NAME)
    offset, length = struct.unpack_from("<QQ", shard, start + 16 * number)
    if (offset, length) == (MISSING, MISSING):
        return None
    if offset + length > len(shard):
        raise damaged_file_error(NAME)
    return shard[offset : offset + length]


def decode_chunk(data: bytes, header: ArrayHeader) -> NDArray[Any]:
    """Return the values of a packed chunk, which is always whole. Raises BadInput."""
    try:
        for name, configuration in header.codecs:
            data = DECODERS[name](data, header.chunk_bytes, configuration)
    except (MemoryError, SegserveError):
        raise
    except Exception:  # each codec has errors of its own
        raise damaged_file_error(NAME) from None
    if len(data) != header.chunk_bytes:
        raise damaged_file_error(NAME)
    stored = np.frombuffer(data, header.dtype).reshape([header.chunks[axis] for axis in header.order])
    return stored.transpose(np.argsort(header.order))


def parse_json(data: bytes) -> dict[str, Any]:
    """Raises BadInput."""
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise damaged_file_error(NAME)
    return parsed


def parse_version_2(metadata: dict[str, Any]) -> ArrayHeader:
    """Raises UnsupportedFormat, and KeyError or others of damaged metadata."""
    shape = tuple(map(int, metadata["shape"]))
    if metadata.get("filters"):
        raise unsupported_error("Zarr with filters")
    compressor = metadata.get("compressor")
    codecs = [] if compressor is None else [(str(compressor["id"]), dict(compressor))]
    axes = range(len(shape))
    return ArrayHeader(
        shape,
        tuple(map(int, metadata["chunks"])),
        None,
        np.dtype(str(metadata["dtype"])),
        tuple(reversed(axes)) if metadata.get("order") == "F" else tuple(axes),
        parse_fill(metadata.get("fill_value")),
        tuple(codecs),
        str(metadata.get("dimension_separator", ".")),
        "",
    )


def parse_version_3(metadata: dict[str, Any]) -> ArrayHeader:
    """Raises as `parse_version_2` does."""
    shape = tuple(map(int, metadata["shape"]))
    grid, keys = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if grid["name"] != "regular" or keys["name"] not in ("default", "v2"):
        raise unsupported_error("Zarr with this kind of chunks")
    chunks: tuple[int, ...] = tuple(map(int, grid["configuration"]["chunk_shape"]))
    codecs, shards = list_codecs(metadata["codecs"]), None
    index_codecs: tuple[str, ...] = ()
    is_index_first = False
    if codecs and codecs[0][0] == "sharding_indexed":
        if len(codecs) != 1:
            raise unsupported_error("Zarr whose shards are packed")
        sharding = codecs[0][1]
        inner = tuple(map(int, sharding["chunk_shape"]))
        if len(inner) != len(chunks) or any(b < 1 or a % b for a, b in zip(chunks, inner, strict=True)):
            raise damaged_file_error(NAME)
        shards = tuple(a // b for a, b in zip(chunks, inner, strict=True))
        chunks, codecs = inner, list_codecs(sharding["codecs"])
        index_codecs = tuple(name for name, _ in list_codecs(sharding.get("index_codecs", [])))
        if set(index_codecs) - {"bytes", "crc32c"}:
            raise unsupported_error("Zarr whose shards have a packed index")
        is_index_first = sharding.get("index_location", "end") == "start"
    order, packed = tuple(range(len(shape))), list[tuple[str, dict[str, Any]]]()
    is_big_endian = False
    for name, configuration in codecs:
        if name == "transpose":
            order = tuple(order[int(axis)] for axis in configuration["order"])
        elif name == "bytes":
            is_big_endian = configuration.get("endian") == "big"
        else:
            packed.append((name, configuration))
    is_default = keys["name"] == "default"
    return ArrayHeader(
        shape,
        chunks,
        shards,
        np.dtype(str(metadata["data_type"])).newbyteorder(">" if is_big_endian else "<"),
        order,
        parse_fill(metadata.get("fill_value")),
        tuple(reversed(packed)),
        str(keys.get("configuration", {}).get("separator", "/" if is_default else ".")),
        "c" if is_default else "",
        index_codecs,
        is_index_first,
    )


def list_codecs(codecs: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(str(codec["name"]), dict(codec.get("configuration", {}))) for codec in codecs[:MAX_CODECS]]


def parse_fill(value: Any) -> Any:
    """Return the value of missing chunks: a number, or one of "NaN", "Infinity" and "-Infinity"."""
    if isinstance(value, str):
        return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value, 0)
    return value if isinstance(value, int | float) else 0


def check_header(header: ArrayHeader) -> None:
    """Raises BadInput, UnsupportedFormat."""
    dimensions = len(header.shape)
    if (
        not 1 <= dimensions <= MAX_DIMENSIONS
        or len(header.chunks) != dimensions
        or min(*header.shape, *header.chunks) < 1
        or sorted(header.order) != list(range(dimensions))
        or header.separator not in ("/", ".")
    ):
        raise damaged_file_error(NAME)
    if header.dtype.kind not in "buif" or header.dtype.itemsize > 8:
        raise unsupported_error("Zarr with this type of values")
    for name, _ in header.codecs:
        if name not in DECODERS:
            raise unsupported_error(f"Zarr packed by {name[:40]}")
    if header.chunk_bytes * math.prod(header.shards or (1,)) > MAX_CHUNK_BYTES:
        raise unsupported_error(f"Zarr with chunks of over {MAX_CHUNK_BYTES >> 20} MiB")


def unpack_zlib(data: bytes, size: int, _: dict[str, Any]) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, size + 1)  # zlib or gzip


def unpack_bz2(data: bytes, size: int, _: dict[str, Any]) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, size + 1)


def unpack_lzma(data: bytes, size: int, configuration: dict[str, Any]) -> bytes:
    if configuration.get("filters"):
        raise unsupported_error("Zarr packed by LZMA with filters")
    return lzma.LZMADecompressor().decompress(data, size + 1)


def unpack_blosc(data: bytes, size: int, _: dict[str, Any]) -> bytes:
    import imagecodecs

    (stated,) = struct.unpack_from("<I", data, 4)
    if stated != size:
        raise damaged_file_error(NAME)
    return bytes(imagecodecs.blosc_decode(data, numthreads=1))


def unpack_zstd(data: bytes, size: int, _: dict[str, Any]) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.zstd_decode(data, out=size))


def unpack_lz4(data: bytes, size: int, _: dict[str, Any]) -> bytes:
    import imagecodecs

    (stated,) = struct.unpack_from("<I", data)  # as numcodecs writes it
    if stated != size:
        raise damaged_file_error(NAME)
    return bytes(imagecodecs.lz4_decode(data[4:], out=size))


def cut_checksum(data: bytes, _size: int, _configuration: dict[str, Any]) -> bytes:
    """The zip's own checksum is compared already."""
    return data[:-CRC32C_BYTES]


DECODERS: dict[str, Callable[[bytes, int, dict[str, Any]], bytes]] = {
    "blosc": unpack_blosc,
    "zstd": unpack_zstd,
    "gzip": unpack_zlib,
    "zlib": unpack_zlib,
    "lz4": unpack_lz4,
    "bz2": unpack_bz2,
    "lzma": unpack_lzma,
    "crc32c": cut_checksum,
}
