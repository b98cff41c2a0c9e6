"""What holds for all frontends together: a picture is encoded once, and clients that vanish hold nothing."""

import base64
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import FrontendName
from tests.serving import Server
from tests.wire.frontends.cvat.test_cvat import invoke
from tests.wire.frontends.isat.test_isat import encode
from tests.wire.frontends.label_studio import requests as label_studio
from tests.wire.frontends.label_studio.fake_site import run_site
from tests.wire.frontends.qupath import test_qupath as qupath
from tests.wire.frontends.x_anylabeling import test_x_anylabeling as x_anylabeling

X, Y = 413, 190  # on a nucleus of examples/nuclei.png
POINT = [[[X, Y]]]
# The starter under another name, and as an architecture that ISAT decodes.
SAM = "small-sam"
IDLE_S = 2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("frontends")
    folder = data_dir / "models" / SAM
    shutil.copytree(BUILT_IN_MODELS / "starter", folder)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**manifest, "name": SAM, "architecture": "vit_t"}))
    running = Server(data_dir, isat_port="0", session_idle_s=str(IDLE_S))
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


def infer(service: Server, model: str, name: str, datatype: str, shape: list[int], data: object) -> None:
    """Click by the Open Inference Protocol."""
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "data": data},
        {"name": "point_coords", "datatype": "FP32", "shape": [1, 1, 2], "data": POINT},
        {"name": "point_labels", "datatype": "INT64", "shape": [1, 1], "data": [[1]]},
    ]
    answer = service.client.post(f"/v2/models/{model}/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text


def test_a_picture_is_encoded_once_whatever_tools_label_it(service: Server, nuclei: Path) -> None:
    def count_encoded(model: str) -> float:
        return service.metric(f'segserve_encoded_images_total{{model="{model}"}}')

    picture = nuclei.read_bytes()
    text = base64.b64encode(picture).decode()
    before = count_encoded("starter")
    assert service.click(service.upload(nuclei), X, Y).status_code == 200
    assert x_anylabeling.predict(service, x_anylabeling.payload(picture, marks=[x_anylabeling.POINT]))[
        "success"
    ]
    prompt = {"point_coords": [[X, Y]], "point_labels": [1], "checkpoint_url": "segserve:starter"}
    assert qupath.post(service, "", qupath.prompt_body(picture, **prompt)).status_code == 200
    answer = invoke(service, "click.starter", image=text, pos_points=[[X, Y]], neg_points=[])
    assert answer.status_code == 200, answer.text
    infer(service, "starter", "image_file", "BYTES", [1], [text])
    with run_site() as site:
        site.files["/data/upload/1/nuclei.png"] = picture
        assert label_studio.set_up(service, site, "1.1").status_code == 200
        context = {"result": [label_studio.point(X, Y)]}
        answer = label_studio.predict(service, "1.1", "/data/upload/1/nuclei.png", context)
        assert answer.status_code == 200, answer.text
    form = {"params": (None, json.dumps({"foreground": [[X, Y]]})), "file": ("nuclei.png", picture)}
    answer = service.client.post("/monai/infer/starter_2d?output=json", files=form)
    assert answer.status_code == 200, answer.text
    assert count_encoded("starter") == before + 1

    # Raw pixels are no file, so that they are another image. Those of two tools are the same.
    pixels = np.array(Image.open(io.BytesIO(picture)).convert("RGB"))
    before = count_encoded(SAM)
    with httpx.Client(base_url=service.find_address(r"isat at (http://\S+)"), timeout=60) as isat:
        assert encode(isat, pixels).status_code == 200
    infer(service, SAM, "image", "UINT8", list(pixels.shape), pixels.tolist())
    assert count_encoded(SAM) == before + 1


def test_clients_that_vanish_hold_nothing(service: Server, nuclei: Path) -> None:
    def count_open() -> dict[FrontendName, float]:
        names = [
            FrontendName.X_ANYLABELING,
            FrontendName.QUPATH,
            FrontendName.NNINTERACTIVE,
            FrontendName.MONAI,
        ]
        return {name: service.metric(f'segserve_frontend_sessions{{frontend="{name}"}}') for name in names}

    before = count_open()
    picture = base64.b64encode(nuclei.read_bytes()).decode()
    answers = [
        service.client.post(
            "/x-anylabeling/v1/video/init", json={"model": "starter@video", "frames": [picture] * 2}
        ),
        service.client.post(
            "/sam/upload/", data={"dirname": "a"}, files={"file": ("0.jpg", nuclei.read_bytes())}
        ),
        service.client.post("/nninteractive/claim"),
        service.client.put("/monai/session/", files={"files": ("nuclei.png", nuclei.read_bytes())}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    assert count_open() == {name: count + 1 for name, count in before.items()}
    end = time.monotonic() + 60
    while count_open() != before:
        assert time.monotonic() < end, count_open()
        time.sleep(0.2)
