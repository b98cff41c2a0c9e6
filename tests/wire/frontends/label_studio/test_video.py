"""Videos of Label Studio: rectangles that follow an object, and the events of interactive video."""

import base64
import io
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving import Server
from tests.wire.frontends.label_studio.fake_site import Site
from tests.wire.frontends.label_studio.requests import PREFIX, Json, set_up

FRAMES = 6
STEP_PX = 3  # what is seen moves to the left by so much from frame to frame
LEFT, TOP, SIDE = 90, 230, 160
X, Y = 165 - LEFT, 308 - TOP  # on a nucleus that touches no other, in the first frame
WAIT_S = 90
PATH = "/data/upload/20/clip.zip"
OPEN = 'segserve_frontend_sessions{frontend="label-studio"}'
CONFIG = (
    '<View><Labels name="label" toName="video"><Label value="Cell"/></Labels>'
    '<Video name="video" value="$video"/><VideoRectangle name="box" toName="video" smart="true"/></View>'
)


@pytest.fixture(scope="module")
def project(server: Server, site: Site, nuclei: Path) -> str:
    """A project whose task is a window that moves over the picture."""
    file, picture = io.BytesIO(), Image.open(nuclei)
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(FRAMES):
            frame, left = io.BytesIO(), LEFT + number * STEP_PX
            picture.crop((left, TOP, left + SIDE, TOP + SIDE)).save(frame, "PNG")
            archive.writestr(f"{number:03d}.png", frame.getvalue())
    site.files[PATH] = file.getvalue()
    assert set_up(server, site, "20.1", schema=CONFIG).status_code == 200
    return "20.1"


def send(server: Server, project: str, context: Json, *, task: int = 1) -> httpx.Response:
    body = {
        "tasks": [{"id": task, "data": {"video": PATH}}],
        "project": project,
        "label_config": CONFIG,
        "params": {"context": context},
    }
    return server.client.post(f"{PREFIX}/predict", json=body)


def ask(server: Server, project: str, context: Json, *, task: int = 1) -> Json:
    """Return the only region of the answer."""
    response = send(server, project, context, task=task)
    assert response.status_code == 200, response.text
    [result] = response.json()["results"]
    [region] = result["result"]
    answer: Json = region
    return answer


def point(frame: int) -> Json:
    value = {"x": (X - frame * STEP_PX) / SIDE * 100, "y": Y / SIDE * 100, "positive": True}
    return {"type": "keypointlabels", "value": value}


def rectangle(frame: int) -> Json:
    """As Label Studio has it: frames count from 1."""
    left, top, width, height = X - 32 - frame * STEP_PX, Y - 32, 64, 64
    place = {
        "x": left / SIDE * 100,
        "y": top / SIDE * 100,
        "width": width / SIDE * 100,
        "height": height / SIDE * 100,
    }
    return {"frame": frame + 1, "enabled": True, "rotation": 0, "time": frame / 24, **place}


def read_mask(value: Json) -> np.ndarray:
    png = base64.b64decode(value["imageDataURL"].partition(",")[2])
    mask = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert mask.shape[:2] == (value["height"], value["width"])
    assert np.array_equal(mask[..., 3] > 0, mask[..., 0] > 0)  # opacity and brightness say the same
    return mask[..., 3] > 0


def middle_x(mask: np.ndarray) -> float:
    return float(np.nonzero(mask)[1].mean())


def wait_until_closed(server: Server) -> None:
    deadline = time.monotonic() + WAIT_S
    while server.metric(OPEN):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_rectangle_follows_the_object(server: Server, project: str) -> None:
    value = {"framesCount": FRAMES, "duration": FRAMES / 24, "sequence": [rectangle(0)], "labels": ["Cell"]}
    drawn = {"type": "videorectangle", "id": "abc", "from_name": "box", "to_name": "video", "value": value}
    region = ask(server, project, {"result": [drawn]})
    assert (region["id"], region["type"], region["from_name"]) == ("abc", "videorectangle", "box")
    assert region["value"]["labels"] == ["Cell"]
    sequence = region["value"]["sequence"]
    assert [entry["frame"] for entry in sequence] == [1, 2, 3, 4, 5, 6]
    assert all(entry["enabled"] for entry in sequence)
    middles = [(entry["x"] + entry["width"] / 2) / 100 * SIDE for entry in sequence]
    for frame, middle in enumerate(middles[1:], 1):
        assert middle == pytest.approx(middles[0] - frame * STEP_PX, abs=5)


def test_a_rectangle_needs_a_place(server: Server, project: str) -> None:
    for sequence in ([], None, [{"frame": 1}], [{**rectangle(0), "enabled": False}]):
        drawn = {"type": "videorectangle", "to_name": "video", "value": {"sequence": sequence}}
        assert send(server, project, {"result": [drawn]}).status_code == 422


@pytest.mark.parametrize("place", [{"frame": 3}, {"frame": 1, "time_ms": None}])
@pytest.mark.parametrize("event", ["predict", ""])
def test_a_click_on_a_frame_is_a_mask(server: Server, project: str, event: str, place: Json) -> None:
    frame = place["frame"] - 1
    region = ask(server, project, {"event": event, **place, "result": [point(frame)]})
    assert region["type"] == "bitmask"
    mask = read_mask(region["value"])
    assert mask[Y, X - frame * STEP_PX]


def test_videos_have_no_predictions_without_prompts(server: Server, project: str) -> None:
    """An entry without a result is left out by Label Studio."""
    body = {"tasks": [{"id": 1, "data": {"video": PATH}}], "project": project, "label_config": CONFIG}
    answer = server.client.post(f"{PREFIX}/predict", json={**body, "params": {"context": None}})
    assert answer.status_code == 200
    assert [set(result) for result in answer.json()["results"]] == [{"error", "model_version"}]


def test_capabilities_and_acknowledgements(server: Server, project: str) -> None:
    value = ask(server, project, {"event": "capabilities"})["value"]
    assert value["prompts"] == ["point", "box"]
    assert {"tag": "VideoRectangle", "output": "bbox", "features": ["track"]} in value["targets"]
    warm = ask(server, project, {"event": "prewarm", "frame": 2, "window": 20, "direction": "forward"})
    assert warm["type"] == "prewarm_ack"
    assert warm["value"]["frame_count"] == FRAMES
    assert warm["value"]["pending"] == [1, 2, 3, 4, 5]
    assert ask(server, project, {"event": "release"})["value"] == {"status": "released"}


def follow(server: Server, project: str, **context: Any) -> tuple[Json, list[Json]]:
    """Track, and return what the start says and all frames."""
    start = ask(server, project, {"event": "track", **context})
    assert start["type"] == "track_started", start
    frames: list[Json] = []
    deadline = time.monotonic() + WAIT_S
    while True:
        session = {"event": "track_progress", "session_id": start["value"]["session_id"]}
        value = ask(server, project, session)["value"]
        assert value["error"] is None
        frames += value["frames"]
        if value["done"]:
            assert value["produced"] == len(frames)
            return start["value"], frames
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("direction", "frame", "expected"),
    [("forward", 0, [0, 1, 2]), ("both", 2, [0, 1, 2, 3, 4]), ("backward", 2, [0, 1, 2])],
)
def test_an_object_is_tracked(
    server: Server, project: str, direction: str, frame: int, expected: list[int]
) -> None:
    start, frames = follow(
        server, project, direction=direction, frame=frame + 1, max_frames=2, result=[point(frame)]
    )
    assert start["total_frames"] == len(expected)
    assert sorted(entry["frame"] for entry in frames) == expected
    middles = {entry["frame"]: middle_x(read_mask(entry)) for entry in frames}
    for number, middle in middles.items():
        assert middle == pytest.approx(middles[frame] - (number - frame) * STEP_PX, abs=2)
        assert next(e for e in frames if e["frame"] == number)["time_ms"] == pytest.approx(number * 1000 / 24)
    wait_until_closed(server)


def test_a_track_ends_when_it_is_cancelled(server: Server, project: str) -> None:
    start = ask(server, project, {"event": "track", "frame": 1, "result": [point(0)]})["value"]
    cancel = {"event": "track_cancel", "session_id": start["session_id"]}
    assert ask(server, project, cancel, task=2)["value"] == {"status": "not_found"}  # of another task
    assert ask(server, project, cancel)["value"] == {"status": "cancelled"}
    assert ask(server, project, cancel)["value"] == {"status": "not_found"}
    gone = ask(server, project, {"event": "track_progress", "session_id": start["session_id"]})
    assert gone["value"] == {"error": "session not found", "done": True}
    wait_until_closed(server)


def test_what_cannot_be_tracked_is_told(server: Server, project: str) -> None:
    nothing = ask(server, project, {"event": "track", "frame": 1, "result": []})
    assert nothing["type"] == "track_error"
    assert nothing["value"]["done"] is True
