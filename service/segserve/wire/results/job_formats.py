"""The formats that the results of jobs can be had in."""

from dataclasses import dataclass
from enum import StrEnum

from segserve.errors import BadInput
from segserve.jobs.engine.job import Kind


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
class Form:
    media_type: str
    suffix: str


FORMS = {
    JobFormat.NDJSON: Form("application/x-ndjson", ".ndjson"),
    JobFormat.COCO: Form("application/json", ".json"),
    JobFormat.PNG: Form("application/zip", ".zip"),
    JobFormat.TIFF: Form("application/zip", ".zip"),
    JobFormat.TIFF_STACK: Form("image/tiff", ".tif"),
    JobFormat.NIFTI: Form("application/gzip", ".nii.gz"),
    JobFormat.NRRD: Form("application/octet-stream", ".nrrd"),
    JobFormat.MHA: Form("application/octet-stream", ".mha"),
    JobFormat.MP4: Form("video/mp4", ".mp4"),
    JobFormat.CTC: Form("application/zip", ".zip"),
    JobFormat.SHEET: Form("image/png", ".png"),
}
OF_ALL = (JobFormat.NDJSON, JobFormat.COCO, JobFormat.PNG, JobFormat.TIFF)
OF_FRAMES = (*OF_ALL, JobFormat.TIFF_STACK, JobFormat.SHEET)
OF_KIND = {
    Kind.BATCH: OF_ALL,
    Kind.VIDEO: (*OF_FRAMES, JobFormat.MP4),
    Kind.VOLUME: (*OF_FRAMES, JobFormat.NIFTI, JobFormat.NRRD, JobFormat.MHA),
    Kind.TRACKING: (JobFormat.CTC, *OF_FRAMES, JobFormat.MP4),
}


def check(kind: Kind, asked: JobFormat) -> None:
    """Raises BadInput where results of the kind are not to be had so."""
    if asked not in OF_KIND[kind]:
        raise BadInput(
            f"The results of a {kind} job are not to be had as {asked!s}.",
            field="format",
            remedy=f"Ask for one of: {', '.join(OF_KIND[kind])}.",
        )
