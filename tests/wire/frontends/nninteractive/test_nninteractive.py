"""The protocol of nninteractive-server, by the requests that nninteractive-client sends."""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from imagecodecs import blosc2_decode, blosc2_encode
from numpy.typing import NDArray

from segserve.masks.geometry import iou
from tests.serving import Server

PREFIX = "/nninteractive"
OPEN = 'segserve_frontend_sessions{frontend="nninteractive"}'
SHAPE = (8, 64, 64)
CENTRE = (4, 32, 30)
WAIT_S = 300  # the first job waits for its worker, on a busy machine for long


def draw_ball(radius: float) -> NDArray[np.bool_]:
    z, y, x = np.indices(SHAPE)
    distance = 16 * (z - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2
    return np.asarray(distance <= radius**2)


TRUTH = draw_ball(12)
IMAGE = (60 + 120 * TRUTH + np.random.default_rng(0).normal(0, 5, SHAPE)).astype(np.float32)


def pack(array: NDArray[Any], *, shape: tuple[int, ...] | None = None, chunk_bytes: int = 1 << 30) -> bytes:
    """As the client packs arrays. shape: that the header says."""
    name, data = array.dtype.name.encode(), array.tobytes()
    axes = array.shape if shape is None else shape
    parts = [b"NNIA", bytes([1, 1, len(axes), len(name)]), name, struct.pack(f"<{len(axes)}q", *axes)]
    chunks = [data[begin : begin + chunk_bytes] for begin in range(0, len(data), chunk_bytes)]
    parts.append(struct.pack("<I", len(chunks)))
    for chunk in chunks:
        packed = blosc2_encode(chunk, typesize=array.itemsize)
        parts += [struct.pack("<QQ", len(chunk), len(packed)), packed]
    return b"".join(parts)


def unpack(data: bytes) -> NDArray[np.uint8]:
    """An answer of one chunk of uint8."""
    axes, name_bytes = data[6], data[7]
    shape = struct.unpack_from(f"<{axes}q", data, 8 + name_bytes)
    begin = 8 + name_bytes + 8 * axes + 4 + 16
    return np.frombuffer(blosc2_decode(data[begin:]), np.uint8).reshape(shape)


class Lease:
    """A client with its lease, and its own copy of the mask."""

    def __init__(self, client: httpx.Client, prefix: str = PREFIX) -> None:
        self._client, self._prefix = client, prefix
        answer = client.post(f"{prefix}/claim")
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["lease_token"]
        self.mask = np.zeros(SHAPE, np.uint8)

    def request(self, method: str, route: str, **options: Any) -> httpx.Response:
        headers = {"X-Lease-Token": self.token, **options.pop("headers", {})}
        options.setdefault("timeout", WAIT_S)
        return self._client.request(method, f"{self._prefix}/{route}", headers=headers, **options)

    def post(self, route: str, **body: Any) -> httpx.Response:
        return self.request("POST", route, json=body)

    def post_array(self, route: str, array: NDArray[Any] | bytes, **meta: Any) -> httpx.Response:
        data = array if isinstance(array, bytes) else pack(array)
        headers = {"X-Meta": json.dumps(meta), "Content-Type": "application/octet-stream"}
        return self.request("POST", route, content=data, headers=headers)

    def begin(self) -> "Lease":
        answer = self.post_array("set_image", IMAGE[None], image_properties={"spacing": [4.0, 1.0, 1.0]})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"original_image_shape": [1, *SHAPE]}
        assert self.post("set_target_buffer", shape=SHAPE, dtype="uint8").status_code == 200
        return self

    def apply(self, answer: httpx.Response) -> dict[str, Any]:
        """Write what has changed into the copy, and return what the answer says."""
        assert answer.status_code == 200, answer.text
        meta: dict[str, Any] = json.loads(answer.headers["X-Meta"])
        if meta["bbox"] is not None:
            self.mask[tuple(slice(*side) for side in meta["bbox"])] = unpack(answer.content)
        else:
            assert answer.content == b""
        return meta

    def point(self, *coordinates: float, include: bool = True, run: bool = True) -> dict[str, Any]:
        body = {"coordinates": coordinates, "include_interaction": include, "run_prediction": run}
        return self.apply(self.post("add_point_interaction", **body))

    def iou(self) -> float:
        return iou(self.mask > 0, TRUTH)

    def release(self) -> None:
        assert self.post("release").status_code == 200


@pytest.fixture(scope="module")
def leasing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with two leases, one for each client."""
    running = Server(tmp_path_factory.mktemp("leases"), max_sessions="2")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture
def lease(leasing: Server) -> Iterator[Lease]:
    lease = Lease(leasing.client).begin()
    yield lease
    lease.release()
    wait_until(lambda: not leasing.metric(OPEN))


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_click_gives_the_object_and_undo_takes_it_back(lease: Lease) -> None:
    meta = lease.point(*CENTRE)
    assert meta["ran_prediction"] is True
    assert lease.iou() > 0.85
    corners = np.argwhere(lease.mask)
    expected = np.stack([corners.min(axis=0), corners.max(axis=0) + 1], axis=1)
    assert meta["bbox"] == expected.tolist()  # no more than what has changed
    first = lease.mask.copy()
    box = {"bbox_coords": [[4, 5], [28, 37], [26, 35]], "include_interaction": True}
    lease.apply(lease.post("add_bbox_interaction", **box))
    assert (lease.mask != first).any()
    assert lease.apply(lease.post("undo"))["ran_prediction"] is True
    np.testing.assert_array_equal(lease.mask, first)
    lease.apply(lease.post("undo"))
    assert not lease.mask.any()
    assert lease.apply(lease.post("undo")) == {"ran_prediction": False, "bbox": None}


def test_lassos_scribbles_and_negative_points(lease: Lease) -> None:
    outline = np.zeros((1, 30, 30), np.uint8)
    outline[0, 3:28, 3], outline[0, 3:28, 27] = 1, 1
    outline[0, 3, 3:28], outline[0, 27, 3:28] = 1, 1
    where = {"interaction_bbox": [[4, 5], [17, 47], [15, 45]], "include_interaction": True}
    lease.apply(lease.post_array("add_lasso_interaction", outline, **where))
    assert lease.iou() > 0.7
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[5, 28:36, 30] = 1
    lease.apply(lease.post_array("add_scribble_interaction", drawn, include_interaction=True))
    assert lease.iou() > 0.7
    before = np.count_nonzero(lease.mask)
    taken = {"bbox_coords": [[5, 6], [17, 27], [15, 45]], "include_interaction": False}
    lease.apply(lease.post("add_bbox_interaction", **taken))
    assert np.count_nonzero(lease.mask) < before


def test_a_click_beside_the_object_adds_nothing(lease: Lease) -> None:
    assert lease.point(1, 2, 2, include=False) == {"ran_prediction": True, "bbox": None}


def test_an_earlier_segmentation_is_gone_on_with(lease: Lease) -> None:
    rough = draw_ball(9).astype(np.uint8)
    assert lease.post_array("add_initial_seg_interaction", rough).headers["X-Meta"]
    lease.mask[:] = rough
    assert lease.apply(lease.post("predict", force_full_refine=False))["ran_prediction"] is True
    assert lease.iou() > iou(rough > 0, TRUTH)
    assert lease.apply(lease.post("predict"))["ran_prediction"] is False
    lease.apply(lease.post("undo"))
    assert not lease.mask.any()


def test_nothing_is_computed_before_it_is_asked_for(lease: Lease) -> None:
    assert lease.point(*CENTRE, run=False) == {"ran_prediction": False, "bbox": None}
    assert lease.apply(lease.post("predict"))["bbox"] is not None
    assert lease.iou() > 0.85
    assert lease.post("reset_interactions").status_code == 200
    lease.mask[:] = 0
    assert lease.apply(lease.post("undo"))["ran_prediction"] is False
    lease.point(*CENTRE)
    assert lease.iou() > 0.85


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("add_point_interaction", {"coordinates": [8, 1, 1]}, "no voxel"),
        ("add_point_interaction", {"coordinates": [1, 1]}, "coordinates"),
        ("add_bbox_interaction", {"bbox_coords": [[1, 3], [1, 9], [1, 9]]}, "several slices"),
        ("add_bbox_interaction", {"bbox_coords": [[9, 10], [1, 9], [1, 9]]}, "nothing of the image"),
        ("set_target_buffer", {"shape": [8, 64, 63], "dtype": "uint8"}, "[8, 64, 64]"),
        ("set_target_buffer", {"shape": SHAPE, "dtype": "float32"}, "float32"),
    ],
)
def test_bad_requests_say_what_is_wrong(lease: Lease, route: str, body: dict[str, Any], words: str) -> None:
    answer = lease.post(route, include_interaction=True, **body)
    assert answer.status_code == 422, answer.text
    assert list(answer.json()) == ["detail"]
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((1, 5, 5), np.uint8), "Nothing is drawn"),
        (np.ones((5, 5), np.uint8), "axes"),
        (np.ones((2, 5, 5), np.uint8), "[2, 5, 5]"),
        (pack(np.ones((1, 5, 5), np.uint8))[:-5], "ends early"),
        (pack(np.ones((1, 5, 5), np.uint8), shape=(1 << 20, 1 << 20, 5)), "voxels"),
        (np.ones((1, 5, 5), np.float16), "16 bits"),
        (b"no array", "format"),
    ],
    ids=["empty", "axes", "shape", "cut", "huge", "half", "other"],
)
def test_bad_arrays_say_what_is_wrong(lease: Lease, array: Any, words: str) -> None:
    where = {"interaction_bbox": [[4, 5], [10, 15], [10, 15]], "include_interaction": True}
    answer = lease.post_array("add_lasso_interaction", array, **where)
    assert answer.status_code in (413, 422), answer.text
    assert words in answer.json()["detail"] or array == b"no array"


def test_images_that_are_none_leave_the_former_one(lease: Lease) -> None:
    for image in (np.zeros((2, *SHAPE), np.uint8), b"no array", pack(IMAGE)[:-9]):
        answer = lease.post_array("set_image", image)
        assert answer.status_code in (415, 422), answer.text
    lease.point(*CENTRE)
    assert lease.iou() > 0.85


def test_a_client_has_its_share_and_all_have_a_limit(leasing: Server, lease: Lease) -> None:
    refused = leasing.client.post(f"{PREFIX}/claim")
    assert refused.status_code == 503  # what the client takes for "at capacity"
    assert "sessions are open" in refused.json()["detail"]
    with leasing.client_from("127.0.0.2") as other, leasing.client_from("127.0.0.3") as third:
        second = Lease(other)
        assert third.post(f"{PREFIX}/claim").status_code == 503
        stolen = other.post(f"{PREFIX}/undo", headers={"X-Lease-Token": lease.token})
        assert stolen.status_code == 410  # what the client takes for "expired"
        assert second.post("add_point_interaction", coordinates=CENTRE).status_code == 422  # no image yet
        second.release()
        second.release()  # once more changes nothing
        assert second.post("heartbeat").status_code == 410
    assert 0 < lease.post("heartbeat").json()["remaining_seconds"] <= 1800
    assert lease.request("GET", "lease_status").json()["idle_timeout_seconds"] == 1800


def test_what_answers_is_said(leasing: Server) -> None:
    capabilities = leasing.client.get(f"{PREFIX}/capabilities").json()
    assert capabilities["supported_interactions"]["bbox3d"] is False
    assert capabilities["engine"] == "projection"
    assert "Not nnInteractive's network" in capabilities["description"]
    assert leasing.client.get(f"{PREFIX}/models/starter/capabilities").json() == capabilities
    assert leasing.client.get(f"{PREFIX}/models/none/capabilities").status_code == 404
    assert leasing.client.post(f"{PREFIX}/models/starter-unet/claim").status_code == 422
    assert leasing.client.get(f"{PREFIX}/healthz").json() == {"ok": True}


def test_the_job_ends_where_the_client_leaves(leasing: Server) -> None:
    with leasing.client_from("127.0.0.1") as client:
        lease = Lease(client)
        # The object goes through all 60 slices, each of which is encoded: seconds of work.
        noise = np.random.default_rng(1).normal(0, 5, (60, *SHAPE[1:]))
        deep = (60 + 120 * TRUTH[CENTRE[0]] + noise).astype(np.float32)
        assert lease.post_array("set_image", deep[None]).status_code == 200
        body = {"coordinates": [30, *CENTRE[1:]], "include_interaction": True}
        with pytest.raises(httpx.ReadTimeout):
            lease.request("POST", "add_point_interaction", json=body, timeout=0.6)
        wait_until(lambda: leasing.client.get("/v1/jobs").json()["jobs"][0]["state"] == "cancelled")
        assert lease.apply(lease.post("undo"))["ran_prediction"] is False  # it changed nothing
        lease.release()
    wait_until(lambda: not leasing.metric(OPEN))


def test_the_image_is_deleted_with_its_lease(leasing: Server) -> None:
    pixels = len(pack(IMAGE))

    def count() -> int:
        """Files that are as large as the image. Others come and go meanwhile."""
        large = 0
        for folder, _, names in os.walk(leasing.data_dir / "objects"):
            for name in names:
                with suppress(FileNotFoundError):
                    large += (Path(folder) / name).stat().st_size > pixels // 2
        return large

    before = count()
    lease = Lease(leasing.client).begin()
    assert count() == before + 1
    lease.begin()  # another image takes its place
    wait_until(lambda: count() == before + 1)
    lease.release()
    wait_until(lambda: count() == before)
