"""Which formats the results of a job can be read in, by the kind of job."""

from dataclasses import dataclass
from enum import StrEnum

from segserve.errors import BadInput
from segserve.jobs.engine.job import JobKind


class JobFormat(StrEnum):
    """A format that results of jobs are written in."""

    NDJSON = "ndjson"  # a line of JSON for each image, frame or slice
    COCO = "coco"  # one COCO data set
    PNG = "png"  # a zip of label or class maps, as PNG
    TIFF = "tiff"  # a zip of label or class maps, as TIFF
    TIFF_STACK = "tiff_stack"  # label maps as the pages of one TIFF
    NIFTI = "nifti"  # a label volume in the source's geometry
    NRRD = "nrrd"  # a label volume in the source's geometry
    MHA = "mha"  # a label volume in the source's geometry
    DICOM_SEG = "dicom_seg"  # a segment for each object, with references to the images of a DICOM source
    MP4 = "mp4"  # the frames with the objects drawn on them
    SHEET = "sheet"  # some frames or slices with the objects drawn on them, as one PNG
    CTC = "ctc"  # tracks in the format of the Cell Tracking Challenge


@dataclass(frozen=True)
class FileType:
    """Media type and file suffix of a format."""

    media_type: str
    suffix: str


FILE_TYPES = {
    JobFormat.NDJSON: FileType("application/x-ndjson", ".ndjson"),
    JobFormat.COCO: FileType("application/json", ".json"),
    JobFormat.PNG: FileType("application/zip", ".zip"),
    JobFormat.TIFF: FileType("application/zip", ".zip"),
    JobFormat.TIFF_STACK: FileType("image/tiff", ".tif"),
    JobFormat.NIFTI: FileType("application/gzip", ".nii.gz"),
    JobFormat.NRRD: FileType("application/octet-stream", ".nrrd"),
    JobFormat.MHA: FileType("application/octet-stream", ".mha"),
    JobFormat.DICOM_SEG: FileType("application/dicom", ".dcm"),
    JobFormat.MP4: FileType("video/mp4", ".mp4"),
    JobFormat.CTC: FileType("application/zip", ".zip"),
    JobFormat.SHEET: FileType("image/png", ".png"),
}
COMMON_FORMATS = (JobFormat.NDJSON, JobFormat.COCO, JobFormat.PNG, JobFormat.TIFF)
FRAME_FORMATS = (*COMMON_FORMATS, JobFormat.TIFF_STACK, JobFormat.SHEET)
FORMATS_BY_KIND = {
    JobKind.BATCH: COMMON_FORMATS,
    JobKind.VIDEO: (*FRAME_FORMATS, JobFormat.MP4),
    JobKind.VOLUME: (*FRAME_FORMATS, JobFormat.NIFTI, JobFormat.NRRD, JobFormat.MHA, JobFormat.DICOM_SEG),
    JobKind.TRACKING: (JobFormat.CTC, *FRAME_FORMATS, JobFormat.MP4),
}


def check_job_format(kind: JobKind, job_format: JobFormat) -> None:
    """Check that this kind of job has this format. Raises BadInput."""
    if job_format not in FORMATS_BY_KIND[kind]:
        raise BadInput(
            f"The results of a {kind} job cannot be had as {job_format!s}.",
            field="format",
            remedy=f"Ask for one of: {', '.join(FORMATS_BY_KIND[kind])}.",
        )
