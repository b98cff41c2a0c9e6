"""Write a label volume as DICOM SEG (PS3.3, A.51) with references to the instances of its source, by highdicom."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segserve import __version__
from segserve.errors import BadInput, MissingDependency, TooLarge
from segserve.files.dicom.source_instances import SourceSeries, SourceSlice
from segserve.files.volume_geometry import VolumeGeometry

# Each segment is looked for on each slice: a thousand on 500 slices of 512 x 512 take half a minute.
MAX_SEGMENTS = 1000
# highdicom refers to single-frame images. Each slice has a name of this form until it is given its own.
PLACEHOLDER_PREFIX = "2.25.1."
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
# Attributes that every SEG has, also where its source lacks them.
REQUIRED_ATTRIBUTES = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                       "StudyDate", "StudyTime")  # fmt: skip
# Attributes that are made anew for each slice.
OWN_ATTRIBUTES = {"SpecificCharacterSet", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"}
UTF8 = "ISO_IR 192"
SERIES_NUMBER = 1000
MANUFACTURER = "segserve"


@dataclass(frozen=True)
class SegSource:
    """The source of a SEG, which it names.

    job_id: names the series of the SEG, always the same for the same job.
    names: of labels, at most 64 characters each.
    """

    series: SourceSeries
    geometry: VolumeGeometry
    model: str
    job_id: str
    names: Mapping[int, str]


def write_dicom_seg(path: Path, labels: NDArray[Any], source: SegSource) -> None:
    """Write labels [Z, Y, X] as a segment each, on the slices where they are.

    Segments are numbered from 1 in the order of labels. A segment's label is its name; "Object 7" for 7 without one.

    Raises BadInput where there are no labels, TooLarge, MissingDependency.
    """
    hd = import_highdicom()
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    if not numbers.size:
        raise BadInput(
            "No slice has an object yet, and a DICOM SEG holds one at least.",
            field="format",
            remedy="Ask again when the job's progress is higher, or for 'nifti'.",
        )
    if numbers.size > MAX_SEGMENTS:
        raise TooLarge(
            f"There are {numbers.size} objects; a DICOM SEG gets at most {MAX_SEGMENTS} segments here.",
            field="format",
            remedy="Ask for 'nifti', 'nrrd' or 'mha'.",
        )
    segments = np.searchsorted(numbers, labels, side="left").astype(np.uint16)
    segments[labels > 0] += 1
    segments[labels == 0] = 0
    digest = hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()
    seg = hd.seg.Segmentation(
        source_images=create_source_images(source),
        pixel_array=segments,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            describe_segment(hd, segment, int(number), source) for segment, number in enumerate(numbers, 1)
        ],
        series_instance_uid=create_uid(source.job_id, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=create_uid(source.job_id, digest),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=__version__,
        device_serial_number=source.job_id[:64],
        content_label="SEGMENTATION",
        content_description=f"Objects segmented with {source.model}"[:64],
        series_description=f"Segmentation, {source.model}"[:64],
        specific_character_set=UTF8,
        omit_empty_frames=True,
    )
    refer_to_instances(seg, source.series)
    seg.save_as(path)


@cache
def import_highdicom() -> Any:
    """Return the module highdicom. Raises MissingDependency."""
    try:
        import highdicom
    except ImportError:
        raise MissingDependency("highdicom", "volumes", "Making a DICOM SEG") from None
    return highdicom


def create_uid(*names: str) -> str:
    """Return the UID of these names: always the same (PS3.5, B.2)."""
    return f"2.25.{int.from_bytes(hashlib.sha256(' '.join(names).encode()).digest()[:16], 'big')}"


def describe_segment(hd: Any, segment: int, number: int, source: SegSource) -> Any:
    """Return the description of a segment. What the object is the service does not know: "tissue" is said of all."""
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=segment,
        segment_label=source.names.get(number, f"Object {number}"),
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=source.model[:64], family=codes.DCM.ArtificialIntelligence, version=__version__
        ),
        tracking_uid=create_uid(source.job_id, str(number)),
        tracking_id=f"Object {number}",
    )


def create_source_images(source: SegSource) -> list[Any]:
    """Return the headers of the source's slices, each as a single-frame image."""
    from pydicom.dataset import Dataset
    from pydicom.valuerep import format_number_as_ds

    geometry, series = source.geometry, source.series
    direction = np.reshape(geometry.direction, (3, 3))
    columns, rows, _ = geometry.size
    images = []
    for number, one in enumerate(series.slices):
        image = Dataset()
        set_attributes(image, series)
        image.SOPClassUID = CT_IMAGE
        image.SOPInstanceUID = f"{PLACEHOLDER_PREFIX}{number}"
        image.SeriesInstanceUID = series.series_uid or create_uid(source.job_id, "source")
        image.StudyInstanceUID = series.study_uid or create_uid(source.job_id, "study")
        image.FrameOfReferenceUID = series.frame_of_reference_uid or create_uid(
            series.series_uid, "frame of reference"
        )
        image.Rows, image.Columns = rows, columns
        image.PixelSpacing = list(map(format_number_as_ds, (geometry.spacing[1], geometry.spacing[0])))
        image.SliceThickness = format_number_as_ds(geometry.spacing[2])
        image.ImageOrientationPatient = list(map(format_number_as_ds, direction[:, :2].T.ravel().tolist()))
        stored = geometry.affine @ [0, 0, number, 1] if one.position is None else np.array(one.position)
        image.ImagePositionPatient = list(map(format_number_as_ds, stored[:3].tolist()))
        images.append(image)
    return images


def set_attributes(image: Any, series: SourceSeries) -> None:
    """Set the attributes of the patient and the study; a value that DICOM does not allow is left out."""
    from pydicom.config import RAISE
    from pydicom.datadict import dictionary_VR
    from pydicom.valuerep import validate_value

    for keyword in REQUIRED_ATTRIBUTES:
        setattr(image, keyword, "")
    for keyword, text in series.attributes.items():
        if keyword in OWN_ATTRIBUTES or not text:
            continue
        values = text.split("\\")
        with suppress(ValueError, TypeError, OverflowError, KeyError):
            for value in values:
                validate_value(dictionary_VR(keyword), value, RAISE)
            setattr(image, keyword, values if len(values) > 1 else text)


def refer_to_instances(seg: Any, series: SourceSeries) -> None:
    """Put the source's instances and frames in place of the placeholders, once each."""
    for frame in seg.PerFrameFunctionalGroupsSequence:
        for derivation in frame.get("DerivationImageSequence", []):
            for item in derivation.SourceImageSequence:
                one = find_slice(item, series)
                if one is not None:
                    name_instance(item, one)
                    if one.frame_number is not None:
                        item.ReferencedFrameNumber = one.frame_number
                    if one.tile is not None:  # a part of the instance, at another place in it
                        item.SpatialLocationsPreserved = "NO"
    seg.SourceImageSequence = name_instances(seg.SourceImageSequence, series)
    for referenced in seg.ReferencedSeriesSequence:
        referenced.ReferencedInstanceSequence = name_instances(referenced.ReferencedInstanceSequence, series)


def name_instances(items: Sequence[Any], series: SourceSeries) -> list[Any]:
    """Return references to the instances, each once: the slices of a multi-frame image share one."""
    by_uid = dict[str, Any]()
    for item in items:
        if (one := find_slice(item, series)) is not None:
            name_instance(item, one)
        by_uid.setdefault(str(item.ReferencedSOPInstanceUID), item)
    return list(by_uid.values())


def find_slice(item: Any, series: SourceSeries) -> SourceSlice | None:
    """Return the slice that a reference's placeholder stands for; None where it has its instance already."""
    uid = str(item.ReferencedSOPInstanceUID)
    return (
        series.slices[int(uid.removeprefix(PLACEHOLDER_PREFIX))]
        if uid.startswith(PLACEHOLDER_PREFIX)
        else None
    )


def name_instance(item: Any, one: SourceSlice) -> None:
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class_uid, one.sop_instance_uid
