"""Read frames as they are stored: the values of grayscale, or RGB."""

import io
import struct
import warnings
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from segserve.errors import BadInput, UnsupportedFormat
from segserve.files.dicom import decode_codestream
from segserve.files.dicom.decode_codestream import WrongCodestream
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.image_file import Frame, ImageFile, PixelFormat
from segserve.files.dicom.read_header import DEFLATED, EXPLICIT_BIG, IMPLICIT_LITTLE, find_meta_end, inflate
from segserve.sandbox.confine import allow_memory
from segserve.types import UInt8

ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
UNDEFINED_LENGTH = 0xFFFFFFFF
NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", *DEFLATED}
LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"UN"}
# Of a decoder, for each byte of a frame: what comes in, what goes out and what lies between.
DECODING_BYTES = 24


class StoredFrames:
    """`StoredFrames` reads frames of an upload. It keeps the file that was read last open. Close it.

    is_claimed: the service has already taken what decoding needs from its budget.
    """

    def __init__(self, entries: DicomEntries, *, is_claimed: bool = False) -> None:
        self._entries, self._is_claimed = entries, is_claimed
        self._file: ImageFile | None = None
        self._stream: BinaryIO | None = None
        self._value_at = self._length = 0
        self._vr = "OW"
        self._fragments: list[tuple[int, int]] = []
        self._last: tuple[int, int, NDArray[Any]] | None = None

    def read(self, frame: Frame) -> NDArray[Any]:
        """Return a frame: stored values [rows, columns], or RGB [rows, columns, 3] of 8 or 16 bits.

        Raises BadInput, which names the file, and the missing byte of one that ends early.
        """
        file = frame.file
        if self._last is None or self._last[:2] != (file.entry, frame.index):
            self._last = None
            self._open(file)
            self._last = file.entry, frame.index, self._decode(file, frame.index)
        values = self._last[2]
        if frame.tile is not None:
            top, left = frame.tile
            values = values[top : top + frame.size[0], left : left + frame.size[1]]
        return values

    def _open(self, file: ImageFile) -> None:
        """Open a file, and find and check its pixels. Raises BadInput, UnsupportedFormat."""
        if self._file is not None and self._file.entry == file.entry:
            return
        self.close()
        check_transfer_syntax(file.pixels.transfer_syntax)
        stream = self._entries.open(file.entry)
        if file.pixels.transfer_syntax in DEFLATED:
            with stream:
                stream.seek(find_meta_end(stream))
                stream = io.BytesIO(inflate(stream))
        self._stream = stream
        self._value_at, self._length, self._vr = read_pixel_element(stream, file.pixels)
        self._check_complete(file)
        self._file = file

    def _check_complete(self, file: ImageFile) -> None:
        """Raises BadInput where the file ends before its last pixel."""
        assert self._stream is not None
        size = self._stream.seek(0, io.SEEK_END)
        if self._length != UNDEFINED_LENGTH:
            if is_encapsulated(file.pixels):
                raise damaged_error(self._subject(file), "Its compressed pixels are not in fragments.")
            present = max(0, min(self._length, size - self._value_at))
            if present < (needed := native_bytes(file.pixels)):
                raise ends_early_error(self._subject(file), present, needed)
            return
        self._fragments = []
        at = self._value_at
        while True:
            self._stream.seek(at)
            head = self._stream.read(8)
            # Without the end of the sequence nobody knows how many fragments are missing.
            if len(head) < 8:
                raise ends_early_error(self._subject(file), size, at + 8)
            if head[:4] == SEQUENCE_END:
                break
            length = int.from_bytes(head[4:], "little")
            if head[:4] != ITEM:
                raise damaged_error(self._subject(file), "Its fragments of compressed pixels are damaged.")
            if at + 8 + length > size:
                raise ends_early_error(self._subject(file), size, at + 8 + length)
            self._fragments.append((at + 8, length))
            at += 8 + length
        # The first one is a table of offsets.
        if len(self._fragments) - 1 < file.pixels.frames:
            raise damaged_error(
                self._subject(file),
                f"It holds {max(0, len(self._fragments) - 1)} of {file.pixels.frames} compressed frames.",
            )

    def _decode(self, file: ImageFile, index: int) -> NDArray[Any]:
        pixels = file.pixels
        allow_memory(decoding_bytes(pixels), used=0 if self._is_claimed else None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if is_encapsulated(pixels):
                    values = decode_codestream.decode_codestream(self._read_fragment(file, index), pixels)
                else:
                    values = self._decode_native(pixels, index)
        except WrongCodestream as wrong:
            where = f" Frame {index + 1} of {pixels.frames}." if pixels.frames > 1 else ""
            raise damaged_error(self._subject(file), f"{wrong}{where}") from None
        if file.palette is not None:
            tables = [table.apply(values) for table in file.palette]
            values = np.stack(tables, -1)
        return values

    def _decode_native(self, pixels: PixelFormat, index: int) -> NDArray[Any]:
        assert self._stream is not None
        if pixels.bits_allocated == 1 and pixels.samples == 1 and pixels.transfer_syntax != EXPLICIT_BIG:
            return self._decode_bits(pixels, index)
        self._stream.seek(self._value_at)
        options: dict[str, Any] = {
            "rows": pixels.rows,
            "columns": pixels.columns,
            "samples_per_pixel": pixels.samples,
            "photometric_interpretation": pixels.photometric,
            "bits_allocated": pixels.bits_allocated,
            "bits_stored": pixels.bits_stored,
            "pixel_representation": int(pixels.is_signed),
            "planar_configuration": pixels.planar,
            "number_of_frames": pixels.frames,
            "pixel_keyword": pixels.keyword,
            "pixel_vr": self._vr,
        }
        decoder = get_decoder(UID(pixels.transfer_syntax))
        try:
            array, _ = decoder.as_array(self._stream, index=index, raw=False, **options)
        except MemoryError:
            raise
        except Exception:  # pydicom raises anything for attributes that contradict each other
            raise WrongCodestream("Its header does not describe its pixels.") from None
        return array

    def _decode_bits(self, pixels: PixelFormat, index: int) -> NDArray[Any]:
        """Return a frame of single bits, which may begin within a byte: pydicom reads those that do not."""
        assert self._stream is not None
        count = pixels.rows * pixels.columns
        first, offset = divmod(index * count, 8)
        self._stream.seek(self._value_at + first)
        packed = np.frombuffer(self._stream.read(-(-(offset + count) // 8)), np.uint8)
        bits = np.unpackbits(packed, bitorder="little")[offset : offset + count]
        return bits.reshape(pixels.rows, pixels.columns)

    def _read_fragment(self, file: ImageFile, index: int) -> bytes:
        assert self._stream is not None
        if len(self._fragments) - 1 == file.pixels.frames:
            at, length = self._fragments[1 + index]
            self._stream.seek(at)
            return self._stream.read(length)
        self._stream.seek(self._value_at)
        try:
            return get_frame(self._stream, index, number_of_frames=file.pixels.frames)
        except Exception:  # pydicom: the table of offsets is wrong
            raise WrongCodestream("Its fragments of compressed pixels are damaged.") from None

    def _subject(self, file: ImageFile) -> str:
        return self._entries.describe(file.entry)

    def close(self) -> None:
        self._file = self._last = None
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
            self._stream = None


def colours_to_8_bits(values: NDArray[Any], frame: Frame) -> UInt8:
    """Return colours of up to 32 bits as 8, by their highest bits."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    pixels = frame.file.pixels
    bits = 8 * values.dtype.itemsize if frame.file.palette is not None else pixels.bits_stored
    return (values >> max(0, bits - 8)).astype(np.uint8)


def is_encapsulated(pixels: PixelFormat) -> bool:
    return pixels.transfer_syntax not in NATIVE


def decoding_bytes(pixels: PixelFormat) -> int:
    """Return the memory that decoding one frame takes, at most."""
    values = pixels.rows * pixels.columns * pixels.samples
    return DECODING_BYTES * values * max(1, pixels.bits_allocated // 8)


def check_transfer_syntax(syntax: str) -> None:
    """Raises UnsupportedFormat."""
    if syntax not in NATIVE | decode_codestream.SUPPORTED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pydicom, about what is no UID
            name = UID(syntax).name[:80]
        raise UnsupportedFormat(
            f"Its transfer syntax is not read: {name}.",
            field="file",
            remedy="Export it as JPEG 2000, JPEG-LS, RLE or uncompressed; a video as mp4.",
        )


def native_bytes(pixels: PixelFormat) -> int:
    """Return the bytes of all pixels, uncompressed."""
    values = pixels.rows * pixels.columns * pixels.samples * pixels.frames
    bits = values * pixels.bits_allocated
    if pixels.photometric == "YBR_FULL_422":
        bits = bits * 2 // 3
    return (bits + 7) // 8


def read_pixel_element(stream: BinaryIO, pixels: PixelFormat) -> tuple[int, int, str]:
    """Return where the value of the pixels' element begins, its length, and its value representation."""
    stream.seek(pixels.at)
    head = stream.read(12).ljust(12, b"\0")
    if pixels.transfer_syntax == IMPLICIT_LITTLE or head[4:6] not in LONG_VRS:
        return pixels.at + 8, struct.unpack_from("<I", head, 4)[0], "OW"
    order = ">" if pixels.transfer_syntax == EXPLICIT_BIG else "<"
    return pixels.at + 12, struct.unpack_from(order + "I", head, 8)[0], head[4:6].decode("ascii")


def ends_early_error(subject: str, present: int, needed: int) -> BadInput:
    return BadInput(
        f"{subject} ends early: {present} of {needed} bytes are there.",
        field="file",
        remedy="Copy it again from its source, and check that it opens in a viewer.",
    )


def damaged_error(subject: str, reason: str) -> BadInput:
    return BadInput(
        f"{subject} cannot be read. {reason}", field="file", remedy="Export it again, or leave the file out."
    )
