"""What a click costs over HTTP, against SamPredictor and the stock ONNX decoder, on the same machine at once."""

import http.client
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from segment_anything import SamPredictor
from tests.serving import Server

from bench.blobs import SHARES, build_sam, export
from bench.common import THREADS, Line, at_least, at_most, interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.runtime import Graph, RuntimeOptions

SIZES = {"1024x1024": (1024, 1024), "4000x3000": (4000, 3000)}


def picture(width: int, height: int) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def full_rle(mask: np.ndarray) -> dict[str, Any]:
    return coco.encode(np.asfortranarray(mask))  # type: ignore[no-any-return]


class Peers:
    """The two ways people answer a click today, on an image whose embedding is at hand."""

    def __init__(self, sam: Any, bundle: Bundle, image: np.ndarray, embedding: torch.Tensor) -> None:
        self.predictor = SamPredictor(sam)
        self.height, self.width = image.shape[:2]
        self.decoder = Graph(bundle.path("decoder.onnx"), RuntimeOptions(threads=THREADS))
        self.embedding = embedding.numpy()
        p = self.predictor
        p.features, p.is_image_set = embedding, True
        p.original_size = (self.height, self.width)
        p.input_size = p.transform.get_preprocess_shape(self.height, self.width, 1024)

    def torch_click(self, multimask: bool) -> list[dict[str, Any]]:
        point = np.array([[self.width / 2, self.height / 2]])
        masks, _, _ = self.predictor.predict(point, np.array([1]), multimask_output=multimask)
        return [full_rle(m) for m in masks]

    def stock_click(self, tokens: slice) -> list[dict[str, Any]]:
        point = np.array([[[self.width / 2, self.height / 2], [0, 0]]])
        scaled = self.predictor.transform.apply_coords(point, (self.height, self.width)).astype(np.float32)
        masks = self.decoder.run(
            {
                "image_embeddings": self.embedding,
                "point_coords": scaled,
                "point_labels": np.array([[1, -1]], np.float32),
                "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                "has_mask_input": np.zeros(1, np.float32),
                "orig_im_size": np.array([self.height, self.width], np.float32),
            },
            ["masks"],
        )["masks"]
        return [full_rle(m > 0) for m in masks[0, tokens]]


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
    lines: list[Line] = []
    ours: dict[str, float] = {}
    data = Path(__file__).parent / "runs" / "clicks"  # kept: writing three ViT-B bundles takes minutes
    bundles = {}
    for label, share in SHARES.items():
        folder = data / "models" / f"blob-{label.rstrip('%')}"
        sam = build_sam(share)
        if not (folder / "model.yaml").exists():
            export(sam, folder)
        bundles[label] = (sam, Bundle(folder))
    server = Server(
        data, encode_threads=str(THREADS), decode_threads=str(THREADS), log_level="error", models_mb="1"
    )
    try:
        server.wait_ready()
        for label, (sam, bundle) in bundles.items():
            for size, (width, height) in SIZES.items():
                lines += compare(server, sam, bundle, size, label, picture(width, height), ours)
    finally:
        server.stop()
    lines.append(
        at_most(
            "segserve at 4000x3000 against 1024x1024, mask of 1%",
            ours["4000x3000"] / ours["1024x1024"],
            1.2,
            "x",
        )
    )
    return lines


def compare(
    server: Server,
    sam: Any,
    bundle: Bundle,
    size: str,
    label: str,
    image: Image.Image,
    ours: dict[str, float],
) -> list[Line]:
    data = io.BytesIO()
    image.save(data, "PNG", compress_level=1)
    image_id = server.upload(data.getvalue())
    width, height = image.size
    from safetensors.numpy import load

    answer = server.client.get(f"/v1/images/{image_id}/embedding", params={"model": bundle.name}, timeout=120)
    embedding = torch.from_numpy(load(answer.content)["embedding"].astype(np.float32))[None]
    peers = Peers(sam, bundle, np.asarray(image), embedding)
    overheads: list[float] = []
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))

    def click(**body: object) -> Any:
        answer, content, seconds = post(
            connection, image_id, width / 2, height / 2, model=bundle.name, **body
        )
        assert answer.status == 200, content
        inside = sum(
            float(part.split("dur=")[1])
            for part in answer.headers["server-timing"].split(", ")
            if part.split(";")[0] in ("decode", "postprocess", "format")
        )
        overheads.append(1000 * seconds - inside)
        return [m["mask"] for m in json.loads(content)["results"][0]["masks"]]

    same(click(select="all"), peers.torch_click(True))
    times = interleaved_ms(
        {
            "segserve, three": lambda: click(select="all"),
            "SamPredictor, three": lambda: peers.torch_click(True),
            "segserve, one": lambda: click(multimask=False),
            "SamPredictor, one": lambda: peers.torch_click(False),
            "stock ONNX, one": lambda: peers.stock_click(slice(0, 1)),
        }
    )
    lines = [Line(f"{size}, mask {label}: {name}", f"{ms:.1f} ms") for name, ms in times.items()]
    if label == "1%":
        ours[size] = times["segserve, one"]
        stock = times["stock ONNX, one"] / times["segserve, one"]
        if size == "1024x1024":
            lines += [
                at_least(
                    "1024x1024, 1%: against SamPredictor, three",
                    times["SamPredictor, three"] / times["segserve, three"],
                    5,
                ),
                at_least(
                    "1024x1024, 1%: against SamPredictor, one",
                    times["SamPredictor, one"] / times["segserve, one"],
                    4,
                ),
                at_least("1024x1024, 1%: against the stock ONNX decoder", stock, 2),
                at_most(
                    "HTTP, validation, cache and reply together, p50", float(np.median(overheads)), 3, "ms"
                ),
            ]
        else:
            lines.append(at_least("4000x3000, 1%: against the stock ONNX decoder", stock, 3))
    return lines


def post(
    connection: http.client.HTTPConnection, image_id: str, x: float, y: float, **body: object
) -> tuple[http.client.HTTPResponse, bytes, float]:
    """A click over a kept connection, by the lightest client there is: (response, body, seconds)."""
    content = json.dumps({"image_id": image_id, "prompts": [{"points": [[x, y]], "labels": [1]}], **body})
    start = time.perf_counter()
    connection.request("POST", "/v1/segment", content, {"content-type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    return answer, data, time.perf_counter() - start


def same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """A comparison of times means something only between equal answers."""
    for a, b in zip(ours, theirs, strict=True):
        iou = coco.iou([{**a, "counts": a["counts"].encode()}], [b], [0])[0, 0]
        assert iou > 0.999, iou
