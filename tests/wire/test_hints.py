"""Answers that are doubtful say so, over REST, gRPC, in batches and by the command line; those on nuclei do not."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from segserve.v1 import segmentation_pb2 as pb
from segserve.v1.segmentation_pb2_grpc import SegmentationServiceStub
from tests.commands.run_command import run_segserve
from tests.serving import Server

data = pytest.importorskip("skimage.data")

ON_A_NUCLEUS = (413, 190)  # of examples/nuclei.png
ON_A_WALL = (300, 60)  # of the astronaut
ADVICE = "starter knows nuclei and cells. For photographs fetch a model: segserve models pull mobile-sam"


@pytest.fixture(scope="module")
def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("hints"), grpc_port="0")
    running.wait_ready()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photograph") / "astronaut.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def photograph_id(grpc_server: Server, photograph: Path) -> str:
    return grpc_server.upload(photograph)


@pytest.fixture(scope="module")
def nuclei_id(grpc_server: Server, nuclei: Path) -> str:
    return grpc_server.upload(nuclei)


def click(server: Server, image_id: str, *points: tuple[int, int]) -> Any:
    answer = server.client.post(
        "/v1/segment", json={"image_id": image_id, "prompts": [{"points": [point]} for point in points]}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def find_objects(server: Server, image_id: str, **body: Any) -> Any:
    request = {"image_id": image_id, "method": "ais", "format": "rle", **body}
    answer = server.client.post("/v1/automatic", json=request)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_low_score_says_what_the_model_is_for(grpc_server: Server, photograph_id: str) -> None:
    answer = click(grpc_server, photograph_id, ON_A_WALL)
    score = answer["results"][0]["masks"][0]["score"]
    assert answer["hints"] == [f"A score of {score:.2f} is low: more points or a box may help. {ADVICE}"]
    two = click(grpc_server, photograph_id, ON_A_WALL, ON_A_WALL)
    assert "is low (2 of 2 prompts)" in two["hints"][0]


def test_a_click_on_a_nucleus_has_no_hints(grpc_server: Server, nuclei_id: str) -> None:
    assert "hints" not in click(grpc_server, nuclei_id, ON_A_NUCLEUS)


def test_a_mask_as_a_picture_has_its_hints_in_a_header(
    grpc_server: Server, photograph_id: str, nuclei_id: str
) -> None:
    for image_id, point, is_hinted in ((photograph_id, ON_A_WALL, True), (nuclei_id, ON_A_NUCLEUS, False)):
        answer = grpc_server.client.post(
            "/v1/segment",
            json={"image_id": image_id, "prompts": [{"points": [point]}]},
            headers={"accept": "image/png"},
        )
        assert answer.status_code == 200
        assert ADVICE in answer.headers.get("segserve-hints", "") or not is_hinted
        assert ("segserve-hints" in answer.headers) == is_hinted


def test_uncertain_objects_say_what_the_model_is_for(
    grpc_server: Server, photograph_id: str, nuclei_id: str
) -> None:
    answer = find_objects(grpc_server, photograph_id)
    [hint] = answer.json()["hints"]
    assert hint.endswith(ADVICE)
    assert answer.headers["segserve-hints"] == hint
    assert find_objects(grpc_server, photograph_id, format="png").headers["segserve-hints"] == hint
    sure = find_objects(grpc_server, nuclei_id)
    assert "hints" not in sure.json()
    assert "segserve-hints" not in sure.headers


@pytest.mark.parametrize("method", ["ais", "amg"])
def test_an_image_without_objects_says_so(grpc_server: Server, method: str) -> None:
    blank = io.BytesIO()
    Image.fromarray(np.full((61, 90), 128, np.uint8)).save(blank, "PNG")
    params = {"points_per_side": 2} if method == "amg" else {}
    answer = find_objects(grpc_server, grpc_server.upload(blank.getvalue()), method=method, params=params)
    assert answer.json()["hints"] == [f"No object was found. {ADVICE}"]


def test_grpc_has_the_same_hints_and_subjects(grpc_server: Server, photograph_id: str) -> None:
    with grpc.insecure_channel(grpc_server.grpc_address()) as channel:
        stub = SegmentationServiceStub(channel)
        x, y = ON_A_WALL
        request = pb.SegmentRequest(image_id=photograph_id, prompts=[pb.Prompt(points=[pb.Point(x=x, y=y)])])
        assert list(stub.Segment(request).hints) == click(grpc_server, photograph_id, ON_A_WALL)["hints"]
        automatic = pb.AutomaticRequest(image_id=photograph_id, ais=pb.AisParams())
        assert (
            list(stub.Automatic(automatic).hints) == find_objects(grpc_server, photograph_id).json()["hints"]
        )
        models = {model.name: list(model.suits) for model in stub.ListModels(pb.ListModelsRequest()).models}
    rest = {each["name"]: each["suits"] for each in grpc_server.client.get("/v1/models").json()["models"]}
    assert models == rest == {"starter": ["nuclei", "cells"], "starter-unet": ["nuclei"]}


def test_the_commands_print_hints_on_stderr(tmp_path: Path, photograph: Path) -> None:
    point = ",".join(map(str, ON_A_WALL))
    mask, labels = tmp_path / "mask.png", tmp_path / "labels.png"
    for done in (
        run_segserve("segment", photograph, "--point", point, "-o", mask, "--data-dir", tmp_path),
        run_segserve("automatic", photograph, "-o", labels, "--data-dir", tmp_path),
    ):
        assert done.returncode == 0, done.stderr
        assert ADVICE in done.stderr
        assert ADVICE not in done.stdout
