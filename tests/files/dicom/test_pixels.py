"""Pixels are those that a viewer shows, in every transfer syntax; files that end early are named."""

import gzip
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from segserve.errors import BadInput, TooLarge, UnsupportedFormat
from segserve.types import FileKind, FileLimits, FileOptions
from tests.files.dicom.sample_dicom import (
    SECONDARY,
    Opened,
    draw,
    encode,
    item,
    make_series,
    make_slice,
    open_files,
    positions,
)

COLOURS = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
SIGNED = (draw(3) - 2000).astype(np.int16)
TWELVE_BITS = (draw(3) % 4096).astype(np.uint16)


def open_one(folder: Path, data: bytes, options: FileOptions = FileOptions()) -> Opened:
    path = folder / "one.dcm"
    path.write_bytes(data)
    return Opened(path, options)


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize("pixels", [SIGNED, TWELVE_BITS, draw(1).astype(np.uint8), draw(2).astype(np.int32)])
def test_uncompressed_pixels(tmp_path: Path, syntax: str, pixels: np.ndarray) -> None:
    opened = open_one(tmp_path, encode(make_slice(pixels), syntax))
    assert opened.record.kind is FileKind.VOLUME
    assert np.array_equal(opened.voxels[0], pixels)
    assert opened.geometry.spacing == pytest.approx((0.7, 0.8, 2.5))


def test_big_endian_pixels(tmp_path: Path) -> None:
    data_set = make_slice(SIGNED)
    data_set.PixelData = SIGNED.astype(">i2").tobytes()
    assert np.array_equal(open_one(tmp_path, encode(data_set, ExplicitVRBigEndian)).voxels[0], SIGNED)


@pytest.mark.parametrize("bits", [8, 16])
def test_tables_of_a_big_endian_file(tmp_path: Path, bits: int) -> None:
    stored = (draw(0) % 256).astype(np.uint16)
    entries = np.arange(256)[::-1] * (1 if bits == 8 else 200)
    for descriptor, data in (
        ([256, 0, bits], entries.astype(">u2").tobytes()),
        # Two entries a word, the first one in the low byte.
        *([([256, 0, 8], entries.astype("<u1").view("<u2").astype(">u2").tobytes())] if bits == 8 else []),
    ):
        made = make_slice(stored, bits=12)
        made.PixelData = stored.astype(">u2").tobytes()
        table = item(LUTDescriptor=descriptor)
        table.add_new("LUTData", "OW", data)
        table.add_new("ModalityLUTType", "LO", "US")
        made.ModalityLUTSequence = [table]
        opened = open_one(tmp_path, encode(made, ExplicitVRBigEndian))
        assert np.array_equal(opened.voxels[0], entries[stored])


def test_a_file_that_gzip_packed(tmp_path: Path) -> None:
    data = encode(make_slice(SIGNED))
    packed = gzip.compress(data)
    assert np.array_equal(open_one(tmp_path, packed).voxels[0], SIGNED)
    for cut in (packed[:-9], packed[:-30]):
        with pytest.raises(BadInput, match="gzip stream of the DICOM file"):
            open_one(tmp_path, cut)
    with pytest.raises(BadInput, match="ends early"):
        open_one(tmp_path, gzip.compress(data[:-20]))
    bomb = gzip.compress(encode(make_slice(np.zeros((2000, 2000), np.int16))) + bytes(60_000_000))
    with pytest.raises(TooLarge, match="holds over 50 MB"):
        open_one(tmp_path, bomb)


def test_compressed_frames_without_their_end_are_refused(tmp_path: Path) -> None:
    frames = [imagecodecs.jpegls_encode(TWELVE_BITS)] * 2
    made = make_slice(np.stack([TWELVE_BITS] * 2), bits=12, NumberOfFrames=2)
    data = encode(made, JPEGLSLossless, frames)
    end = data.rindex(b"\xfe\xff\xdd\xe0")
    open_one(tmp_path, data)
    with pytest.raises(BadInput, match=f"ends early: {end} of {end + 8} bytes"):
        open_one(tmp_path, data[:end])


def encode_rle(pixels: np.ndarray) -> bytes:
    """Planes from the most significant byte of the first sample on, each packed."""
    samples = pixels.reshape(*pixels.shape[:2], -1)
    width = pixels.dtype.itemsize
    planes = [
        (samples[:, :, sample] >> (8 * byte)).astype(np.uint8)
        for sample in range(samples.shape[2])
        for byte in range(width - 1, -1, -1)
    ]
    packed = [imagecodecs.packbits_encode(plane.tobytes()) for plane in planes]
    packed = [part + b"\0" * (len(part) % 2) for part in packed]
    offsets = np.cumsum([64, *map(len, packed)])[:-1]
    header = np.zeros(16, "<u4")
    header[0], header[1 : 1 + len(packed)] = len(packed), offsets
    return header.tobytes() + b"".join(packed)


COMPRESSED: dict[str, Any] = {
    "RLE": (RLELossless, encode_rle),
    "JPEG-LS": (JPEGLSLossless, imagecodecs.jpegls_encode),
    "JPEG 2000": (JPEG2000Lossless, lambda p: imagecodecs.jpeg2k_encode(p, level=0, codecformat="j2k")),
    "JPEG lossless": (JPEGLosslessSV1, lambda p: imagecodecs.jpeg_encode(p, lossless=True, bitspersample=12)),
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_grayscale(tmp_path: Path, name: str) -> None:
    syntax, compress = COMPRESSED[name]
    data = encode(make_slice(TWELVE_BITS, bits=12), syntax, [compress(TWELVE_BITS)])
    assert np.array_equal(open_one(tmp_path, data).voxels[0], TWELVE_BITS)


def test_signs_that_a_codestream_loses_come_from_the_header(tmp_path: Path) -> None:
    unsigned = SIGNED.view(np.uint16)
    frame = imagecodecs.jpeg2k_encode(unsigned, level=0, codecformat="j2k")
    for syntax, data in ((JPEG2000Lossless, frame), (JPEGLSLossless, imagecodecs.jpegls_encode(unsigned))):
        assert np.array_equal(
            open_one(tmp_path, encode(make_slice(SIGNED), syntax, [data])).voxels[0], SIGNED
        )


def test_htj2k(tmp_path: Path) -> None:
    frame = imagecodecs.htj2k_encode(TWELVE_BITS)
    data = encode(make_slice(TWELVE_BITS), HTJ2KLossless, [frame])
    assert np.array_equal(open_one(tmp_path, data).voxels[0], TWELVE_BITS)


def test_jpeg_colours_are_those_of_its_markers(tmp_path: Path) -> None:
    smooth = np.indices((16, 16)).sum(0)[:, :, None] * np.array([8, 4, 1]) % 256
    smooth = smooth.astype(np.uint8)
    transformed = imagecodecs.jpeg8_encode(smooth, level=95)
    plain = imagecodecs.jpeg8_encode(smooth, level=95, colorspace="RGB", outcolorspace="RGB")
    for photometric, frame in (("YBR_FULL_422", transformed), ("RGB", plain), ("RGB", transformed)):
        made = make_slice(smooth, SOPClassUID=SECONDARY, PhotometricInterpretation=photometric)
        opened = open_one(tmp_path, encode(made, JPEGBaseline8Bit, [frame]))
        assert np.abs(opened.frames[0].astype(int) - smooth).max() <= 12


@pytest.mark.parametrize(
    ("photometric", "planar"), [("RGB", 0), ("RGB", 1), ("YBR_FULL", 0), ("YBR_FULL", 1)]
)
def test_uncompressed_colours(tmp_path: Path, photometric: str, planar: int) -> None:
    stored, tolerance = COLOURS, 0
    if photometric == "YBR_FULL":
        r, g, b = np.moveaxis(COLOURS.astype(float), -1, 0)
        y = 0.299 * r + 0.587 * g + 0.114 * b
        ybr = np.stack([y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128], -1)
        stored, tolerance = np.clip(np.rint(ybr), 0, 255).astype(np.uint8), 2
    made = make_slice(
        stored, SOPClassUID=SECONDARY, PhotometricInterpretation=photometric, PlanarConfiguration=planar
    )
    if planar:
        made.PixelData = np.moveaxis(stored, -1, 0).tobytes()
    opened = open_one(tmp_path, encode(made))
    assert opened.record.kind is FileKind.FRAMES
    assert np.abs(opened.frames[0].astype(int) - COLOURS).max() <= tolerance


@pytest.mark.parametrize("name", ["RLE", "JPEG-LS", "JPEG 2000"])
def test_compressed_colours(tmp_path: Path, name: str) -> None:
    syntax, compress = COMPRESSED[name]
    made = make_slice(COLOURS, SOPClassUID=SECONDARY)
    assert np.array_equal(open_one(tmp_path, encode(made, syntax, [compress(COLOURS)])).frames[0], COLOURS)


def test_16_bit_colours_keep_their_highest_bits(tmp_path: Path) -> None:
    made = make_slice(COLOURS.astype(np.uint16) * 257, SOPClassUID=SECONDARY)
    assert np.array_equal(open_one(tmp_path, encode(made)).frames[0], COLOURS)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_palettes(tmp_path: Path, syntax: str) -> None:
    tables = np.random.default_rng(1).integers(0, 65536, (3, 256)).astype(np.uint16)
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    made = make_slice(draw(1).astype(np.uint8), PhotometricInterpretation="PALETTE COLOR")
    made["PixelData"].VR = "OB"
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{colour}PaletteColorLookupTableData", table.astype(order).tobytes())
    opened = open_one(tmp_path, encode(made, syntax))
    expected = np.moveaxis(tables[:, draw(1).astype(np.uint8)] >> 8, 0, -1)
    assert np.array_equal(opened.frames[0], expected)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    files = {
        f"{number}": encode(
            make_slice(
                draw(number), position, number=number, RescaleSlope=1 + number, RescaleIntercept=-number
            )
        )
        for number, position in enumerate(positions(4))
    }
    opened = open_files(tmp_path, files)
    expected = np.stack([draw(number).astype(int) * (1 + number) - number for number in range(4)])
    assert np.array_equal(opened.voxels, expected)
    files["0"] = encode(make_slice(draw(0), positions(1)[0], RescaleSlope=0.25))
    assert open_files(tmp_path, files).voxels[0] == pytest.approx(draw(0) * 0.25)


def test_modality_tables(tmp_path: Path) -> None:
    table = [5 * value for value in range(256)]
    made = make_slice(draw(1).astype(np.uint8))
    made.ModalityLUTSequence = [
        item(LUTDescriptor=[256, 0, 16], LUTData=np.array(table, "<u2").tobytes(), ModalityLUTType="US")
    ]
    opened = open_one(tmp_path, encode(made, ImplicitVRLittleEndian))
    assert np.array_equal(opened.voxels[0], 5 * draw(1).astype(np.uint8).astype(int))


def test_monochrome1_is_inverted_with_its_window(tmp_path: Path) -> None:
    made = make_slice(
        TWELVE_BITS, bits=12, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=401
    )
    opened = open_one(tmp_path, encode(made))
    assert np.array_equal(opened.voxels[0], 4095 - TWELVE_BITS.astype(int))
    assert opened.window == pytest.approx((4095 - 1199.5, 4095 - 799.5))
    plain = make_slice(TWELVE_BITS, WindowCenter=1000, WindowWidth=401)
    assert open_one(tmp_path, encode(plain)).window == pytest.approx((799.5, 1199.5))


def cine(frames: np.ndarray, **attributes: Any) -> bytes:
    return encode(
        make_slice(frames, None, orientation=None, NumberOfFrames=len(frames), Modality="US", **attributes)
    )


def test_a_cine_loop_is_a_video_as_a_viewer_shows_it(tmp_path: Path) -> None:
    frames = np.stack([draw(number) for number in range(5)]).astype(np.uint16)
    opened = open_one(tmp_path, cine(frames, FrameTime=40, WindowCenter=2000, WindowWidth=1000))
    assert (opened.record.kind, opened.record.fps, opened.record.count) == (FileKind.VIDEO, 25, 5)
    expected = np.clip(np.rint((frames - 1500.0) * 255 / 999), 0, 255)
    assert np.abs(opened.frames[..., 0] - expected).max() <= 1
    inverted = open_one(
        tmp_path,
        cine(frames, WindowCenter=2000, WindowWidth=1000, PhotometricInterpretation="MONOCHROME1"),
    )
    assert inverted.record.kind is FileKind.FRAMES
    assert np.array_equal(inverted.frames, 255 - opened.frames)
    unwindowed = open_one(tmp_path, cine(frames)).frames
    assert (unwindowed.min(), unwindowed.max()) == (0, 255)
    bytes_as_they_are = np.stack([draw(1), draw(2)]).astype(np.uint8)
    assert np.array_equal(open_one(tmp_path, cine(bytes_as_they_are)).frames[..., 0], bytes_as_they_are)


def test_voi_tables_of_a_cine_loop(tmp_path: Path) -> None:
    frames = np.stack([draw(0), draw(0)]).astype(np.uint16)
    made = make_slice(frames, None, orientation=None, NumberOfFrames=2, Modality="US", bits=12)
    table = [min(4095, 16 * value) for value in range(256)]
    made.VOILUTSequence = [item(LUTDescriptor=[256, 0, 12], LUTData=np.array(table, "<u2").tobytes())]
    shown = open_one(tmp_path, encode(made, ImplicitVRLittleEndian)).frames[0, :, :, 0]
    assert np.abs(shown.astype(float) - np.minimum(draw(0), 255).astype(float) * 16 * 255 / 4095).max() <= 1


def test_colour_slices_are_frames_in_the_order_of_their_positions(tmp_path: Path) -> None:
    files = {}
    for number, position in enumerate(positions(5)):
        made = make_slice(np.full((12, 16, 3), 10 * number, np.uint8), position, SOPClassUID=SECONDARY)
        made.InstanceNumber, made.SOPInstanceUID = 9 - number, f"1.2.3.4.{number}"
        files[f"{number * 3 % 5}"] = encode(made)
    opened = open_files(tmp_path, files)
    assert (opened.record.kind, opened.record.count) == (FileKind.FRAMES, 5)
    assert opened.frames[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]


def test_a_radiograph_is_a_slice(tmp_path: Path) -> None:
    made = make_slice(
        TWELVE_BITS, None, orientation=None, spacing=None, Modality="CR", ImagerPixelSpacing=[0.1, 0.2]
    )
    opened = open_one(tmp_path, encode(made))
    assert (opened.record.kind, opened.record.count) == (FileKind.VOLUME, 1)
    assert opened.geometry.spacing == pytest.approx((0.2, 0.1, 2.5))


# Files that end early.


def test_a_file_that_ends_within_its_pixels_is_named(tmp_path: Path) -> None:
    files = make_series(6)
    files["IM07"] = files["IM07"][:-101]
    with pytest.raises(BadInput, match=r"'IM07' in the zip ends early: 283 of 384 bytes are there"):
        open_files(tmp_path, files)


def test_a_file_that_ends_within_its_header_is_named(tmp_path: Path) -> None:
    files = make_series(6)
    whole = files["IM07"]
    for length in (len(whole) - 384 - 60, 700, 400, 300, 200, 150, 140):
        with pytest.raises(BadInput, match=r"'IM07' in the zip (ends|cannot)"):
            open_files(tmp_path, files | {"IM07": whole[:length]})


def test_a_damaged_file_of_another_series_is_left_out(tmp_path: Path) -> None:
    files = make_series(6) | {f"other/{n}": d for n, d in make_series(2, series="1.2.3.2").items()}
    files["other/IM07"] = files["other/IM07"][:600]
    record = open_files(tmp_path, files).record
    assert (record.count, record.left_out.count, record.left_out.files[0].reason) == (6, 1, "It is damaged.")


def test_a_zip_that_is_damaged_within_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.zip"
    open_files(tmp_path, make_series(6))
    data = bytearray(path.read_bytes())
    at = data.index(b"IM21") + 200
    data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(BadInput, match="'IM21' in the zip cannot be read"):
        Opened(path)


BROKEN_FRAMES = {
    "cut": imagecodecs.jpeg2k_encode(TWELVE_BITS, level=0, codecformat="j2k")[:60],
    "nothing": b"\0\0",
    "another size": imagecodecs.jpeg2k_encode(TWELVE_BITS[:, :8], level=0, codecformat="j2k"),
    "nonsense": b"x" * 400,
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_broken_frames_are_refused(tmp_path: Path, name: str) -> None:
    data = encode(make_slice(TWELVE_BITS), JPEG2000Lossless, [BROKEN_FRAMES[name]])
    with pytest.raises(BadInput, match="The file cannot be read"):
        open_one(tmp_path, data)


def test_rle_that_ends_early_is_refused(tmp_path: Path) -> None:
    frame = encode_rle(TWELVE_BITS)
    for broken in (frame[:-30], frame[:40], b"\x01" + frame[1:], frame[:4] + b"\xff\xff\0\0" + frame[8:]):
        with pytest.raises(BadInput, match="The file cannot be read"):
            open_one(tmp_path, encode(make_slice(TWELVE_BITS), RLELossless, [broken]))


def test_missing_frames_and_other_syntaxes_are_refused(tmp_path: Path) -> None:
    frames = np.stack([TWELVE_BITS] * 3)
    made = make_slice(frames, NumberOfFrames=3)
    with pytest.raises(BadInput, match="holds 2 of 3 compressed frames"):
        open_one(tmp_path, encode(made, RLELossless, [encode_rle(TWELVE_BITS)] * 2))
    with pytest.raises(UnsupportedFormat, match="MPEG2"):
        open_one(tmp_path, encode(make_slice(TWELVE_BITS), MPEG2MPML, [b"x" * 100]))


def test_too_large_a_series_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    open_files(tmp_path, make_series(6))
    with pytest.raises(TooLarge, match="1152 voxels"):
        Opened(tmp_path / "u.zip", limits=FileLimits(50, 1 << 20, 1000))
