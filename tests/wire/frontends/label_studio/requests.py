"""The requests that Label Studio 1.23 sends to its backends."""

from typing import Any

import httpx
import numpy as np

from segserve.types import Bool, Size
from segserve.wire.frontends.label_studio import brush_rle
from tests.serving import Server
from tests.wire.frontends.label_studio.fake_site import TOKEN, Site

Json = dict[str, Any]
PREFIX = "/label-studio"
X, Y = 413, 190  # on a nucleus of examples/nuclei.png
SIZE = Size(520, 696)  # of that picture
LABELS = '<Label value="Nucleus"/><Label value="Debris"/>'


def config(*controls: str, data: str = "image") -> str:
    """A label config with these tags for objects, and smart keypoints and rectangles."""
    tags = [f'<{tag} name="{tag.lower()}" toName="img">{LABELS}</{tag}>' for tag in controls]
    smart = [
        f'<{tag} name="smart-{tag.lower()}" toName="img" smart="true" smartOnly="true">{LABELS}</{tag}>'
        for tag in ("KeyPointLabels", "RectangleLabels")
    ]
    return f'<View><Image name="img" value="${data}"/>{"".join(tags + smart)}</View>'


BRUSH = config("BrushLabels")


def set_up(
    server: Server, site: Site | str, project: str, *, model: str = "", **fields: Any
) -> httpx.Response:
    body = {
        "project": project,
        "schema": BRUSH,
        "hostname": site if isinstance(site, str) else site.url,
        "access_token": TOKEN,
        "extra_params": None,
        **fields,
    }
    return server.client.post(f"{PREFIX}{model}/setup", json=body)


def point(
    x: float = X, y: float = Y, *, positive: bool = True, label: str = "Nucleus", **fields: Any
) -> Json:
    """A smart keypoint, as the editor writes it."""
    return {
        "original_width": SIZE.width,
        "original_height": SIZE.height,
        "image_rotation": 0,
        "value": {
            "x": x / SIZE.width * 100,
            "y": y / SIZE.height * 100,
            "width": 0.3,
            "keypointlabels": [label],
            "labels": [label],
        },
        "is_positive": positive,
        "id": "lNuIg7iW9z",
        "from_name": "smart-keypointlabels",
        "to_name": "img",
        "type": "keypointlabels",
        "origin": "manual",
        **fields,
    }


def box(x0: float, y0: float, x1: float, y1: float, rotation: float = 0) -> Json:
    value = {
        "x": x0 / SIZE.width * 100,
        "y": y0 / SIZE.height * 100,
        "width": (x1 - x0) / SIZE.width * 100,
        "height": (y1 - y0) / SIZE.height * 100,
        "rotation": rotation,
        "rectanglelabels": ["Nucleus"],
    }
    return {**point(), "type": "rectanglelabels", "from_name": "smart-rectanglelabels", "value": value}


def predict(
    server: Server,
    project: str,
    image: Any,
    context: Json | None,
    *,
    label_config: str = BRUSH,
    model: str = "",
    key: str = "image",
) -> httpx.Response:
    task = {"id": 1, "data": {key: image}, "annotations": [], "predictions": [], "drafts": []}
    body = {
        "tasks": [task],
        "project": project,
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": context},
    }
    return server.client.post(f"{PREFIX}{model}/predict", json=body)


def answer(response: httpx.Response) -> list[Json]:
    """Return the regions of the only result."""
    assert response.status_code == 200, response.text
    [result] = response.json()["results"]
    regions: list[Json] = result["result"]
    return regions


def read_brush(region: Json) -> Bool:
    size = Size(region["original_height"], region["original_width"])
    return brush_rle.decode(bytes(region["value"]["rle"]), size, "rle")


def iou(first: Bool, second: Bool) -> float:
    return float(np.count_nonzero(first & second) / np.count_nonzero(first | second))
