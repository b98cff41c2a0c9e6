"""Check that a command has the optional packages that it needs, before it starts anything."""

from importlib.util import find_spec
from pathlib import Path

from segserve.errors import MissingDependency, SegserveError
from segserve.files.detect_format import detect_format
from segserve.files.video_format import DEMUXERS
from segserve.files.volume_format import DICOM_SERIES
from segserve.wire.results.job_formats import JobFormat

# For each: the module, the package's name, the extra that brings it, and what needs it.
ONNX_RUNTIME = ("onnxruntime", "ONNX Runtime", "cpu", "Running a model")
OF_RESULTS = {
    JobFormat.MP4: ("av", "PyAV", "video", "Making a video"),
    JobFormat.NIFTI: ("nibabel", "nibabel", "volumes", "Making a NIfTI file"),
    JobFormat.NRRD: ("SimpleITK", "SimpleITK", "volumes", "Making a label volume"),
    JobFormat.MHA: ("SimpleITK", "SimpleITK", "volumes", "Making a label volume"),
    JobFormat.DICOM_SEG: ("highdicom", "highdicom", "volumes", "Making a DICOM SEG"),
}
OF_FILES = {
    **dict.fromkeys(DEMUXERS, ("av", "PyAV", "video", "Reading a video")),
    **dict.fromkeys(("nifti", "nifti.gz"), ("nibabel", "nibabel", "volumes", "Reading NIfTI")),
    **dict.fromkeys(("mgh", "mgz"), ("nibabel", "nibabel", "volumes", "Reading MGH")),
    DICOM_SERIES: ("pydicom", "pydicom", "volumes", "Reading DICOM"),
    "czi": ("pylibCZIrw", "pylibCZIrw", "microscopy", "Reading CZI"),
}


def check_extras(file: Path | None, result_format: JobFormat) -> None:
    """Check that the packages for reading a file and writing results of it are installed in this environment.

    file: None for what pictures need.

    Raises MissingDependency.
    """
    needed = [ONNX_RUNTIME, OF_RESULTS.get(result_format)]
    if file is not None and file.is_file():
        needed.append(OF_FILES.get(find_format(file)))
    for package in needed:
        if package is not None:
            module, name, extra, purpose = package
            if not is_installed(module):
                raise MissingDependency(name, extra, purpose)


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ValueError:  # it is hidden from this process
        return False


def find_format(file: Path) -> str:
    """Return the format of a file, empty where it is none: the service will say that."""
    try:
        return detect_format(file)
    except SegserveError:
        return ""
