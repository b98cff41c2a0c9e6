"""Read the header of one DICOM file by pydicom, without its pixels."""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NoReturn

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.tag import Tag
from pydicom.uid import UID

from segserve.files.dicom.detect_dicom import HEAD_BYTES, MAGIC, PREAMBLE_BYTES
from segserve.files.dicom.functional_groups import (
    FrameGroups,
    number,
    numbers,
    text,
    texts,
    unit_orientation,
    value_of,
)
from segserve.files.dicom.grayscale import LookupTable, Shading
from segserve.files.dicom.image_file import Frame, ImageFile, Key, PixelFormat
from segserve.files.dicom.siemens_mosaic import MOSAIC_TAGS, read_mosaic

# Of a data set in the deflated transfer syntax, unpacked.
MAX_INFLATED_BYTES = 1 << 29
DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"}
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DIRECTORY = "1.2.840.10008.1.3.10"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
PIXEL_KEYWORDS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
WHOLE_MOSAIC = (
    "It is a Siemens mosaic whose private elements, which say how many slices it has, are missing or damaged."
)
# Frames of one object, far more than any scanner makes.
MAX_FRAMES = 1_000_000
PALETTE = [
    f"{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for part in ("Descriptor", "Data")
] + [f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")]
# What is read of a header; all else is skipped.
TAGS: list[Any] = [
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "SeriesNumber", "InstanceNumber", "Modality", "SeriesDescription", "StudyDescription",
    "ImageType", "AcquisitionNumber", "AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "ContentTime",
    "TemporalPositionIdentifier", "EchoTime", "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime",
    "NominalCardiacTriggerDelayTime", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SliceThickness", "SpacingBetweenSlices", "FrameTime",
    "CineRate", "RecommendedDisplayFrameRate", "FrameIncrementPointer", "GridFrameOffsetVector",
    "DetectorInformationSequence", "DimensionOrganizationType", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", *PALETTE, *MOSAIC_TAGS,
]  # fmt: skip


TAG_NUMBERS: list[Any] = [Tag(tag) for tag in TAGS]


class NotAnImage(Exception):
    """The file is DICOM without pixels, or no DICOM at all. Its text is a sentence."""


class HeaderCutShort(Exception):
    """The file ends within its header. series_uid: empty where that is not known. at: bytes that are there."""

    def __init__(self, series_uid: str, at: int) -> None:
        super().__init__(series_uid)
        self.series_uid, self.at = series_uid, at


@dataclass(frozen=True, slots=True)
class Header:
    """`Header` is an image's file and its frames."""

    file: ImageFile
    frames: tuple[Frame, ...]


def inflate(stream: BinaryIO) -> bytes:
    """Return the data set of a file in the deflated syntax, which follows its meta information. Raises EOFError."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(stream.read(), MAX_INFLATED_BYTES)
    if not unpacker.eof:
        raise EOFError
    return data


def read_header(stream: BinaryIO, entry: int, name: str) -> Header:
    """Read the header of a file. stream: may be its beginning only.

    Raises NotAnImage; HeaderCutShort where the stream ends within the header.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set, syntax, at, data = parse_data_set(stream)
        uid = text(data_set, "SeriesInstanceUID")
        keyword = read_pixel_keyword(data, syntax)
        if keyword is None:
            refuse_without_pixels(data_set, stream, uid)
        if text(data_set, "SOPClassUID") == WHOLE_SLIDE or text(
            data_set, "DimensionOrganizationType"
        ).startswith("TILED"):
            raise NotAnImage("It is tiles of a whole slide, which are read as TIFF or SVS.")
        return build_header(data_set, syntax, at, keyword, entry, name)


def parse_data_set(stream: BinaryIO) -> tuple[Dataset, str, int, bytes]:
    """Return the elements of TAGS before the pixels, the transfer syntax, the offset of the pixels' element, and the
    first bytes of that element. Raises NotAnImage, HeaderCutShort."""
    start = stream.tell()
    has_preamble = stream.read(HEAD_BYTES)[PREAMBLE_BYTES:] == MAGIC
    stream.seek(start)
    try:
        data_set: Dataset = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=TAG_NUMBERS)
        syntax = str(data_set.file_meta.get("TransferSyntaxUID", "") or "")
        if syntax in DEFLATED:
            stream.seek(start)
            meta_end = find_meta_end(stream)
            stream.seek(meta_end)
            inflated = io.BytesIO(inflate(stream))
            from pydicom.filereader import read_dataset

            data_set = read_dataset(inflated, False, True, stop_when=is_pixels, specific_tags=TAG_NUMBERS)
            at = inflated.tell()
            return data_set, syntax, at, inflated.read(16)
        if not syntax:
            implicit, little = data_set.original_encoding
            syntax = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
        at = stream.tell()
        return data_set, syntax, at, stream.read(16)
    except (EOFError, zlib.error):
        raise HeaderCutShort("", size_of(stream)) from None
    except (NotAnImage, MemoryError):
        raise
    except Exception:  # pydicom may raise anything for a damaged file
        if has_preamble:
            raise HeaderCutShort("", size_of(stream)) from None
        raise NotAnImage("It is damaged, or no DICOM file.") from None


def read_texts(stream: BinaryIO, keywords: Sequence[str]) -> dict[str, str]:
    """Return the texts of these elements by keyword, those that the file has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(keywords))
        return {keyword: text(data_set, keyword) for keyword in keywords if keyword in data_set}


def find_meta_end(stream: BinaryIO) -> int:
    """Return where the data set begins after the file's meta information."""
    from pydicom.filereader import read_preamble

    read_preamble(stream, True)
    while True:
        at = stream.tell()
        head = stream.read(8)
        if len(head) < 8:
            raise EOFError
        group, _, vr, length = struct.unpack("<HH2sH", head)
        if group != 2:
            return at
        if vr in (b"OB", b"UN", b"OW", b"UT", b"SQ"):
            (length,) = struct.unpack("<I", stream.read(4))
        stream.seek(length, io.SEEK_CUR)


def is_pixels(tag: Any, vr: str | None, length: int) -> bool:
    return int(tag) in PIXEL_KEYWORDS


def size_of(stream: BinaryIO) -> int:
    return stream.seek(0, io.SEEK_END)


def read_pixel_keyword(data: bytes, syntax: str) -> str | None:
    if len(data) < 4:
        return None
    group, element = struct.unpack_from(">HH" if syntax == EXPLICIT_BIG else "<HH", data)
    return PIXEL_KEYWORDS.get(group << 16 | element)


def refuse_without_pixels(data_set: Dataset, stream: BinaryIO, series_uid: str) -> NoReturn:
    """Raises HeaderCutShort for an image, which must have pixels, otherwise NotAnImage."""
    meta = getattr(data_set, "file_meta", Dataset())
    class_uid = text(data_set, "SOPClassUID") or text(meta, "MediaStorageSOPClassUID")
    if class_uid == DIRECTORY or "DirectoryRecordSequence" in data_set:
        raise NotAnImage("It is the directory of the files.")
    name = UID(class_uid).name.removesuffix(" Storage") if class_uid else ""
    if ("Rows" in data_set and "Columns" in data_set) or "Image" in name or name in ("", "RT Dose"):
        raise HeaderCutShort(series_uid, size_of(stream))
    raise NotAnImage(f"It holds no image: {name[:60]}.")


def build_header(data_set: Dataset, syntax: str, at: int, keyword: str, entry: int, name: str) -> Header:
    pixels = read_pixel_format(data_set, syntax, at, keyword)
    file = ImageFile(
        entry=entry,
        name=name,
        pixels=pixels,
        sop_class_uid=text(data_set, "SOPClassUID"),
        sop_instance_uid=text(data_set, "SOPInstanceUID"),
        study_uid=text(data_set, "StudyInstanceUID"),
        series_uid=text(data_set, "SeriesInstanceUID"),
        frame_of_reference_uid=text(data_set, "FrameOfReferenceUID"),
        series_number=int(number(data_set, "SeriesNumber") or 0),
        instance_number=int(number(data_set, "InstanceNumber") or 0),
        modality=text(data_set, "Modality")[:16],
        description=(text(data_set, "SeriesDescription") or text(data_set, "StudyDescription")).strip(),
        is_localizer="LOCALIZER" in texts(data_set, "ImageType"),
        frame_time_ms=read_frame_time(data_set),
        palette=read_palette(data_set, pixels),
    )
    return Header(file, tuple(build_frames(data_set, file)))


def read_pixel_format(data_set: Dataset, syntax: str, at: int, keyword: str) -> PixelFormat:
    """Raises NotAnImage where the attributes contradict each other."""

    def whole(keyword: str, default: int) -> int:
        value = number(data_set, keyword)
        return default if value is None else int(value)

    allocated = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(keyword) or whole("BitsAllocated", 0)
    pixels = PixelFormat(
        transfer_syntax=syntax,
        at=at,
        keyword=keyword,
        rows=whole("Rows", 0),
        columns=whole("Columns", 0),
        samples=whole("SamplesPerPixel", 1),
        photometric=text(data_set, "PhotometricInterpretation").strip().upper() or "MONOCHROME2",
        bits_allocated=allocated,
        bits_stored=whole("BitsStored", allocated) if keyword == "PixelData" else allocated,
        is_signed=whole("PixelRepresentation", 0) == 1,
        planar=whole("PlanarConfiguration", 0),
        frames=max(1, whole("NumberOfFrames", 1)),
    )
    is_sound = (
        pixels.rows > 0
        and pixels.columns > 0
        and pixels.samples in (1, 3)
        and allocated in (1, 8, 16, 32, 64)
        and 0 < pixels.bits_stored <= allocated
        and pixels.frames <= MAX_FRAMES
    )
    if not is_sound:
        raise NotAnImage(
            f"Its header is not that of an image that is read: {pixels.columns} x {pixels.rows}, {pixels.samples}"
            f" samples of {allocated} bits."
        )
    return pixels


def read_frame_time(data_set: Dataset) -> float | None:
    """Return milliseconds from frame to frame of a cine loop, or None."""
    if (time := number(data_set, "FrameTime")) is not None and time > 0:
        return time
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        if (rate := number(data_set, keyword)) is not None and rate > 0:
            return 1000 / rate
    return None


def read_palette(
    data_set: Dataset, pixels: PixelFormat
) -> tuple[LookupTable, LookupTable, LookupTable] | None:
    """Return the tables of PALETTE COLOR, expanded by pydicom, or None. Raises NotAnImage."""
    if pixels.photometric != "PALETTE COLOR":
        return None
    try:
        count, first, bits = (int(value) for value in data_set["RedPaletteColorLookupTableDescriptor"].value)
        count = count or 1 << 16
        if pixels.is_signed and first >= 1 << 15:
            first -= 1 << 16
        colours = apply_color_lut(np.arange(first, first + count), data_set)
        if pixels.transfer_syntax == EXPLICIT_BIG and colours.dtype.itemsize == 2:
            colours = colours.byteswap()  # pydicom takes all tables for little-endian
    except Exception:
        raise NotAnImage("Its palette is missing or damaged.") from None
    bits = 8 * colours.dtype.itemsize
    tables = [LookupTable(first, np.ascontiguousarray(colours[:, c]).tobytes(), bits) for c in range(3)]
    return tables[0], tables[1], tables[2]


def read_table(items: Any, *, is_signed: bool, is_big_endian: bool) -> LookupTable | None:
    """Return the table of the first item of a Modality or VOI LUT Sequence, or None.

    is_big_endian: words in bytes are, which pydicom leaves as they are.
    """
    if not items:
        return None
    with suppress(Exception):
        item = items[0]
        count, first, bits = (int(value) for value in item["LUTDescriptor"].value)
        count = count or 1 << 16
        if is_signed and first >= 1 << 15:
            first -= 1 << 16
        data = item["LUTData"].value
        if isinstance(data, bytes):
            words = np.frombuffer(data[: len(data) // 2 * 2], ">u2" if is_big_endian else "<u2").astype("<u2")
            entries = words if len(words) >= count else words.view("u1")
        else:
            entries = np.atleast_1d(np.asarray(data, np.uint16))
        if len(entries) >= count and 0 < bits <= 16:
            kind = "<u1" if bits <= 8 else "<u2"
            return LookupTable(first, entries[:count].astype(kind).tobytes(), bits)
    return None


def read_shading(rescale: Dataset, window: Dataset, data_set: Dataset, pixels: PixelFormat) -> Shading:
    """Return the shading. rescale, window: the data sets that hold these attributes. data_set: of the file."""
    is_signed, is_big_endian = pixels.is_signed, pixels.transfer_syntax == EXPLICIT_BIG
    slope, intercept = number(rescale, "RescaleSlope"), number(rescale, "RescaleIntercept")
    centers, widths = numbers(window, "WindowCenter"), numbers(window, "WindowWidth")
    has_window = bool(centers and widths and widths[0] > 0)
    modality_table = read_table(
        value_of(data_set, "ModalityLUTSequence"), is_signed=is_signed, is_big_endian=is_big_endian
    )
    voi_table = read_table(
        value_of(data_set, "VOILUTSequence"),
        is_signed=is_signed or (intercept or 0) < 0,
        is_big_endian=is_big_endian,
    )
    return Shading(
        slope=slope if slope else 1.0,
        intercept=intercept or 0.0,
        modality_table=modality_table,
        center=centers[0] if has_window else None,
        width=widths[0] if has_window else None,
        function=text(window, "VOILUTFunction").strip().upper() or "LINEAR",
        voi_table=voi_table,
        is_inverted=text(data_set, "PhotometricInterpretation").strip().upper() == "MONOCHROME1"
        or text(data_set, "PresentationLUTShape").strip().upper() == "INVERSE",
    )


def build_frames(data_set: Dataset, file: ImageFile) -> list[Frame]:
    """Return the frames of a file: one, those of an enhanced or multi-frame object, or the tiles of a mosaic."""
    pixels = file.pixels
    size = pixels.rows, pixels.columns
    if "PerFrameFunctionalGroupsSequence" in data_set or "SharedFunctionalGroupsSequence" in data_set:
        groups = FrameGroups(data_set)
        return [
            Frame(
                file,
                index,
                size,
                groups.position(index),
                groups.orientation(index),
                groups.pixel_spacing(index),
                groups.slice_spacing(index),
                groups.keys(index),
                read_shading(
                    groups.find(index, "PixelValueTransformationSequence"),
                    groups.find(index, "FrameVOILUTSequence"),
                    data_set,
                    pixels,
                ),
                stack=groups.stack(index),
            )
            for index in range(pixels.frames)
        ]
    detector = first_item(data_set, "DetectorInformationSequence")
    orientation = read_orientation(data_set) or read_orientation(detector)
    position = read_position(data_set) or read_position(detector)
    shading = read_shading(data_set, data_set, data_set, pixels)
    spacing = read_pixel_spacing(data_set)
    slice_spacing = number(data_set, "SpacingBetweenSlices") or number(data_set, "SliceThickness") or None
    keys = read_keys(data_set)

    def make_frame(
        index: int, position: Any, note: str = "", tile: Any = None, tile_size: Any = size
    ) -> Frame:
        return Frame(
            file, index, tile_size, position, orientation if position else None, spacing, slice_spacing, keys,
            shading, tile, notes=(note,) if note else (),
        )  # fmt: skip

    if pixels.frames == 1:
        if "MOSAIC" in texts(data_set, "ImageType"):
            mosaic = None
            if position and orientation and spacing:
                mosaic = read_mosaic(data_set, size, position, orientation, spacing, slice_spacing)
            if mosaic is None:
                return [replace(make_frame(0, position), problem=WHOLE_MOSAIC)]
            return [make_frame(0, at, "", tile, mosaic.size) for at, tile in mosaic.tiles]
        return [make_frame(0, position)]
    offsets, note = read_offsets(data_set, file, orientation, slice_spacing)
    if position is None or orientation is None or offsets is None:
        return [make_frame(index, None) for index in range(pixels.frames)]
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        make_frame(index, tuple((np.array(position) + offset * normal).tolist()), note)
        for index, offset in enumerate(offsets)
    ]


def read_offsets(
    data_set: Dataset, file: ImageFile, orientation: Any, slice_spacing: float | None
) -> tuple[Sequence[float] | None, str]:
    """Return the distance of each frame from the file's one position, in mm along the normal, and a note on how it is
    known; None for a cine loop, whose frames are at one place."""
    frames = file.pixels.frames
    offsets = numbers(data_set, "GridFrameOffsetVector")
    if len(offsets) >= frames:
        first = offsets[0]  # relative to the position, or positions of their own (PS3.3, C.8.8.3.2)
        return [offset - first for offset in offsets[:frames]], ""
    if file.frame_time_ms is not None or orientation is None or not slice_spacing:
        return None, ""
    named = "spacing between slices" if number(data_set, "SpacingBetweenSlices") else "slice thickness"
    note = (
        f"The file has one position for all frames; they are {abs(slice_spacing):g} mm apart by its {named}."
    )
    return [index * abs(slice_spacing) for index in range(frames)], note


def first_item(data_set: Dataset, keyword: str) -> Dataset:
    with suppress(Exception):
        return data_set[keyword].value[0]  # type: ignore[no-any-return]
    return Dataset()


def read_position(data_set: Dataset) -> tuple[float, float, float] | None:
    values = numbers(data_set, "ImagePositionPatient")
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def read_orientation(data_set: Dataset) -> Any:
    values = numbers(data_set, "ImageOrientationPatient")
    return unit_orientation(values)


def read_pixel_spacing(data_set: Dataset) -> tuple[float, float] | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = numbers(data_set, keyword)
        if len(values) == 2 and min(values) > 0:
            return values[0], values[1]
    return None


def read_keys(data_set: Dataset) -> tuple[Key, ...]:
    """Return the values of KEY_NAMES of a file with one frame."""

    def one(keyword: str) -> Key:
        value = number(data_set, keyword)
        return () if value is None else (value,)

    b_value = one("DiffusionBValue")
    return (
        one("TemporalPositionIdentifier"),
        one("EchoTime"),
        (*b_value, *numbers(data_set, "DiffusionGradientOrientation")) if b_value else (),
        one("TriggerTime") or one("NominalCardiacTriggerDelayTime"),
        tuple(texts(data_set, "ImageType")),
        (),
        one("AcquisitionNumber"),
        (
            text(data_set, "AcquisitionDateTime")
            or text(data_set, "AcquisitionDate") + text(data_set, "AcquisitionTime"),
        ),
        (text(data_set, "ContentTime"),),
    )
