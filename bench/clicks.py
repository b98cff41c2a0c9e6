"""What a click costs over HTTP, against SamPredictor and the stock ONNX decoder, on the same machine at once."""

import http.client
import io
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco
from safetensors.numpy import load
from segment_anything import SamPredictor
from tests.serving import Server

from bench.blobs import SHARES, build_sam, export
from bench.common import THREADS, Line, at_least, at_most, interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.onnx_runtime import OnnxGraph, RuntimeOptions

SIZES = {"1024x1024": (1024, 1024), "4000x3000": (4000, 3000)}  # width, height
TARGETS = {
    "1024x1024, 1%": {"SamPredictor, three": 5.0, "SamPredictor, one": 4.0, "stock ONNX, one": 2.0},
    "4000x3000, 1%": {"stock ONNX, one": 3.0},
}


def picture(width: int, height: int) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def full_rle(mask: np.ndarray) -> dict[str, Any]:
    return coco.encode(np.asfortranarray(mask))  # type: ignore[no-any-return]


class Peers:
    """The two ways people answer a click today, on an image whose embedding is at hand."""

    def __init__(self, sam: Any, bundle: Bundle, size: tuple[int, int], embedding: torch.Tensor) -> None:
        self.predictor = SamPredictor(sam)
        self.width, self.height = size
        self.decoder = OnnxGraph(bundle.path("decoder.onnx"), RuntimeOptions(threads=THREADS))
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


class Ours:
    """Clicks on the middle of an uploaded image, over HTTP. `overheads`: ms of each click that went neither into
    decoding nor into making the reply's masks."""

    def __init__(self, server: Server, model: str, width: int, height: int) -> None:
        data = io.BytesIO()
        picture(width, height).save(data, "PNG", compress_level=1)
        self.image_id = server.upload(data.getvalue())
        self.model, self.middle = model, (width / 2, height / 2)
        self.overheads: list[float] = []
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        answer = server.client.get(
            f"/v1/images/{self.image_id}/embedding", params={"model": model}, timeout=120
        )
        self.embedding = torch.from_numpy(load(answer.content)["embedding"].astype(np.float32))[None]

    def click(self, **body: object) -> list[dict[str, Any]]:
        answer, content, seconds = post(
            self._connection, self.image_id, *self.middle, model=self.model, **body
        )
        assert answer.status == 200, content
        inside = sum(
            float(part.split("dur=")[1])
            for part in answer.headers["server-timing"].split(", ")
            if part.split(";")[0] in ("decode", "postprocess", "format")
        )
        self.overheads.append(1000 * seconds - inside)
        return [m["mask"] for m in json.loads(content)["results"][0]["masks"]]


def measure() -> list[Line]:
    torch.set_num_threads(THREADS)
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
    lines: list[Line] = []
    try:
        server.wait_ready()
        for label, (sam, bundle) in bundles.items():
            ours = {name: Ours(server, bundle.name, *size) for name, size in SIZES.items()}
            for name, size in SIZES.items():
                lines += compare(
                    f"{name}, {label}", ours[name], Peers(sam, bundle, size, ours[name].embedding)
                )
            lines += compare_sizes(label, ours)
    finally:
        server.stop()
    return lines


def compare(what: str, ours: Ours, peers: Peers) -> list[Line]:
    """All ways to answer the same click, in turn. What was aimed at is aimed at for masks of 1%."""
    same(ours.click(select="all"), peers.torch_click(True))
    ours.overheads.clear()
    times = interleaved_ms(
        {
            "segserve, three": lambda: ours.click(select="all"),
            "SamPredictor, three": lambda: peers.torch_click(True),
            "segserve, one": lambda: ours.click(multimask=False),
            "SamPredictor, one": lambda: peers.torch_click(False),
            "stock ONNX, one": lambda: peers.stock_click(slice(0, 1)),
        }
    )
    targets = TARGETS.get(what, {})
    lines = [Line(f"{what}: {name}", f"{ms:.1f} ms") for name, ms in times.items()]
    for peer in ("SamPredictor, three", "SamPredictor, one", "stock ONNX, one"):
        ratio = times[peer] / times[f"segserve, {peer.split()[-1]}"]
        name = f"{what}: segserve against {peer}"
        lines.append(at_least(name, ratio, targets[peer]) if peer in targets else Line(name, f"{ratio:.2f}x"))
    overhead = float(np.median(ours.overheads))
    return [*lines, at_most(f"{what}: HTTP, validation, cache and reply together, p50", overhead, 3, "ms")]


def compare_sizes(label: str, ours: dict[str, Ours]) -> list[Line]:
    """A mask of the same share of a small and of a large image."""
    times = interleaved_ms({name: partial(ours[name].click, multimask=False) for name in SIZES}, repeats=30)
    small, large = times.values()
    what = f"{label}: segserve at 4000x3000 against 1024x1024"
    return [at_most(what, large / small, 1.2, "x") if label == "1%" else Line(what, f"{large / small:.2f} x")]


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
