"""The protocol of Label Studio's backends, by the requests that Label Studio 1.23 sends."""

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from segserve.masks import rle
from segserve.types import Bool
from tests.serving import Server
from tests.wire.frontends.label_studio import requests
from tests.wire.frontends.label_studio.fake_site import REFRESH_TOKEN, TOKEN, Site
from tests.wire.frontends.label_studio.requests import (
    BRUSH,
    PREFIX,
    SIZE,
    X,
    Y,
    answer,
    box,
    config,
    iou,
    point,
    predict,
    read_brush,
    set_up,
)

PATH = "/data/upload/1/nuclei.png"
WAIT_S = 60


@pytest.fixture(scope="module")
def project(server: Server, site: Site, nuclei: Path) -> str:
    """A project that is connected."""
    site.files[PATH] = nuclei.read_bytes()
    assert set_up(server, site, "1.1795226593").json() == {"model_version": "starter ais"}
    return "1.1795226593"


@pytest.fixture(scope="module")
def nucleus(server: Server, nuclei: Path) -> Bool:
    """What /v1/segment answers for the click."""
    by_rest = server.click(server.upload(nuclei), X, Y).json()["results"][0]["masks"][0]
    return rle.decode(by_rest["mask"]["counts"], SIZE)


def test_health_and_versions(server: Server) -> None:
    for path in ("/health", "/", "", "/starter/health"):
        assert server.client.get(f"{PREFIX}{path}").json() == {"status": "UP", "model_class": "segserve"}
    assert server.client.get(f"{PREFIX}/versions").json() == {"versions": ["starter ais"]}
    assert server.client.get(f"{PREFIX}/starter-unet/versions").json() == {"versions": ["starter-unet"]}


@pytest.mark.parametrize("extra", ["", None, {"method": "amg"}, '{"method": "amg", "output": "polygon"}'])
def test_setup_names_the_version(server: Server, site: Site, extra: Any) -> None:
    expected = "starter amg" if extra else "starter ais"
    assert set_up(server, site, "7.1", extra_params=extra).json() == {"model_version": expected}
    by_path = set_up(server, site, "7.1", model="/starter-unet", extra_params=extra)
    assert by_path.json() == {"model_version": "starter-unet"}


def test_a_click_is_a_brush(server: Server, project: str, nucleus: Bool) -> None:
    [region] = answer(predict(server, project, PATH, {"result": [point()]}))
    assert (region["type"], region["from_name"], region["to_name"]) == ("brushlabels", "brushlabels", "img")
    assert region["value"]["brushlabels"] == ["Nucleus"]
    assert region["value"]["format"] == "rle"
    assert (region["original_width"], region["original_height"], region["image_rotation"]) == (
        SIZE.width,
        SIZE.height,
        0,
    )
    assert 0 < region["score"] <= 1
    assert np.array_equal(read_brush(region), nucleus)


def test_both_spellings_of_negative_points_count(server: Server, project: str) -> None:
    classic = [point(), point(X + 12, Y, positive=False)]
    newer = [point(), point(X + 12, Y)]
    for region in newer:
        del region["is_positive"]
    newer[0]["value"]["positive"], newer[1]["value"]["positive"] = True, False
    masks = [read_brush(answer(predict(server, project, PATH, {"result": p}))[0]) for p in (classic, newer)]
    assert np.array_equal(*masks)
    one = answer(predict(server, project, PATH, {"result": [point()]}))
    assert not np.array_equal(masks[0], read_brush(one[0]))


def test_a_point_beside_the_object_alone_means_nothing(server: Server, project: str) -> None:
    assert answer(predict(server, project, PATH, {"result": [point(positive=False)]})) == []
    assert answer(predict(server, project, PATH, {"result": []})) == []


def test_each_box_is_an_object(server: Server, project: str, nucleus: Bool) -> None:
    boxes = [box(390, 170, 440, 215), box(100, 100, 140, 140)]
    regions = answer(predict(server, project, PATH, {"result": boxes}))
    assert len(regions) == 2
    assert iou(read_brush(regions[0]), nucleus) > 0.7
    assert len({region["id"] for region in regions}) == 2
    with_point = answer(predict(server, project, PATH, {"result": [*boxes, point()]}))
    assert len(with_point) == 2


def test_a_box_may_be_turned(server: Server, project: str, nucleus: Bool) -> None:
    """It is turned around its corner: by 90 degrees, it lies to the left of it."""
    turned = box(440, 170, 440 + 45, 170 + 50, rotation=90)
    [region] = answer(predict(server, project, PATH, {"result": [turned]}))
    assert iou(read_brush(region), nucleus) > 0.7


def test_what_is_painted_is_a_prompt(server: Server, project: str, nucleus: Bool) -> None:
    drawn = answer(predict(server, project, PATH, {"result": [point()]}))
    [region] = answer(predict(server, project, PATH, {"result": drawn}))
    assert iou(read_brush(region), nucleus) > 0.7


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("BitmaskLabels", "bitmasklabels"),
        ("PolygonLabels", "polygonlabels"),
        ("RectangleLabels", "rectanglelabels"),
        ("KeyPointLabels", "keypointlabels"),
    ],
)
def test_the_label_config_says_what_objects_become(
    server: Server, project: str, nucleus: Bool, tag: str, kind: str
) -> None:
    label_config = config(tag)
    [region, *more] = answer(
        predict(server, project, PATH, {"result": [point(label="Debris")]}, label_config=label_config)
    )
    assert more == []
    assert region["type"] == kind
    assert region["value"][kind] == ["Debris"]
    value = region["value"]
    rows, columns = np.nonzero(nucleus)
    unit_x, unit_y = SIZE.width / 100, SIZE.height / 100
    if kind == "bitmasklabels":
        png = base64.b64decode(value["imageDataURL"].partition(",")[2])
        opacity = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))[..., 3]
        assert np.array_equal(opacity > 0, nucleus)
    elif kind == "polygonlabels":
        assert value["closed"] is True
        xs, ys = np.array(value["points"]).T
        assert xs.max() * unit_x == pytest.approx(columns.max() + 1, abs=1.5)
        assert ys.min() * unit_y == pytest.approx(rows.min(), abs=1.5)
    elif kind == "rectanglelabels":
        assert value["x"] * unit_x == pytest.approx(columns.min())
        assert value["width"] * unit_x == pytest.approx(columns.max() + 1 - columns.min())
        assert value["height"] * unit_y == pytest.approx(rows.max() + 1 - rows.min())
    else:
        assert nucleus[int(value["y"] * unit_y), int(value["x"] * unit_x)]


def test_labels_may_be_a_tag_of_their_own(server: Server, project: str) -> None:
    label_config = (
        '<View><Image name="img" value="$image"/><Labels name="label" toName="img"><Label value="Nucleus"/></Labels>'
        '<Polygon name="shape" toName="img"/></View>'
    )
    context = {"result": [point(type="keypoint")]}
    shape, label = answer(predict(server, project, PATH, context, label_config=label_config))
    assert (shape["type"], shape["from_name"]) == ("polygon", "shape")
    assert (label["type"], label["from_name"], label["id"]) == ("labels", "label", shape["id"])
    assert label["value"]["labels"] == ["Nucleus"]


@pytest.mark.parametrize(("model", "label"), [("/starter", "Nucleus"), ("/starter-unet", "Nucleus")])
def test_without_a_context_everything_is_labelled(
    server: Server, project: str, model: str, label: str
) -> None:
    response = predict(server, project, PATH, None, model=model)
    regions = answer(response)
    assert {region["type"] for region in regions} == {"brushlabels"}
    assert {region["value"]["brushlabels"][0] for region in regions} == {label}
    assert len(regions) > 10 if model == "/starter" else regions
    assert response.json()["results"][0]["model_version"] in ("starter ais", "starter-unet")


def test_the_projects_extra_params_count(server: Server, site: Site, project: str) -> None:
    extra = {"output": "rectangle", "method": "amg", "params": {"points_per_side": 4}, "label": "Debris"}
    set_up(server, site, "8.1", extra_params=json.dumps(extra))
    both = config("BrushLabels", "RectangleLabels")
    regions = answer(predict(server, "8.1", PATH, None, label_config=both))
    assert {region["type"] for region in regions} <= {"rectanglelabels"}
    assert {region["value"]["rectanglelabels"][0] for region in regions} <= {"Debris"}
    context = {"result": [point()]}
    regions = answer(predict(server, "8.1", PATH, context, label_config=both))
    assert regions[0]["type"] == "rectanglelabels"


def test_one_result_a_task_also_where_an_image_is_gone(server: Server, project: str) -> None:
    tasks = [
        {"id": i, "data": {"image": path}} for i, path in enumerate((PATH, "/data/upload/1/gone.png", PATH))
    ]
    body = {"tasks": tasks, "project": project, "label_config": BRUSH, "params": {"context": None}}
    results = server.client.post(f"{PREFIX}/predict", json=body).json()["results"]
    assert [("result" in result) for result in results] == [True, False, True]
    assert "404" in results[1]["error"]
    refused = predict(server, project, "/data/upload/1/gone.png", None)
    assert (refused.status_code, "404" in refused.json()["error"]) == (422, True)


def test_the_image_is_fetched_and_encoded_once(
    server: Server, site: Site, project: str, noise: bytes
) -> None:
    def encoded() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        counts = [line for line in lines if line.startswith("segserve_encode_batch_images_sum")]
        return sum(float(line.rpartition(" ")[2]) for line in counts)

    path = "/data/upload/1/noise.png"
    site.files[path], before = noise, encoded()
    for x in (9, 20, 30):
        answer(predict(server, project, path, {"result": [point(x, 9)]}))
    assert site.count(path) == 1
    assert server.click(server.upload(noise), 7, 7).status_code == 200
    assert encoded() == before + 1


def test_projects_have_tokens_of_their_own(server: Server, site: Site, project: str) -> None:
    set_up(server, site, "2.1", access_token="of somebody else")
    refused = predict(server, "2.1", PATH, {"result": [point()]})
    assert refused.status_code == 403
    assert "token" in refused.json()["error"]
    assert "of somebody else" not in refused.text
    assert answer(predict(server, project, PATH, {"result": [point()]}))


def test_personal_access_tokens_are_exchanged(server: Server, site: Site, project: str) -> None:
    set_up(server, site, "3.1", access_token=REFRESH_TOKEN)
    for path in (PATH, "/data/upload/2/same.png"):
        site.files[path] = site.files[PATH]
        assert answer(predict(server, "3.1", path, {"result": [point()]}))
    assert site.count("/api/token/refresh/") == 1


def test_two_annotators_do_not_see_each_others_prompts(server: Server, project: str, nucleus: Bool) -> None:
    with server.client_from("127.0.0.2") as other:
        body = {"tasks": [{"id": 1, "data": {"image": PATH}}], "project": project, "label_config": BRUSH}
        theirs = {"result": [point(100, 100), point(X, Y, positive=False)]}
        other.post(f"{PREFIX}/predict", json={**body, "params": {"context": theirs}})
    [region] = answer(predict(server, project, PATH, {"result": [point()]}))
    assert np.array_equal(read_brush(region), nucleus)


def test_images_come_from_where_tasks_say(server: Server, site: Site, project: str, nuclei: Path) -> None:
    uri = base64.urlsafe_b64encode(b"s3://bucket/a.png").decode()
    resolved = f"/tasks/1/resolve/?fileuri={uri}"
    site.redirects[resolved] = "/data/upload/1/from-s3.png"
    site.files["/data/upload/1/from-s3.png"] = site.files["/storage-data/uploaded/"] = nuclei.read_bytes()
    inline = f"data:image/png;base64,{base64.b64encode(nuclei.read_bytes()).decode()}"
    for image in (
        inline,
        "s3://bucket/a.png",
        "/storage-data/uploaded/?filepath=upload/1/nuclei.png",
        f"{site.url}{PATH}",
        PATH.removeprefix("/data"),
        [PATH],
    ):
        assert answer(predict(server, project, image, {"result": [point()]})), image
    assert resolved in site.asked
    assert answer(predict(server, project, PATH, {"result": [point()]}, key="$undefined$"))


@pytest.mark.parametrize(
    "image",
    [
        "/api/users/",
        "/data/../api/users/",
        "/data/%2e%2e/api/users/",
        "/tasks/1/",
        "file:///etc/passwd",
        "/etc/passwd",
        "https://example.org/a.png",
        "http://169.254.169.254/latest/",
        "//example.org/data/a.png",
        "",
        None,
        {"a": 1},
    ],
)
def test_a_token_opens_files_of_tasks_only(server: Server, site: Site, project: str, image: Any) -> None:
    before = len(site.asked)
    refused = predict(server, project, image, {"result": [point()]})
    assert refused.status_code in (403, 422), refused.text
    assert refused.json()["error"]
    assert len(site.asked) == before


def test_a_redirect_to_another_host_needs_its_own_permission(
    server: Server, site: Site, project: str
) -> None:
    path = "/data/upload/1/elsewhere.png"
    site.redirects[path] = "http://127.0.0.2:9/secret.png"
    refused = predict(server, project, path, {"result": [point()]})
    assert refused.status_code == 403
    assert "off" in refused.json()["error"]


@pytest.mark.parametrize(
    "hostname",
    ["http://example.org:8080", "ftp://localhost", "localhost:8080", "", "http://127.0.0.1.example.org"],
)
def test_only_loopback_is_trusted_by_itself(server: Server, hostname: str) -> None:
    assert set_up(server, hostname, "4.1").status_code == 200
    refused = predict(server, "4.1", PATH, {"result": [point()]})
    assert refused.status_code == 403
    assert "SEGSERVE_LABEL_STUDIO_URL" in refused.json()["error"] or "connected" in refused.json()["error"]


def test_an_unknown_project_is_told_to_connect(server: Server) -> None:
    refused = predict(server, "9999.1", PATH, {"result": [point()]})
    assert refused.status_code == 403
    assert "has not connected" in refused.json()["error"]


def test_projects_are_forgotten_when_they_are_deleted(server: Server, site: Site) -> None:
    set_up(server, site, "5.1")
    other = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 5},
        "annotation": {"result": [{"value": {"rle": [1] * 99}}]},
    }
    for body in ({}, {"action": "START_TRAINING", "project": {"id": 5, "title": "x"}}, other):
        assert server.client.post(f"{PREFIX}/webhook", json=body).is_success
    assert answer(predict(server, "5.1", PATH, {"result": [point()]}))
    body = {"action": "PROJECT_DELETED", "project": {"id": 5}}
    assert server.client.post(f"{PREFIX}/webhook", json=body).is_success
    assert predict(server, "5.1", PATH, {"result": [point()]}).status_code == 403


def test_tasks_with_long_run_lengths_are_read(server: Server, project: str) -> None:
    """Label Studio sends all regions of the task, whose run lengths are lists of numbers."""
    region = {"type": "brushlabels", "value": {"rle": [7] * 500_000}}
    task = {"id": 1, "data": {"image": PATH}, "annotations": [{"result": [region]}]}
    body = {
        "tasks": [task],
        "project": project,
        "label_config": BRUSH,
        "params": {"context": {"result": [point()]}},
    }
    assert answer(server.client.post(f"{PREFIX}/predict", json=body))


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"tasks": []}, 422, "tasks"),
        ({"label_config": "<View>"}, 422, "label config"),
        ({"label_config": "<View/>"}, 422, "Image"),
        ({"label_config": '<View><Image name="img" value="$image"/></View>'}, 422, "no tag"),
        ({"label_config": config("BrushLabels", data="other")}, 422, "other"),
        ({"params": {"context": {"result": [point(type="textarea")]}}}, 422, "no prompt"),
        ({"params": {"context": {"result": [point(value={"x": "1"})]}}}, 422, "x"),
        ({"params": {"context": {"result": [point(image_rotation=90)]}}}, 422, "turned"),
        (
            {"params": {"context": {"result": [{"type": "brushlabels", "value": {"rle": [999]}}]}}},
            422,
            "run lengths",
        ),
        ({"params": {"context": 7}}, 422, "context"),
    ],
)
def test_errors_have_label_studios_form(
    server: Server, project: str, change: dict[str, Any], status: int, words: str
) -> None:
    body = {
        "tasks": [{"id": 1, "data": {"image": PATH}}],
        "project": project,
        "label_config": BRUSH,
        "params": {"context": {"result": [point()]}},
        **change,
    }
    refused = server.client.post(f"{PREFIX}/predict", json=body)
    assert refused.status_code == status, refused.text
    assert words in refused.json()["error"] + refused.json()["field"]


def test_a_model_that_is_not_there_cannot_be_connected(server: Server, site: Site) -> None:
    refused = set_up(server, site, "6.1", model="/none")
    assert (refused.status_code, refused.json()["code"]) == (404, "model_not_found")
    assert set_up(server, site, "6.1", extra_params="{").status_code == 422


def test_a_projects_images_are_encoded_when_it_connects(server: Server, site: Site) -> None:
    for number in range(3):
        picture = io.BytesIO()
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)).save(
            picture, "PNG"
        )
        site.files[f"/data/upload/9/{number}.png"] = picture.getvalue()
    site.tasks = [
        {"id": i, "data": {"image": f"/data/upload/9/{i}.png"}} for i in range(4)
    ]  # the last one is gone
    before = {job["job_id"] for job in server.client.get("/v1/jobs").json()["jobs"]}
    set_up(server, site, "10.1")
    set_up(server, site, "10.1")
    deadline = time.monotonic() + WAIT_S
    while not (new := [j for j in server.client.get("/v1/jobs").json()["jobs"] if j["job_id"] not in before]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [(job["kind"], job["progress"]["total"]) for job in new] in ([("batch", 3)], [("batch", None)])
    assert site.count("/data/upload/9/0.png") == 1
    requests.answer(predict(server, "10.1", "/data/upload/9/1.png", {"result": [point(20, 20)]}))
    assert site.count("/data/upload/9/1.png") == 1
    assert TOKEN not in server.log.read_text()
