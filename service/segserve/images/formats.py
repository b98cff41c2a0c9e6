"""Every image format: its name, suffixes and media types, how it is recognised, and whether it is read at all.

Formats are recognised by content, never by a file's name. This table is what the documentation lists, what zips and
folders of pictures are searched for, and what the page's file picker offers; tests compare them.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from segserve.errors import BadInput, UnsupportedFormat

# Bytes from which every format but TGA is recognised: DICOM has its signature at 128.
HEAD_BYTES = 132
GZIP_MAGIC = b"\x1f\x8b"
# Of a gzip stream, to have HEAD_BYTES of what it holds: a name and a table of codes come first.
GZIP_HEAD_BYTES = 4096


@dataclass(frozen=True)
class ImageFormat:
    """`ImageFormat` is a format that is read.

    suffixes: of files, with the dot.
    sandboxed: its decoder's memory or time cannot be bounded by checks of the header, or its library is not trusted
        that far: it is decoded in a sandboxed process only.
    """

    name: str
    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    sandboxed: bool


PNG = ImageFormat("PNG", (".png", ".apng"), ("image/png", "image/apng"), False)
JPEG = ImageFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), ("image/jpeg",), False)
WEBP = ImageFormat("WebP", (".webp",), ("image/webp",), False)
BMP = ImageFormat("BMP", (".bmp", ".dib"), ("image/bmp",), False)
TIFF = ImageFormat("TIFF", (".tif", ".tiff", ".svs", ".stk", ".btf"), ("image/tiff",), False)
GIF = ImageFormat("GIF", (".gif",), ("image/gif",), True)
HEIC = ImageFormat("HEIC", (".heic", ".heif", ".hif"), ("image/heic", "image/heif"), True)
AVIF = ImageFormat("AVIF", (".avif",), ("image/avif",), True)
JPEG_2000 = ImageFormat(
    "JPEG 2000",
    (".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
    ("image/jp2", "image/jpx", "image/j2c"),
    True,
)
JPEG_XL = ImageFormat("JPEG XL", (".jxl",), ("image/jxl",), True)
PNM = ImageFormat(
    "PNM",
    (".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm"),
    (
        "image/x-portable-bitmap",
        "image/x-portable-graymap",
        "image/x-portable-pixmap",
        "image/x-portable-anymap",
    ),
    True,
)
PSD = ImageFormat("PSD", (".psd", ".psb"), ("image/vnd.adobe.photoshop",), True)
TGA = ImageFormat("TGA", (".tga", ".icb", ".vda", ".vst"), ("image/x-tga",), True)

CZI = ImageFormat("CZI", (".czi",), ("image/x-zeiss-czi",), True)
LIF = ImageFormat("LIF", (".lif",), ("image/x-leica-lif",), True)
ND2 = ImageFormat("ND2", (".nd2",), ("image/x-nikon-nd2",), True)
OME_ZARR = ImageFormat("OME-Zarr", (".ozx", ".zarr.zip"), ("application/ozx",), True)
DICOM = ImageFormat("DICOM", (".dcm", ".dicom"), ("application/dicom",), True)

IMAGE_FORMATS = (
    PNG, JPEG, WEBP, BMP, TIFF, GIF, HEIC, AVIF, JPEG_2000, JPEG_XL, PNM, PSD, TGA, DICOM, CZI, LIF, ND2, OME_ZARR,
)  # fmt: skip
IMAGE_SUFFIXES = frozenset(suffix for image_format in IMAGE_FORMATS for suffix in image_format.suffixes)
SUPPORTED_FORMATS = ", ".join(image_format.name for image_format in IMAGE_FORMATS)

_MAGIC_BYTES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"BM", BMP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"\xff\x4f\xff\x51", JPEG_2000),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG_2000),
    (b"\xff\x0a", JPEG_XL),
    (b"\0\0\0\x0cJXL \r\n\x87\n", JPEG_XL),
    (b"8BPS", PSD),
    (b"ZISRAWFILE", CZI),
    (b"\xda\xce\xbe\x0a", ND2),
)
# Brands of ISO base media files (ISO/IEC 14496-12) that hold pictures: MIAF and HEIF (ISO/IEC 23008-12), AVIF.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"mif1", b"msf1", b"mif2"}
# PNM's header ends its number with a space, and PFM's and PAM's with a line.
_PNM_NUMBERS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"PF", b"Pf")

# What the first entry of a zip with an OME-Zarr is: metadata, or in a folder that is named so.
_ZARR_NAMES = (b"zarr.json", b".zgroup", b".zattrs")
_ZARR_FOLDER = b".zarr/"
_ZIP_MAGIC = b"PK\3\4"

# Begins as PAM does.
_XV_THUMBNAIL = b"P7 332"

# Formats that are known and not read, by the bytes that a file begins with.
_UNREAD_MAGIC_BYTES = (
    (_XV_THUMBNAIL, "XV thumbnail"),
    (b"II\xbc", "JPEG XR"),
    (b"\xff\x10\xff\x50", "JPEG XS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"\0\0\1\0", "ICO"),
    (b"DDS ", "DDS"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"gimp xcf", "XCF"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw (RAF)"),
    (b"IIU\0", "Panasonic raw (RW2)"),
    (b"IIRO", "Olympus raw (ORF)"),
    (b"IIRS", "Olympus raw (ORF)"),
    (b"MMOR", "Olympus raw (ORF)"),
    (b"FOVb", "Sigma raw (X3F)"),
    (b"\0MRM", "Minolta raw (MRW)"),
    (b"SIMPLE  =", "FITS"),
    (b"AT&TFORM", "DjVu"),
    (b"FLIF", "FLIF"),
    (b"qoif", "QOI"),
    (b"BPG\xfb", "BPG"),
    (b"\x8aMNG", "MNG"),
    (b"\x8bJNG", "JNG"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x01\xda\0\1", "SGI"),
    (b"\x01\xda\1\1", "SGI"),
    (b"\x01\xda\1\2", "SGI"),
    (b"\x0a\x05\1\x08", "PCX"),
    (b"/* XPM */", "XPM"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\1\0\0\0\x6c\0\0\0", "EMF"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy's NPY"),
    (GZIP_MAGIC, "gzip"),
)
_HTML_BEGINNINGS = (b"<!doctype html", b"<html", b"<head", b"<script")
# Every tag of an SVG may come after a comment.
_XML_BEGINNINGS = (b"<?xml", b"<svg", b"<!doctype svg", b"<!--")


def detect_image_format(stream: BinaryIO) -> ImageFormat:
    """Return the format of a seekable file. Raises BadInput for an empty file, UnsupportedFormat naming the format."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if not head:
        raise BadInput("The file is empty.", remedy="Send the image's bytes.", field="file")
    if (known := _detect_by_head(head)) is not None:
        return known
    if unpack_gzip_head(stream)[128:] == b"DICM":  # some archives keep each file packed
        return DICOM
    if (name := _detect_unread(head)) is not None:
        raise unread_format_error(name)
    if is_tga(stream):
        return TGA
    raise UnsupportedFormat(
        "The file is in no image format that is read.",
        remedy=f"Send {SUPPORTED_FORMATS}. Volumes, stacks and videos go to POST /v1/files.",
        field="file",
    )


def _detect_by_head(head: bytes) -> ImageFormat | None:
    if head[128:132] == b"DICM":  # before others: a preamble may look like one of them
        return DICOM
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[4:8] == b"ftyp":
        return detect_heif(head)
    if head[:4] == b"p\0\0\0" and head[8:9] == b"*" and head[13:15] == b"<\0":  # a header of XML in UTF-16
        return LIF
    if head.startswith(_ZIP_MAGIC) and begins_ome_zarr(head):
        return OME_ZARR
    if head[:2] in _PNM_NUMBERS and head[2:3].isspace() and not head.startswith(_XV_THUMBNAIL):
        return PNM
    return next((known for magic, known in _MAGIC_BYTES if head.startswith(magic)), None)


def begins_ome_zarr(head: bytes) -> bool:
    """Return whether a zip begins as one with an OME-Zarr: by the name of its first entry (APPNOTE 4.3.7)."""
    (length,) = struct.unpack_from("<H", head.ljust(30, b"\0"), 26)
    name = head[30 : 30 + length]
    return name.endswith(_ZARR_NAMES) or _ZARR_FOLDER in name


def unpack_gzip_head(stream: BinaryIO) -> bytes:
    """Return the first HEAD_BYTES of what a gzip file holds; nothing where it is none, or damaged."""
    stream.seek(0)
    data = stream.read(GZIP_HEAD_BYTES)
    if not data.startswith(GZIP_MAGIC):
        return b""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, HEAD_BYTES)
    except zlib.error:
        return b""


def detect_heif(head: bytes) -> ImageFormat | None:
    """Return HEIC or AVIF for the beginning of an ISO base media file that holds a picture, None for a video."""
    if head[4:8] != b"ftyp":
        return None
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if head[8:12] not in _HEIC_BRANDS | _AVIF_BRANDS | _HEIF_BRANDS:
        return None
    return AVIF if brands & _AVIF_BRANDS and not brands & _HEIC_BRANDS else HEIC


def _detect_unread(head: bytes) -> str | None:
    """Return what to call a file of a format that is not read."""
    for magic, name in _UNREAD_MAGIC_BYTES:
        if head.startswith(magic):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_HTML_BEGINNINGS):
        return "HTML, a web page and no image,"
    if text.startswith(_XML_BEGINNINGS):
        return "SVG" if b"<svg" in text or text.startswith(b"<!doctype svg") else "XML"
    if head[4:8] == b"ftyp":
        return "Canon raw (CR3)" if head[8:12] == b"crx " else "A video as an image"
    return "A zip as an image" if head.startswith(_ZIP_MAGIC) else None


def unread_format_error(name: str) -> UnsupportedFormat:
    """Return the refusal of a file that is in no format that is read. name: of its format."""
    remedy = f"Send {SUPPORTED_FORMATS}."
    if name.startswith(("A video", "A zip")):
        remedy = "Send it to POST /v1/files."
    return UnsupportedFormat(f"{name} is not read.", remedy=remedy, field="file")


def is_tga(stream: BinaryIO) -> bool:
    """Return whether a file is a TGA. The format has no signature at its start, so its whole header must make sense."""
    stream.seek(0)
    head = stream.read(18)
    file_bytes = stream.seek(0, 2)
    if len(head) < 18:
        return False
    id_bytes, has_palette, kind, first, colours, colour_bits = struct.unpack_from("<BBBHHB", head)
    width, height, bits, flags = struct.unpack_from("<HHBB", head, 12)
    depths = {1: (8,), 2: (15, 16, 24, 32), 3: (8, 16)}.get(kind & 7, ())
    if has_palette > 1 or kind & ~0xB or bits not in depths or not width or not height or flags & 0xC0:
        return False
    if has_palette and (colour_bits not in (15, 16, 24, 32) or not colours):
        return False
    if not has_palette and (kind & 7 == 1 or first or colours or colour_bits):
        return False
    header_bytes = 18 + id_bytes + has_palette * colours * ((colour_bits + 7) // 8)
    # A packet of the run-length encoding stands for at most 128 pixels.
    pixels = width * height
    least = 2 * -(-pixels // 128) if kind & 8 else pixels * ((bits + 7) // 8)
    return bool(header_bytes + least <= file_bytes)
