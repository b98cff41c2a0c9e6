"""DICOM over MONAI Label's protocol: series by their UID from a DICOMweb server, sessions of many files, DICOM SEG.

ITK reads the same files: its indices are what clients mean.
"""

import io
import json
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as itk

from tests.files.dicom.sample_dicom import encode, make_slice
from tests.files.test_fetch_dicomweb import instances
from tests.images.http_site import HERE, Site, answer
from tests.serving import Server
from tests.wire.frontends.monai.test_monai import MIDDLE, SLICES, draw_volume, iou, read_itk, truth

STUDY, SERIES = "1.2.3", "1.2.3.1"
SEARCH = f"/dicom-web/series?SeriesInstanceUID={SERIES}&includefield=0020000D"
FETCH = f"/dicom-web/studies/{STUDY}/series/{SERIES}"


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """The slices of a series from head to feet, as scanners number them, turned in the plane: no axis is a default."""
    volume = draw_volume()
    return [
        encode(
            make_slice(
                volume[k],
                (-10.0, 20.0, 2.5 * k),
                orientation=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0),
                number=SLICES - k,
            )
        )
        for k in reversed(range(SLICES))
    ]


@pytest.fixture(scope="module")
def reference(files: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> itk.Image:
    """The series as ITK reads it, and so MONAI Label and OHIF."""
    folder = tmp_path_factory.mktemp("series")
    for number, data in enumerate(files):
        (folder / f"{number}.dcm").write_bytes(data)
    reader = itk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.fixture(scope="module")
def pacs(files: list[bytes]) -> Iterator[Site]:
    found = [{"0020000D": {"vr": "UI", "Value": [STUDY]}, "0020000E": {"vr": "UI", "Value": [SERIES]}}]
    with closing(Site(HERE)) as site:
        site.answers[SEARCH] = answer(200, json.dumps(found).encode(), content_type="application/dicom+json")
        site.answers[FETCH] = instances(files)
        site.answers[SEARCH.replace(SERIES, "9.9")] = answer(204)
        yield site


@pytest.fixture(scope="module")
def monai(pacs: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(
        tmp_path_factory.mktemp("monai"),
        dicomweb_url=f"{pacs.url}/dicom-web",
        dicomweb_hosts=f'["{HERE}"]',
        dicomweb_private="true",
    )
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


def post(server: Server, query: str, params: dict[str, Any]) -> Any:
    files = {"params": (None, json.dumps(params))}
    return server.client.post(f"/monai/infer/starter_2d?{query}", files=files)


def test_a_series_is_stacked_as_itk_stacks_it(monai: Server, pacs: Site, reference: itk.Image) -> None:
    expected = itk.GetArrayFromImage(reference) > 500
    assert expected.sum() == truth().sum()
    k, j, i = (round(float(axis.mean())) for axis in np.nonzero(expected))
    # As OHIF asks.
    params = {
        "foreground": [[i, j, k]],
        "background": [],
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
    }
    params |= {"result_compress": False, "restore_label_idx": False}
    for _ in range(2):
        answered = post(monai, f"image={SERIES}&output=image", params)
        assert answered.status_code == 200, answered.text
    assert [path for _, path in pacs.requests] == [SEARCH, FETCH], "it is fetched once"
    header, _, voxels = answered.content.partition(b"\n\n")
    assert b"encoding: raw" in header, "OHIF reads the rest as it is"
    raw = np.frombuffer(voxels, np.uint8).reshape(expected.shape)
    wanted = expected & (np.arange(SLICES) == k)[:, None, None]
    assert iou(raw > 0, wanted) > 0.8
    labels = read_itk(answered.content, ".nrrd")
    np.testing.assert_allclose(labels.GetOrigin(), reference.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetSpacing(), reference.GetSpacing(), rtol=1e-4)
    np.testing.assert_allclose(labels.GetDirection(), reference.GetDirection(), atol=1e-6)


def test_a_series_that_the_server_lacks(monai: Server) -> None:
    answered = post(monai, "image=9.9", {"foreground": [[1, 2, 0]]})
    assert answered.status_code == 422, answered.text
    assert "no series 9.9" in answered.json()["detail"]


def test_a_series_is_answered_as_dicom_seg(monai: Server) -> None:
    params = {"foreground": [list(MIDDLE)], "label_info": [{"name": "liver", "idx": 1}]}
    answered = post(monai, f"image={SERIES}&output=dicom_seg", params)
    assert answered.status_code == 200, answered.text
    seg = pydicom.dcmread(io.BytesIO(answered.content))
    assert seg.Modality == "SEG"
    assert seg.StudyInstanceUID == STUDY
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["liver"]
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES


def test_a_series_is_sent_as_a_session_and_deleted_with_it(monai: Server, files: list[bytes]) -> None:
    parts = [("files", (f"IM{number}", data)) for number, data in enumerate(files)]
    opened = monai.client.put("/monai/session/", files=parts)
    assert opened.status_code == 200, opened.text
    assert opened.json()["session_info"]["meta"] == {"slices": SLICES}
    session_id = opened.json()["session_id"]
    answered = post(monai, f"session_id={session_id}&output=json", {"foreground": [list(MIDDLE)]})
    assert answered.json()["slice"] == MIDDLE[2]
    stored = list(monai.data_dir.glob("objects/*/files/*"))
    assert monai.client.delete(f"/monai/session/{session_id}").status_code == 200
    deadline = time.monotonic() + 60
    while len(left := [path for path in stored if path.exists()]) == len(stored):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(left) == len(stored) - 1, "the file of the session is gone, that of the series is not"


def test_labels_of_a_series_are_kept(monai: Server) -> None:
    params = {"foreground": [list(MIDDLE)], "result_extension": ".nii.gz"}
    label = post(monai, f"image={SERIES}&output=image", params).content
    saved = monai.client.put(
        f"/monai/datastore/label?image={SERIES}", files={"label": ("label.nii.gz", label)}
    )
    assert saved.status_code == 200, saved.text
    assert monai.client.get(f"/monai/datastore/label?label={SERIES}&tag=final").content == label
    # The series is still found, though the datastore has no file of it.
    assert post(monai, f"image={SERIES}&output=json", params).status_code == 200
    monai.client.delete(f"/monai/datastore/?id={SERIES}")
