"""DICOM SEG as highdicom and pydicom read it: segments, places of voxels, references to the source's instances."""

from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from segserve.errors import BadInput, TooLarge
from segserve.files.volume_geometry import create_geometry
from segserve.rendering import dicom_seg
from segserve.rendering.dicom_seg import SegSource, write_dicom_seg
from tests.files.dicom.sample_dicom import (
    AXIAL,
    COLUMNS,
    ROWS,
    SAGITTAL,
    draw,
    encode,
    make_series,
    make_slice,
    oblique,
    open_files,
)
from tests.files.dicom.sample_multi_frame import encode_csa_header, encode_mosaic

SLICES = 6


def draw_labels() -> np.ndarray:
    """Two objects that touch, 3 and 700, on slices 1 to 3 and 3 to 4 of 6."""
    labels = np.zeros((SLICES, ROWS, COLUMNS), np.uint16)
    labels[1:4, 2:6, 3:9] = 3
    labels[3:5, 5:9, 7:12] = 700
    return labels


def open_source(folder: Path, files: dict[str, bytes]) -> SegSource:
    opened = open_files(folder, files)
    return SegSource(
        opened.source, opened.geometry, "sam2-tiny", "0123456789abcdef", {700: "Liver, left lobe"}
    )


def write(folder: Path, source: SegSource, labels: np.ndarray) -> hd.seg.Segmentation:
    path = folder / "labels.dcm"
    write_dicom_seg(path, labels, source)
    assert pydicom.dcmread(path).SOPClassUID == pydicom.uid.SegmentationStorage
    return hd.seg.segread(path)


def read_places(seg: hd.seg.Segmentation, segment: int) -> np.ndarray:
    """Return the places of a segment's voxels in millimetres, sorted, as the frames' own positions say."""
    places = []
    shared = seg.SharedFunctionalGroupsSequence[0]
    spacing = shared.PixelMeasuresSequence[0].PixelSpacing
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment:
            origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient)
            rows, columns = np.nonzero(pixels)
            across, down = orientation[:3] * spacing[1], orientation[3:] * spacing[0]
            places.append(origin + columns[:, None] * across + rows[:, None] * down)
    return sort_places(np.concatenate(places))


def sort_places(places: np.ndarray) -> np.ndarray:
    return places[np.lexsort(np.round(places, 3).T)]


def expected_places(source: SegSource, mask: np.ndarray) -> np.ndarray:
    z, y, x = np.nonzero(mask)
    return sort_places((source.geometry.affine @ np.stack([x, y, z, np.ones(len(x))])).T[:, :3])


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, oblique()])
def test_segments_lie_where_the_labels_are(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    names = {"PatientName": "M\u00fcller^Anna", "PatientID": "7", "SpecificCharacterSet": "ISO_IR 100"}
    source = open_source(tmp_path, make_series(SLICES, orientation, **names))
    labels = draw_labels()
    seg = write(tmp_path, source, labels)
    assert [item.SegmentLabel for item in seg.SegmentSequence] == ["Object 3", "Liver, left lobe"]
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
    assert seg.NumberOfFrames == 3 + 2, "slices without the object are left out"
    for segment, label in ((1, 3), (2, 700)):
        assert np.allclose(read_places(seg, segment), expected_places(source, labels == label), atol=1e-4)
    assert (seg.PatientName, seg.PatientID, seg.StudyInstanceUID) == ("M\u00fcller^Anna", "7", "1.2.3")
    assert (seg.FrameOfReferenceUID, seg.Modality) == ("1.2.3.9", "SEG")


def test_frames_refer_to_the_instances_of_their_slices(tmp_path: Path) -> None:
    source = open_source(tmp_path, make_series(SLICES))
    labels = draw_labels()
    seg = write(tmp_path, source, labels)
    instances = [one.sop_instance_uid for one in source.series.slices]
    [referenced] = seg.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.series.series_uid
    assert [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence] == instances
    pixels = seg.get_pixels_by_source_instance(
        instances, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(pixels, np.select([labels == 3, labels == 700], [1, 2]))


def test_frames_of_a_multi_frame_image_are_referred_to_by_number(tmp_path: Path) -> None:
    slices = np.stack([draw(number) for number in range(SLICES)])
    spacing = {"SpacingBetweenSlices": 2.5, "ImagePositionPatient": ["0", "0", "0"]}
    opened = open_files(tmp_path, {"a": encode(make_slice(slices, NumberOfFrames=SLICES, **spacing))})
    geometry = create_geometry((COLUMNS, ROWS, SLICES), np.diag([0.7, 0.8, 2.5, 1]), is_placed=True)
    source = SegSource(opened.source, geometry, "sam2-tiny", "job", {})
    seg = write(tmp_path, source, draw_labels())
    [referenced] = seg.ReferencedSeriesSequence
    [instance] = referenced.ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == opened.source.slices[0].sop_instance_uid
    items = [
        frame.DerivationImageSequence[0].SourceImageSequence[0]
        for frame in seg.PerFrameFunctionalGroupsSequence
    ]
    assert {item.ReferencedSOPInstanceUID for item in items} == {instance.ReferencedSOPInstanceUID}
    assert sorted(int(item.ReferencedFrameNumber) for item in items) == [2, 3, 4, 4, 5]
    for item, frame in zip(items, seg.PerFrameFunctionalGroupsSequence, strict=True):
        one = source.series.slices[int(item.ReferencedFrameNumber) - 1]
        expected = (
            source.geometry.affine @ [0, 0, one.frame_number - 1, 1] if one.position is None else one.position
        )
        assert np.allclose(frame.PlanePositionSequence[0].ImagePositionPatient, expected[:3])


def test_slices_of_a_mosaic_are_referred_to_as_parts_of_it(tmp_path: Path) -> None:
    orientation = oblique()
    normal = [f"{value:.8f}" for value in np.cross(orientation[:3], orientation[3:])]
    csa = encode_csa_header(2, NumberOfImagesInMosaic=[f"{SLICES}"], SliceNormalVector=normal)
    mosaic = encode_mosaic([draw(number) for number in range(SLICES)], orientation, (10, 20, 30), csa)
    source, labels = open_source(tmp_path, {"m": mosaic}), draw_labels()
    seg = write(tmp_path, source, labels)
    for segment, label in enumerate((3, 700), 1):
        places = read_places(seg, segment)
        assert np.allclose(places, expected_places(source, labels == label), atol=1e-3)
    [instance] = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    for frame in seg.PerFrameFunctionalGroupsSequence:
        [item] = frame.DerivationImageSequence[0].SourceImageSequence
        assert item.ReferencedSOPInstanceUID == instance.ReferencedSOPInstanceUID
        assert item.SpatialLocationsPreserved == "NO"


def test_the_same_labels_of_a_job_are_the_same_instance(tmp_path: Path) -> None:
    source = open_source(tmp_path, make_series(SLICES))
    first, again = (write(tmp_path, source, draw_labels()) for _ in range(2))
    other = write(tmp_path, source, np.where(draw_labels() == 3, 3, 0).astype(np.uint16))
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == other.SeriesInstanceUID


def test_attributes_that_dicom_does_not_allow_and_that_are_missing(tmp_path: Path) -> None:
    source = open_source(tmp_path, make_series(SLICES))
    attributes = {"PatientAge": "forty", "PatientBirthDate": "soon", "PatientSex": "F"}
    series = replace(source.series, attributes=attributes, frame_of_reference_uid="")
    seg = write(tmp_path, replace(source, series=series), draw_labels())
    assert (seg.PatientName, seg.PatientSex) == ("", "F")
    assert not seg.PatientBirthDate
    assert "PatientAge" not in seg
    assert seg.FrameOfReferenceUID.startswith("2.25.")


def test_too_many_objects_and_none_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(tmp_path, make_series(SLICES))
    with pytest.raises(BadInput, match="holds one at least"):
        write_dicom_seg(tmp_path / "x", np.zeros((SLICES, ROWS, COLUMNS), np.uint16), source)
    monkeypatch.setattr(dicom_seg, "MAX_SEGMENTS", 1)
    with pytest.raises(TooLarge, match="2 objects"):
        write_dicom_seg(tmp_path / "x", draw_labels(), source)
