"""The formats that the results of jobs can be had in."""

from dataclasses import dataclass
from enum import StrEnum

from segserve.errors import BadInput
from segserve.jobs.engine.job import JobKind


class JobFormat(StrEnum):
    NDJSON = "ndjson"  # a line of JSON for each image, frame or slice
    COCO = "coco"  # one COCO data set
    PNG = "png"  # a zip of label or class maps
    TIFF = "tiff"  # the same, as TIFF
    TIFF_STACK = "tiff_stack"  # label maps as the pages of one TIFF
    NIFTI = "nifti"  # a label volume in the source's geometry
    NRRD = "nrrd"
    MHA = "mha"
    MP4 = "mp4"  # objects drawn over the frames
    SHEET = "sheet"  # the same of some frames or slices, as one PNG
    CTC = "ctc"  # tracks as the Cell Tracking Challenge has them


@dataclass(frozen=True)
class FileType:
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
    JobFormat.MP4: FileType("video/mp4", ".mp4"),
    JobFormat.CTC: FileType("application/zip", ".zip"),
    JobFormat.SHEET: FileType("image/png", ".png"),
}
COMMON_FORMATS = (JobFormat.NDJSON, JobFormat.COCO, JobFormat.PNG, JobFormat.TIFF)
FRAME_FORMATS = (*COMMON_FORMATS, JobFormat.TIFF_STACK, JobFormat.SHEET)
FORMATS_BY_KIND = {
    JobKind.BATCH: COMMON_FORMATS,
    JobKind.VIDEO: (*FRAME_FORMATS, JobFormat.MP4),
    JobKind.VOLUME: (*FRAME_FORMATS, JobFormat.NIFTI, JobFormat.NRRD, JobFormat.MHA),
    JobKind.TRACKING: (JobFormat.CTC, *FRAME_FORMATS, JobFormat.MP4),
}


def check_job_format(kind: JobKind, asked: JobFormat) -> None:
    """Raises BadInput where results of the kind are not to be had so."""
    if asked not in FORMATS_BY_KIND[kind]:
        raise BadInput(
            f"The results of a {kind} job are not to be had as {asked!s}.",
            field="format",
            remedy=f"Ask for one of: {', '.join(FORMATS_BY_KIND[kind])}.",
        )
