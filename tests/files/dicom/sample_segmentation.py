"""Write DICOM SEG by highdicom, for the scans of `sample_dicom`."""

import io
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
from pydicom.sr.codedict import codes

PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime")


def write_segmentation(
    path: Path, files: dict[str, bytes], masks: np.ndarray, names: list[str], kind: str = "BINARY"
) -> Path:
    """Write a SEG of a series, by `make_series`. masks: [slices, rows, columns, segments], which may overlap."""
    algorithm = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    images = sorted(
        (pydicom.dcmread(io.BytesIO(data)) for data in files.values()), key=lambda image: image.InstanceNumber
    )
    for image in images:
        for keyword in (*PATIENT, *STUDY):
            setattr(image, keyword, "")
    segmentation = hd.seg.Segmentation(
        source_images=images,
        pixel_array=masks.astype(float if kind == "FRACTIONAL" else np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues[kind],
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name,
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Liver,
                algorithm_type=algorithm,
            )
            for number, name in enumerate(names, 1)
        ],
        series_instance_uid=hd.UID(),
        series_number=7,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )
    segmentation.save_as(path)
    return path
