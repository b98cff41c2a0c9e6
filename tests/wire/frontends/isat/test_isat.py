"""The protocol of ISAT's remote encoder, by the requests that the client sends."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load

from segserve.errors import BadInput, NotFound
from segserve.models.bundle import Bundle
from segserve.models.manifest import ModelKind
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import Size
from segserve.wire.frontends.isat.checkpoint import choose_model, name_checkpoint
from segserve.wire.frontends.isat.features import compress, write_answer
from tests.serving import Server

MODEL = "small-sam"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with a model that says it is a MobileSAM: the starter's graphs."""
    data_dir = tmp_path_factory.mktemp("isat")
    folder = data_dir / "models" / MODEL
    shutil.copytree(BUILT_IN_MODELS / "starter", folder)
    manifest = yaml.safe_load((folder / "model.yaml").read_text())
    (folder / "model.yaml").write_text(yaml.safe_dump({**manifest, "name": MODEL, "architecture": "vit_t"}))
    running = Server(data_dir, isat_port="0", cvat_port="0", preload="[]")
    yield running
    assert running.stop() == 0, running.log.read_text()
    assert "internal error" not in running.log.read_text()


@pytest.fixture(scope="module")
def isat(server: Server) -> Iterator[httpx.Client]:
    """A client that knows host and port alone, as ISAT does."""
    with httpx.Client(base_url=server.find_address(r"isat at (http://\S+)"), timeout=60) as client:
        yield client


def read_pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def encode(
    client: httpx.Client, pixels: np.ndarray, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    """As ISAT does it with requests: the file's name is empty."""
    parts = {"dtype": pixels.dtype.name, "shape": ",".join(map(str, pixels.shape)), **fields}
    heads = [f'form-data; name="{name}"' for name in parts]
    contents = [value.encode() if isinstance(value, str) else value for value in parts.values()]
    heads.append('form-data; name="file"; filename=""\r\nContent-Type: application/octet-stream')
    contents.append(pixels.tobytes())
    body = b"".join(
        b"--b1\r\nContent-Disposition: " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
        for head, content in zip(heads, contents, strict=True)
        if content is not None
    )
    content_type = {"content-type": "multipart/form-data; boundary=b1"}
    return client.post(
        "/api/encode", content=body + b"--b1--\r\n", headers={**content_type, **(headers or {})}
    )


def test_info_names_the_checkpoint(isat: httpx.Client) -> None:
    info = isat.get("/api/info").json()
    assert info == {"checkpoint": f"mobile_sam_{MODEL}.pt", "device": "cpu", "dtype": "torch.float32"}


def test_features_are_the_embedding_of_rest(server: Server, isat: httpx.Client, nuclei: Path) -> None:
    pixels = read_pixels(nuclei)
    answer = encode(isat, pixels)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-encoding"] == "gzip"
    content = answer.json()
    height, width = pixels.shape[:2]
    assert content["original_size"] == [height, width]
    assert max(content["input_size"]) == 512
    features = np.array(content["features"], np.float32)
    image_id = server.upload(nuclei)
    packed = server.client.get(f"/v1/images/{image_id}/embedding", params={"model": MODEL}).content
    np.testing.assert_array_equal(features[0], load(packed)["embedding"].astype(np.float32))


def test_pixels_are_recognised_and_encoded_once(server: Server, isat: httpx.Client) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 3), np.uint8)

    def count(source: str) -> float:
        return server.metric(f'segserve_frontend_images_total{{source="{source}"}}')

    def encoded() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("segserve_encode_batch_images_sum")
        )

    read, recognised, before = count("read"), count("recognised"), encoded()
    answers = [encode(isat, pixels).content for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert (count("read"), count("recognised")) == (read + 1, recognised + 2)
    # The same pixels as a tensor of the Open Inference Protocol are the same image.
    tensor = {"name": "image", "datatype": "UINT8", "shape": [40, 50, 3], "data": pixels.ravel().tolist()}
    point = {"name": "point_coords", "datatype": "FP32", "shape": [1, 1, 2], "data": [5, 5]}
    body = {"inputs": [tensor, point], "outputs": [{"name": "iou_predictions"}]}
    assert server.client.post(f"/v2/models/{MODEL}/infer", json=body).status_code == 200
    assert (count("read"), count("recognised")) == (read + 1, recognised + 3)
    assert encoded() == before + 1


def test_large_pixels_go_by_disk(isat: httpx.Client) -> None:
    pixels = np.zeros((900, 800, 3), np.uint8)  # 2 MB: more than is kept in memory
    pixels[200:400, 300:500] = 200
    answer = encode(isat, pixels)
    assert answer.status_code == 200, answer.text
    assert answer.json()["original_size"] == [900, 800]


def test_without_gzip_it_is_plain(isat: httpx.Client) -> None:
    answer = encode(isat, np.zeros((8, 8, 3), np.uint8), {"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.json()["original_size"] == [8, 8]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"dtype": "float32"}, 422, "uint8"),
        ({"dtype": "__import__('os').getpid()"}, 422, "uint8"),
        ({"dtype": None}, 422, "uint8"),
        ({"shape": "8,8"}, 422, "RGB"),
        ({"shape": "8,8,4"}, 422, "RGB"),
        ({"shape": "0,8,3"}, 422, "RGB"),
        ({"shape": "8,9,3"}, 422, "192 bytes"),
        ({"shape": "99999999,99999999,3"}, 413, "megapixels"),
        ({"shape": None}, 422, "RGB"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    isat: httpx.Client, fields: dict[str, Any], status: int, words: str
) -> None:
    answer = encode(isat, np.zeros((8, 8, 3), np.uint8), **fields)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert words in answer.json()["detail"]


def test_a_form_without_a_file(isat: httpx.Client) -> None:
    answer = isat.post("/api/encode", data={"dtype": "uint8", "shape": "8,8,3"})
    assert answer.status_code == 422
    assert "file" in answer.json()["detail"]


def test_only_its_own_paths_are_on_the_port(isat: httpx.Client) -> None:
    for path in ("/v1/models", "/", "/isat/api/info", "/../v1/models", "/metrics"):
        answer = isat.get(path)
        assert answer.status_code == 404, path
        assert list(answer.json()) == ["detail"]


def test_the_port_has_the_checks_of_rest(isat: httpx.Client) -> None:
    answer = isat.get("/api/info", headers={"host": "attacker.example"})
    assert answer.status_code == 421
    assert "attacker" in answer.json()["detail"]
    assert isat.post("/api/encode", headers={"origin": "https://evil.example"}).status_code == 403


def test_cvat_is_at_the_root_of_its_port(server: Server) -> None:
    address = server.find_address(r"cvat at (http://\S+)")
    functions = httpx.get(f"{address}/api/functions").json()
    assert f"click.{MODEL}" in functions


def test_a_port_needs_its_frontend(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not among the frontends"):
        Server(tmp_path, isat_port="0", frontends='["cvat"]')


def fake(name: str, architecture: str) -> Any:
    manifest = Bundle(BUILT_IN_MODELS / "starter").manifest.model_copy(update={"architecture": architecture})
    return SimpleNamespace(name=name, manifest=manifest)


def test_checkpoints_are_called_as_isat_knows_them() -> None:
    assert name_checkpoint(fake("mobile-sam", "vit_t")) == "mobile_sam.pt"
    assert name_checkpoint(fake("sam_vit_b", "vit_b")) == "sam_vit_b_01ec64.pth"
    assert name_checkpoint(fake("sam2.1_tiny", "hiera_2.1_tiny")) == "sam2.1_hiera_tiny.pt"
    assert name_checkpoint(fake("sam2_base_plus", "hiera_2_base_plus")) == "sam2_hiera_base_plus.pt"
    assert name_checkpoint(fake("cells", "vit_l")) == "sam_vit_l_cells.pth"  # other weights: another file


def test_the_model_is_one_that_isat_can_decode_for() -> None:
    starter = Bundle(BUILT_IN_MODELS / "starter")
    tiny, large = fake("a", "vit_t"), fake("b", "vit_l")
    assert choose_model([starter, tiny, large], None, "starter") is tiny
    assert choose_model([starter, tiny, large], None, "b") is large
    assert choose_model([starter, tiny, large], "b", "starter") is large
    with pytest.raises(BadInput, match="cannot decode"):
        choose_model([starter, tiny], "starter", "starter")
    with pytest.raises(NotFound):
        choose_model([starter], None, "starter")


def test_sam2_has_features_of_both_resolutions() -> None:
    random = np.random.default_rng(1)
    embedding = {
        "embedding": random.normal(size=(20, 3, 4)).astype(np.float16),
        "high_res_0": random.normal(size=(2, 6, 8)).astype(np.float16),
        "high_res_1": random.normal(size=(3, 6, 8)).astype(np.float16),
    }
    manifest = fake("x", "hiera_2.1_tiny").manifest.model_copy(update={"kind": ModelKind.SAM2})
    content = json.loads(gzip.decompress(b"".join(compress(write_answer(manifest, embedding, Size(30, 40))))))
    features = content["features"]
    np.testing.assert_array_equal(np.array(features["image_embed"][0], np.float16), embedding["embedding"])
    for got, name in zip(features["high_res_feats"], ("high_res_0", "high_res_1"), strict=True):
        np.testing.assert_array_equal(np.array(got[0], np.float16), embedding[name])
    assert content["original_size"] == [[30, 40]]
