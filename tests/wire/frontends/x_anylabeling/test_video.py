"""Videos of X-AnyLabeling, by the requests that the client sends: init, prompt, propagate, cleanup."""

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.serving import Server

FRAMES = 5
STEP_PX = 3  # what is seen moves to the left by so much from frame to frame
LEFT, TOP, SIDE = 330, 120, 160
X, Y = 413 - LEFT, 190 - TOP  # on a nucleus, in the first frame
WAIT_S = 60
OPEN = 'segserve_frontend_sessions{frontend="x-anylabeling"}'


@pytest.fixture(scope="module")
def frames(nuclei: Path) -> list[str]:
    """A window that moves over the picture, as data URLs."""
    picture, urls = Image.open(nuclei).convert("RGB"), []
    for number in range(FRAMES):
        file, left = io.BytesIO(), LEFT + number * STEP_PX
        picture.crop((left, TOP, left + SIDE, TOP + SIDE)).save(file, "PNG")
        urls.append(f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}")
    return urls


@pytest.fixture(scope="module")
def video_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its sessions are for one: so what is left of others is noticed."""
    running = Server(tmp_path_factory.mktemp("video"), max_sessions="2")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


def post(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.client.post(f"/x-anylabeling/v1/video/{path}", json=body)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()["data"]
    return content


def init(server: Server, frames: list[str]) -> str:
    body = {"model": "starter@video", "frames": frames, "start_frame_index": 0}
    return str(post(server, "init", body)["session_id"])


def prompt_body(session_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "session_id": session_id,
        "model": "starter@video",
        "frame_index": 0,
        "points": [[X / SIDE, Y / SIDE]],
        "point_labels": [1],
        "obj_id": 10000,
        "params": {"conf_threshold": 0.0, "epsilon_factor": 0.001},
        **fields,
    }


def middle(shape: dict[str, Any]) -> tuple[float, float]:
    xs, ys = zip(*shape["points"], strict=True)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def wait_until_closed(server: Server) -> None:
    deadline = time.monotonic() + WAIT_S
    while server.metric(OPEN):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_object_is_followed(video_server: Server, frames: list[str]) -> None:
    session_id = init(video_server, frames)
    assert video_server.metric(OPEN) == 1
    [proposal] = post(video_server, "prompt", prompt_body(session_id))["masks"]
    assert proposal["label"] == "AUTOLABEL_OBJECT"
    body = {"session_id": session_id, "model": "starter@video", "start_frame": 0, "end_frame": 3}
    answer = video_server.client.post("/x-anylabeling/v1/video/propagate/stream", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[0] == {"type": "started", "total_frames": FRAMES, "start_frame_index": 0}
    assert events[-1]["type"] == "completed", events[-1]
    results = events[-1]["results"]
    assert sorted(results) == ["0", "1", "2", "3"]
    x, y = middle(proposal)
    for frame, result in results.items():
        largest = max(result["masks"], key=lambda shape: len(shape["points"]))
        found_x, found_y = middle(largest)
        assert found_x == pytest.approx(x - int(frame) * STEP_PX, abs=2)
        assert found_y == pytest.approx(y, abs=2)
    answer = video_server.client.post(f"/x-anylabeling/v1/video/cleanup/{session_id}?model=starter@video")
    assert answer.status_code == 200
    wait_until_closed(video_server)
    again = video_server.client.post("/x-anylabeling/v1/video/prompt", json=prompt_body(session_id))
    assert again.status_code == 404


def test_the_job_ends_where_the_client_leaves(video_server: Server, frames: list[str]) -> None:
    session_id = init(video_server, frames * 40)
    post(video_server, "prompt", prompt_body(session_id))
    path, body = "/x-anylabeling/v1/video/propagate/stream", {"session_id": session_id}
    with video_server.client_from("127.0.0.1") as leaving, leaving.stream("POST", path, json=body) as answer:
        assert "started" in next(answer.iter_lines())
    deadline = time.monotonic() + WAIT_S
    while (state := video_server.client.get("/v1/jobs").json()["jobs"][0]["state"]) != "cancelled":
        assert state != "succeeded", "it ran on to its end"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    video_server.client.post(f"/x-anylabeling/v1/video/cleanup/{session_id}")
    wait_until_closed(video_server)


def test_two_sessions_on_the_same_frames_are_apart(video_server: Server, frames: list[str]) -> None:
    first = init(video_server, frames)
    with video_server.client_from("127.0.0.2") as other:
        body = {"model": "starter@video", "frames": frames}
        answer = other.post("/x-anylabeling/v1/video/init", json=body)
        second = answer.json()["data"]["session_id"]
        stolen = other.post("/x-anylabeling/v1/video/prompt", json=prompt_body(first))
        assert stolen.status_code == 404
        assert other.post(f"/x-anylabeling/v1/video/cleanup/{second}").status_code == 200
    assert post(video_server, "prompt", prompt_body(first))["masks"]
    video_server.client.post(f"/x-anylabeling/v1/video/cleanup/{first}")
    wait_until_closed(video_server)


def test_a_client_has_its_share_of_sessions(video_server: Server, frames: list[str]) -> None:
    session_id = init(video_server, frames)
    body = {"model": "starter@video", "frames": frames}
    refused = video_server.client.post("/x-anylabeling/v1/video/init", json=body)
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "TOO_BUSY"
    video_server.client.post(f"/x-anylabeling/v1/video/cleanup/{session_id}")
    wait_until_closed(video_server)


def test_bad_requests_are_refused(video_server: Server, frames: list[str]) -> None:
    client, prefix = video_server.client, "/x-anylabeling/v1/video"
    other = io.BytesIO()
    Image.new("RGB", (20, 30)).save(other, "PNG")
    uneven = [frames[0], base64.b64encode(other.getvalue()).decode()]
    for body, status in (
        ({"model": "starter@video", "frames": []}, 422),
        ({"model": "starter@video", "frames": ["?"]}, 422),
        ({"model": "starter@video", "frames": uneven}, 422),
        ({"model": "none@video", "frames": frames}, 404),
    ):
        assert client.post(f"{prefix}/init", json=body).status_code == status, body["model"]
    session_id = init(video_server, frames)
    for fields in ({"frame_index": FRAMES}, {"points": [[2, 0]]}, {"points": []}, {"text_prompt": "cell"}):
        answer = client.post(f"{prefix}/prompt", json=prompt_body(session_id, **fields))
        assert answer.status_code == 422, fields
    nothing = client.post(f"{prefix}/propagate/stream", json={"session_id": session_id})
    assert nothing.status_code == 422  # nothing was marked
    client.post(f"{prefix}/cleanup/{session_id}")
    wait_until_closed(video_server)
