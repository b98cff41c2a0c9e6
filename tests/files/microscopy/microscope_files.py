"""Write LIF and ND2, as much of them as readers need."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# DimID of LIF by the name of an axis.
DIMENSIONS = {"x": 1, "y": 2, "z": 3, "t": 4, "l": 5}


def write_lif(
    path: Path,
    images: Sequence[tuple[str, str, NDArray[Any]]],
    *,
    is_long: bool = True,
    tags: Sequence[int] = (),
    prefix: str = "",
) -> Path:
    """Write images of (name, axes, values), as they lie in memory. Axes: of "tczyxl", the slowest first.

    tags: ChannelTag of the channels. prefix: put before the XML.
    """
    elements, blocks = "", b""
    for number, (name, axes, drawn) in enumerate(images):
        values = np.ascontiguousarray(drawn)
        steps = dict(zip(axes, values.strides, strict=True))
        sizes = dict(zip(axes, values.shape, strict=True))
        bits, kind = 8 * values.dtype.itemsize, int(values.dtype.kind == "f")
        channels = "".join(
            f'<ChannelDescription DataType="{kind}" ChannelTag="{tags[channel] if tags else 0}" Resolution="{bits}"'
            f' NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0"'
            f' BytesInc="{channel * steps.get("c", 0)}" BitInc="0" />'
            for channel in range(sizes.get("c", 1))
        )
        dimensions = "".join(
            f'<DimensionDescription DimID="{DIMENSIONS[axis]}" NumberOfElements="{sizes[axis]}" Origin="0" Length="1"'
            f' Unit="m" BytesInc="{steps[axis]}" BitInc="0" />'
            for axis in reversed(axes)
            if axis != "c"
        )
        elements += (
            f'<Element Name="{name}" Visibility="1" CopyOption="1" UniqueID="{number}"><Memory Size="{values.nbytes}"'
            f' MemoryBlockID="MemBlock_{number}" /><Data><Image TextDescription=""><ImageDescription><Channels>'
            f"{channels}</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
            "<Children /></Element>"
        )
        form = "<IIBQBI" if is_long else "<IIBIBI"
        block = f"MemBlock_{number}"
        blocks += struct.pack(form, 0x70, 22, 0x2A, values.nbytes, 0x2A, len(block)) + block.encode(
            "utf-16-le"
        )
        blocks += values.tobytes()
    xml = (
        f'{prefix}<LMSDataContainerHeader Version="{2 if is_long else 1}"><Element Name="experiment" Visibility="1"'
        f' CopyOption="1" UniqueID="root"><Data><Experiment Path="x" /></Data><Memory Size="0" MemoryBlockID="root" />'
        f"<Children>{elements}</Children></Element></LMSDataContainerHeader>"
    )
    head = struct.pack("<IIBI", 0x70, 2 * len(xml) + 5, 0x2A, len(xml))
    path.write_bytes(head + xml.encode("utf-16-le") + blocks)
    return path


def encode_variant(name: str, value: Any) -> bytes:
    """Encode a lite variant: a number, a text, flags or a level of more of them."""
    title = (name + "\0").encode("utf-16-le")
    if isinstance(value, dict):
        head = struct.pack("BB", 11, len(name) + 1) + title
        offsets, items = b"", b""
        for key, item in value.items():
            offsets += struct.pack("<Q", len(head) + 12 + len(items))
            items += encode_variant(key, item)
        return head + struct.pack("<IQ", len(value), len(head) + 12 + len(items)) + items + offsets
    kind, data = {
        bool: lambda: (1, struct.pack("<?", value)),
        int: lambda: (3, struct.pack("<I", value)),
        float: lambda: (6, struct.pack("<d", value)),
        str: lambda: (8, (value + "\0").encode("utf-16-le")),
        bytes: lambda: (9, struct.pack("<Q", len(value)) + value),
    }[type(value)]()
    return struct.pack("BB", kind, len(name) + 1) + title + data


def encode_xml(name: str, value: dict[str, Any]) -> bytes:
    """Encode what version 2 of ND2 has in place of a lite variant."""

    def node(key: str, item: Any) -> str:
        key = key or "i0000000000"
        if isinstance(item, dict):
            return f'<{key} runtype="CLxListVariant">{"".join(node(*each) for each in item.items())}</{key}>'
        kind = {int: "lx_uint32", bool: "bool", float: "double", str: "CLxStringW"}[type(item)]
        return f'<{key} runtype="{kind}" value="{str(item).lower()}"/>'

    return f'<?xml version="1.0" encoding="UTF-8"?><variant version="1.0">{node("no_name", value)}</variant>'.encode()


TIME = {"dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}


def make_loop(kind: str, count: int, inner: dict[str, Any] | None, flags: bytes = b"") -> dict[str, Any]:
    """Make a loop of the kind T, P, Z or N (uneven in time)."""
    parameters: dict[str, Any] = {"uiCount": count}
    if kind == "T":
        parameters |= TIME
    if kind == "N":
        period = {"uiCount": count, **TIME}
        parameters |= {"uiPeriodCount": 1, "pPeriod": {"": period}, "pPeriodValid": b"\1"}
    if kind == "Z":
        parameters |= {
            "dZLow": 0.0,
            "dZHigh": 1.0,
            "dZStep": 1.0,
            "dZHome": 0.0,
            "bAbsolute": False,
            "iType": 0,
        }
    if kind == "P":
        point = {"dPosX": 0.0, "dPosY": 0.0, "dPosZ": 0.0, "pPosName": "", "dPFSOffset": 0.0}
        parameters["Points"] = {f"i{number:010}": point for number in range(count)}
    loop: dict[str, Any] = {"eType": {"T": 1, "P": 2, "Z": 4, "N": 8}[kind], "uLoopPars": parameters}
    if flags:
        loop["pItemValid"] = flags
    if inner is not None:
        loop |= {"uiNextLevelCount": 1, "ppNextLevelEx": {"": inner}}
    return loop


def write_nd2(
    path: Path,
    values: NDArray[Any],
    loops: Sequence[tuple[str, int]],
    *,
    is_packed: bool = False,
    version: int = 3,
    pad: int = 0,
    flags: bytes = b"",
    channels: int | None = None,
) -> Path:
    """Write images [N, H, W, C] in the order of recording.

    loops: (kind, count), the outermost first. pad: bytes behind each row. flags: which positions are valid.
    channels: planes, each of several components.
    """
    count, height, width, components = values.shape
    row_bytes = width * components * values.dtype.itemsize + pad
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": row_bytes,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": 8 * values.dtype.itemsize,
        "uiBpcSignificant": 8 * values.dtype.itemsize,
        "uiSequenceCount": count,
        "eCompression": 0 if is_packed else 2,
        "dCompressionParam": 1.0,
        "uiTileWidth": width,
        "uiTileHeight": height,
    }
    experiment: dict[str, Any] | None = None
    for kind, size in reversed(loops):
        experiment = make_loop(kind, size, experiment, flags if kind == "P" else b"")
    suffix, encode = (b"LV", encode_variant) if version == 3 else (b"", encode_xml)
    planes = {"sPicturePlanes": {"uiCount": channels or components}}
    chunks: dict[bytes, bytes] = {
        b"ImageAttributes" + suffix + b"!": encode("SLxImageAttributes", attributes)
    }
    chunks[b"ImageMetadataSeq" + suffix + b"|0!"] = encode("SLxPictureMetadata", planes)
    if experiment is not None:
        chunks[b"ImageMetadata" + suffix + b"!"] = encode("SLxExperiment", experiment)
    for number, image in enumerate(values):
        rows = image.reshape(height, -1).view(np.uint8).reshape(height, -1)
        data = np.pad(rows, ((0, 0), (0, pad))).tobytes()
        chunks[f"ImageDataSeq|{number}!".encode()] = struct.pack("<d", 0) + (
            zlib.compress(data) if is_packed else data
        )
    signature = b"ND2 FILE SIGNATURE CHUNK NAME01!"
    out = encode_chunk(signature, f"Ver{version}.0".encode().ljust(64, b"\0"), 32)
    table = b""
    for name, data in chunks.items():
        table += name + struct.pack("<QQ", len(out), len(data))
        out += encode_chunk(name, data, 4072)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    place = struct.pack("<Q", len(out))
    out += encode_chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", table + end + place, 4072)
    path.write_bytes(out + end + place)
    return path


def encode_chunk(name: bytes, data: bytes, name_bytes: int) -> bytes:
    return struct.pack("<IIQ", 0x0ABECEDA, name_bytes, len(data)) + name.ljust(name_bytes, b"\0") + data
