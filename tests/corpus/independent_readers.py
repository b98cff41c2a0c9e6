"""Read a file by a library that the service does not use for it, or uses in another way.

Each reader returns a `Reading`, or raises anything for a file that it does not know. They run in a process of their
own: a damaged file may end it, or keep it busy.
"""

import gzip
import io
import multiprocessing
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIMEOUT_S = 90.0
# More than this is not compared pixel by pixel.
MAX_COMPARED_VALUES = 120_000_000


class Compare(StrEnum):
    """How near the service's pixels must be."""

    EXACT = "exact"
    ROUNDED = "rounded"  # every value within 1: a stretch to 8 bits may round either way
    CLOSE = "close"  # a mean difference of at most 2: lossy decoders differ
    ALIKE = "alike"  # values rise and fall together: the window that shows them is a matter of taste
    NOTHING = "nothing"


@dataclass
class Reading:
    """What a reader finds in a file.

    planes: some frames by index: uint8 [H, W, 3] as shown, or the values [H, W] of a volume.
    values: of a file that may be taken as frames or as a volume, its values [H, W] besides.
    spacing: of a volume, (z, y, x) in millimetres.
    """

    reader: str
    frames: int
    height: int
    width: int
    planes: dict[int, NDArray[Any]] = field(default_factory=dict)
    values: dict[int, NDArray[Any]] = field(default_factory=dict)
    compare: Compare = Compare.NOTHING
    spacing: tuple[float, float, float] | None = None


def choose_planes(count: int, values_per_plane: int) -> list[int]:
    """Return the indices of the planes to compare: first, middle and last."""
    if values_per_plane > MAX_COMPARED_VALUES // 3:
        return []
    return sorted({0, count // 2, count - 1})


# Pictures


def read_with_pillow(path: Path) -> Reading:
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None
    with Image.open(path) as opened:
        opened.load()
        deep = opened.mode.startswith(("I", "F")) or png_depth(path) == 16
        image = ImageOps.exif_transpose(opened)
        kind = (opened.format or "").upper()
        reading = Reading("Pillow", 1, image.height, image.width)
        if deep or image.width * image.height * 3 > MAX_COMPARED_VALUES:
            return reading
        reading.planes = {0: np.asarray(image.convert("RGB"))}
    lossy = kind in ("JPEG", "JPEG2000", "WEBP", "AVIF", "MPO")
    reading.compare = Compare.CLOSE if lossy or image.mode in ("CMYK", "YCbCr", "LAB") else Compare.EXACT
    return reading


def png_depth(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) > 24 else 0


def read_tiff_page(path: Path) -> Reading:
    """The first page, as POST /v1/images takes it. Pillow shows 8-bit pages; tifffile has the values of the others."""
    import tifffile

    try:
        shown = read_with_pillow(path)
        if shown.planes:
            shown.compare = Compare.CLOSE if shown.compare is Compare.CLOSE else Compare.EXACT
            return shown
    except Exception:
        shown = None  # type: ignore[assignment]
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        height, width = page.imagelength, page.imagewidth
        turned = int(page.tags[274].value) if 274 in page.tags else 1
        if turned >= 5:
            height, width = width, height
        values = page.asarray()
        reading = Reading("tifffile", 1, height, width)
        plain = int(page.photometric) == 1 and values.ndim == 2 and turned == 1
        if plain and values.dtype.kind in "uif" and 42113 not in page.tags:
            # Deep values are shown between percentiles.
            reading.planes = {0: stretch(values)}
            reading.compare = Compare.ROUNDED if values.dtype == np.uint8 else Compare.ALIKE
    return reading


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return [H, W, 3]: the values from their minimum to their maximum, 8-bit ones as they are."""
    if values.dtype == np.uint8:
        grey = values
    else:
        numbers = values.astype(np.float64)
        finite = np.isfinite(numbers)
        low, high = (numbers[finite].min(), numbers[finite].max()) if finite.any() else (0.0, 0.0)
        grey = np.zeros(values.shape, np.uint8)
        if high > low:
            grey = np.clip(np.rint((np.nan_to_num(numbers, nan=low) - low) / (high - low) * 255), 0, 255)
    return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)


def read_dicom_picture(path: Path) -> Reading:
    """The first frame, as POST /v1/images takes it: bright where a viewer shows it bright."""
    reading = read_dicom(path)
    reading.frames, reading.values = 1, {}
    reading.planes = {index: plane for index, plane in reading.planes.items() if index == 0}
    return reading


# Files of many frames


def read_dicom(path: Path) -> Reading:
    import pydicom

    dataset = pydicom.dcmread(path)
    pixels = dataset.pixel_array
    samples = int(dataset.get("SamplesPerPixel", 1))
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    reading = Reading("pydicom", frames, rows, columns)
    shown_as = str(dataset.get("PhotometricInterpretation", ""))
    if samples == 1 and shown_as.startswith("MONOCHROME") and pixels.size <= MAX_COMPARED_VALUES:
        inverted = shown_as == "MONOCHROME1"
        stack = pixels.reshape(frames, rows, columns).astype(np.float64)
        reading.planes = {
            i: np.repeat((-stack[i] if inverted else stack[i])[:, :, None], 3, axis=2)
            for i in choose_planes(frames, rows * columns)
        }
        reading.compare = Compare.ALIKE
        complex_values = {"ModalityLUTSequence", "SharedFunctionalGroupsSequence"} & set(dataset.dir())
        if not inverted and not complex_values:
            slope, intercept = (
                float(dataset.get(f"Rescale{name}", default))
                for name, default in (("Slope", 1), ("Intercept", 0))
            )
            # As SimpleITK does it: the stored values of MONOCHROME1 change ends.
            signed = int(dataset.get("PixelRepresentation", 0))
            ends = -1 if signed else (1 << int(dataset.BitsStored)) - 1
            stored = {i: ends - stack[i] if inverted else stack[i] for i in reading.planes}
            reading.values = {i: slope * values + intercept for i, values in stored.items()}
    return reading


def read_tiff_stack(path: Path) -> Reading:
    """All planes of the first series."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes
        sizes = dict(zip(axes, series.shape, strict=True))
        height, width = sizes["Y"], sizes["X"]
        samples = sizes.get("S", 1)
        frames = int(np.prod(series.shape)) // (height * width * samples)
        reading = Reading("tifffile", frames, height, width)
        if series.size <= MAX_COMPARED_VALUES and series.dtype == np.uint8 and axes.endswith("YX"):
            stack = series.asarray().reshape(frames, height, width)
            photometric = int(file.pages[0].photometric)  # type: ignore[union-attr]
            if photometric == 1:
                reading.planes = {i: stretch(stack[i]) for i in choose_planes(frames, height * width)}
                reading.compare = Compare.EXACT
    return reading


def read_video(path: Path) -> Reading:
    """Every frame that the decoder delivers, from the first to the last."""
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        if not container.streams.video:
            raise ValueError("no pictures")
        stream = container.streams.video[0]
        count, planes, last = 0, {}, None
        for frame in container.decode(stream):
            if count == 0:
                first = frame
                planes[0] = frame.to_ndarray(format="rgb24")
            last = frame
            count += 1
        if last is None:
            raise ValueError("no frame")
        turned = getattr(first, "rotation", 0) % 180 != 0
        height, width = (first.width, first.height) if turned else (first.height, first.width)
        reading = Reading("PyAV", count, height, width)
        if not getattr(first, "rotation", 0) and first.format.name in ("yuv420p", "rgb24", "bgr24", "pal8"):
            planes[count - 1] = last.to_ndarray(format="rgb24")
            reading.planes, reading.compare = planes, Compare.CLOSE
    return reading


def read_lif(path: Path) -> Reading:
    """The largest recording. Those with other dimensions than time and depth are several to the service."""
    import liffile

    with liffile.LifFile(path) as file:
        image = max(file.images, key=lambda image: int(np.prod(image.shape)))
        sizes = dict(zip(image.dims, image.shape, strict=True))
        *others, rows, columns = [axis for axis in image.dims if axis not in "CS"]
        if set(others) - set("TZY"):
            raise ValueError("other dimensions")
        frames = int(np.prod([sizes[axis] for axis in others]))
        reading = Reading("liffile", frames, sizes[rows], sizes[columns])
        channels = sizes.get("C", 1) * sizes.get("S", 1)
        if image.dtype == np.uint8 and channels == 1 and frames * sizes[rows] <= MAX_COMPARED_VALUES:
            stack = image.asarray().reshape(frames, sizes[rows], sizes[columns])
            reading.planes = {i: stretch(stack[i]) for i in choose_planes(frames, stack[0].size)}
            reading.compare = Compare.EXACT
    return reading


def read_lif_picture(path: Path) -> Reading:
    """The first image, as POST /v1/images takes it."""
    import liffile

    with liffile.LifFile(path) as file:
        sizes = [size for axis, size in file.images[0].sizes.items() if axis not in "CS"]
        return Reading("liffile", 1, sizes[-2], sizes[-1])


def read_nd2_picture(path: Path) -> Reading:
    reading = read_nd2(path)
    return Reading("nd2", 1, reading.height, reading.width)


def read_nd2(path: Path) -> Reading:
    """The first position."""
    import nd2

    with nd2.ND2File(path) as file:
        sizes = dict(file.sizes)
        frames = sizes.get("T", 1) * sizes.get("Z", 1)
        return Reading("nd2", frames, sizes["Y"], sizes["X"])


def read_nibabel(path: Path) -> Reading:
    """NIfTI, MGH and Analyze, by the content's own suffix: an upload has no name."""
    import nibabel

    image = nibabel.load(path)
    shape = image.shape
    if not hasattr(image, "dataobj") or len(shape) < 2:
        raise ValueError("no volume")
    x, y, z = (*shape, 1)[:3]
    volumes = int(np.prod(shape[3:])) if len(shape) > 3 else 1
    zooms = [float(zoom) for zoom in nibabel.affines.voxel_sizes(image.affine)]
    reading = Reading(f"nibabel{f', {volumes} volumes' if volumes > 1 else ''}", z, y, x)
    if len(zooms) == 3 and all(zoom > 0 for zoom in zooms):
        reading.spacing = (zooms[2], zooms[1], zooms[0])
    names = image.get_data_dtype().names
    values = np.asanyarray(image.dataobj)
    if names is None and values.size <= MAX_COMPARED_VALUES and values.dtype.kind in "iufb":
        volume = values.reshape(x, y, z, -1)[..., 0]
        reading.planes = {i: np.asarray(volume[:, :, i].T, np.float64) for i in choose_planes(z, x * y)}
        reading.compare = Compare.EXACT
    return reading


def read_nrrd(path: Path) -> Reading:
    import nrrd

    values, header = nrrd.read(str(path), index_order="C")
    if values.ndim != 3 or (header.get("kinds") and any("vector" in str(k) for k in header["kinds"])):
        return Reading("pynrrd", 1 if values.ndim < 3 else values.shape[0], *values.shape[-2:])
    reading = Reading("pynrrd", *values.shape)
    reading.planes = {i: values[i].astype(np.float64) for i in choose_planes(values.shape[0], values[0].size)}
    reading.compare = Compare.EXACT
    return reading


def read_itk(path: Path) -> Reading:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(str(path))
    if image.GetDimension() not in (2, 3):
        raise ValueError("no volume")
    x, y, z = (*image.GetSize(), 1)[:3]
    spacing = (*image.GetSpacing(), 1.0)[:3]
    reading = Reading("SimpleITK", z, y, x, spacing=(spacing[2], spacing[1], spacing[0]))
    if image.GetNumberOfComponentsPerPixel() == 1 and x * y * z <= MAX_COMPARED_VALUES:
        values = sitk.GetArrayViewFromImage(image).reshape(z, y, x)
        reading.planes = {i: values[i].astype(np.float64) for i in choose_planes(z, x * y)}
        reading.compare = Compare.EXACT
    return reading


def read_zip(path: Path) -> Reading:
    """A zip of pictures by Pillow, or of one DICOM series by pydicom."""
    from PIL import Image

    sizes, headers = [], []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/") or name.startswith("__MACOSX/") or "/." in f"/{name}":
                continue
            data = archive.read(name)
            if data[128:132] == b"DICM":
                headers.append(read_dicom_header(data))
                continue
            try:
                with Image.open(io.BytesIO(data)) as image:
                    sizes.append(image.size)
            except Exception:
                continue
    if headers:
        return read_series([header for header in headers if "Rows" in header])
    if not sizes:
        raise ValueError("no pictures")
    return Reading("zipfile and Pillow", len(sizes), sizes[0][1], sizes[0][0])


def read_dicom_header(data: bytes) -> Any:
    import pydicom

    return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)


def read_series(headers: list[Any]) -> Reading:
    """One series of single slices, all at different positions of one orientation. Raises ValueError for another."""
    groups = {
        (h.get("SeriesInstanceUID"), h.Rows, h.Columns, tuple(np.round(h.ImageOrientationPatient, 2)))
        for h in headers
    }
    if len(groups) != 1 or any(int(h.get("NumberOfFrames", 1) or 1) > 1 for h in headers):
        raise ValueError("several series")
    (_, rows, columns, orientation) = groups.pop()
    normal = np.cross(orientation[:3], orientation[3:])
    places = np.sort([np.dot(normal, np.asarray(h.ImagePositionPatient, float)) for h in headers])
    steps = np.diff(places)
    if len(steps) and steps.min() < 1e-3:
        raise ValueError("several slices at one position")
    reading = Reading("pydicom", len(headers), int(rows), int(columns))
    if len(steps) and steps.max() - steps.min() < 1e-3 * steps.max():
        down, across = map(float, headers[0].PixelSpacing)
        reading.spacing = (float(steps.mean()), down, across)
    return reading


Reader = Callable[[Path], Reading]
PICTURE_READERS: dict[str, tuple[Reader, ...]] = {
    "tiff": (read_tiff_page,),
    "dicom": (read_dicom_picture,),
    "nifti": (),
    "zip": (),
    "lif": (read_lif_picture,),
    "nd2": (read_nd2_picture,),
}
FILE_READERS: dict[str, tuple[Reader, ...]] = {
    "tiff": (read_tiff_stack,),
    "dicom": (read_dicom,),
    "nifti": (read_nibabel,),  # ITK reads past the end of one that is cut short
    "mgh": (read_nibabel,),
    "nrrd": (read_nrrd, read_itk),
    "metaimage": (read_itk,),
    "video": (read_video,),
    "gif": (read_video,),
    "zip": (read_zip,),
    "lif": (read_lif,),
    "nd2": (read_nd2,),
}
SUFFIXES = {"nifti": (".nii", ".nii.gz"), "mgh": (".mgh", ".mgz"), "nrrd": (".nrrd",), "metaimage": (".mha",)}


def detect_kind(path: Path) -> str:
    """Return the format of a file by its first bytes, "picture" for those that only Pillow may know, or "other"."""
    with path.open("rb") as file:
        head = file.read(560)
        if head[:2] == b"\x1f\x8b":
            file.seek(0)
            try:
                head = gzip.GzipFile(fileobj=file).read(560)
            except (OSError, EOFError):
                return "gzip"
    if head[344:347] in (b"n+1", b"ni1") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "nifti"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"p\0\0\0") and head[8:9] == b"*":
        return "lif"
    if head.startswith(b"\xda\xce\xbe\x0a"):
        return "nd2"
    if head.startswith(b"NRRD000"):
        return "nrrd"
    if head.lstrip().startswith((b"ObjectType", b"NDims")):
        return "metaimage"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head.startswith(b"PK\3\4"):
        return "zip"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis"):
        return "picture"
    if (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
        or head.startswith(b"\x1aE\xdf\xa3")
        or (head[:4] == b"RIFF" and head[8:11] == b"AVI")
        or head.startswith((b"FLV", b"OggS", b"\0\0\1\xba", b"0&\xb2u"))
    ):
        return "video"
    if head[:4] in (b"\0\0\0\1",) and head[4:8] != b"\0\0\0\0":
        return "mgh"
    if head[:8] == b"\x89PNG\r\n\x1a\n" or head[:3] == b"\xff\xd8\xff" or head[:2] == b"BM":
        return "picture"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "picture"
    return "other"


def read_alone(path: Path, route: str, kind: str) -> Reading | None:
    """Return what the first reader that knows the file finds in it; None if no reader does."""
    warnings.simplefilter("ignore")
    of_pictures = route == "images"
    readers = PICTURE_READERS.get(kind, (read_with_pillow,)) if of_pictures else FILE_READERS.get(kind, ())
    for reader in readers:
        try:
            return reader(with_suffix(path, kind))
        except Exception:
            continue
    return None


def with_suffix(path: Path, kind: str) -> Path:
    """Return a path whose suffix says the kind: libraries choose their reader by it. A link, where it must be made."""
    suffixes = SUFFIXES.get(kind, ())
    if not suffixes or path.name.lower().endswith(suffixes):
        return path
    import tempfile

    packed = path.read_bytes()[:2] == b"\x1f\x8b"
    link = Path(tempfile.mkdtemp()) / f"file{suffixes[-1] if packed else suffixes[0]}"
    link.symlink_to(path.absolute())
    return link


class ReaderPool:
    """`ReaderPool` runs `read_alone` in a process that is replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._pool = self._create()

    def _create(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def read(self, path: Path, route: str, kind: str) -> Reading | None:
        try:
            return self._pool.submit(read_alone, path, route, kind).result(TIMEOUT_S)
        except (TimeoutError, BrokenProcessPool):
            self.close()
            self._pool = self._create()
            return None

    def close(self) -> None:
        for process in (self._pool._processes or {}).values():
            process.kill()
        self._pool.shutdown(cancel_futures=True)
