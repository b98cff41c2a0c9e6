"""The time of a click over HTTP, against SamPredictor and the stock ONNX decoder, in turn on the same machine."""

import http.client
import io
import json
import shutil
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

from bench import real_weights
from bench.blob_sam import SHARES, build_blob_sam, export_blob_sam
from bench.measuring import THREADS, Measurement, at_least, at_most, measure_interleaved_ms
from segserve.models.bundle import Bundle
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions

PHOTOGRAPH = "a photograph"  # the label of the published weights
SIZES = {"1024x1024": (1024, 1024), "4000x3000": (4000, 3000)}  # width, height
SMALL_TARGETS = {"SamPredictor, three": 5.0, "SamPredictor, one": 4.0, "stock ONNX, one": 2.0}
LARGE_TARGETS = {"stock ONNX, one": 3.0}
WITH_TARGETS = ("1%", PHOTOGRAPH)
TARGETS = {
    **{f"1024x1024, {label}": SMALL_TARGETS for label in WITH_TARGETS},
    **{f"4000x3000, {label}": LARGE_TARGETS for label in WITH_TARGETS},
}


def draw_image(width: int, height: int) -> Image.Image:
    """Return a photograph, or for random weights smooth coloured noise."""
    if real_weights.uses_real_weights():
        return Image.fromarray(real_weights.read_photograph((width, height)))
    small = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encode a full-size mask [H, W] with pycocotools."""
    return coco.encode(np.asfortranarray(mask))  # type: ignore[no-any-return]


class ReferencePredictors:
    """The two usual ways to answer a click: SamPredictor, and the stock ONNX decoder. The embedding is computed."""

    def __init__(self, sam: Any, bundle: Bundle, size: tuple[int, int], embedding: torch.Tensor) -> None:
        self.predictor = SamPredictor(sam)
        self.width, self.height = size
        self.decoder = OnnxGraph(bundle.path("decoder.onnx"), RuntimeOptions(threads=THREADS))
        self.embedding = embedding.numpy()
        p = self.predictor
        p.features, p.is_image_set = embedding, True
        p.original_size = (self.height, self.width)
        p.input_size = p.transform.get_preprocess_shape(self.height, self.width, 1024)

    def click_torch(self, multimask: bool) -> list[dict[str, Any]]:
        """Return the masks of SamPredictor, as RLE."""
        point = np.array([[self.width / 2, self.height / 2]])
        masks, _, _ = self.predictor.predict(point, np.array([1]), multimask_output=multimask)
        return [encode_rle(m) for m in masks]

    def click_stock_onnx(self, tokens: slice) -> list[dict[str, Any]]:
        """Return the masks of the stock ONNX decoder, as RLE."""
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
        return [encode_rle(m > 0) for m in masks[0, tokens]]


class ServiceClicker:
    """`ServiceClicker` clicks on the middle of an uploaded image, over HTTP.

    overheads: of each click, the milliseconds that went neither into decoding nor into the masks of the reply.
    """

    def __init__(self, server: Server, model: str, width: int, height: int) -> None:
        data = io.BytesIO()
        draw_image(width, height).save(data, "PNG", compress_level=1)
        self.image_id = server.upload(data.getvalue())
        self.model, self.middle = model, (width / 2, height / 2)
        self.overheads: list[float] = []
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        response = server.client.get(
            f"/v1/images/{self.image_id}/embedding", params={"model": model}, timeout=120
        )
        assert response.status_code == 200, response.text
        self.embedding = torch.from_numpy(load(response.content)["embedding"].astype(np.float32))[None]

    def click(self, **body: object) -> list[dict[str, Any]]:
        response, content, seconds = post_click(
            self._connection, self.image_id, *self.middle, model=self.model, **body
        )
        assert response.status == 200, content
        counted_ms = sum(
            float(part.split("dur=")[1])
            for part in response.headers["server-timing"].split(", ")
            if part.split(";")[0] in ("decode", "postprocess", "format")
        )
        self.overheads.append(1000 * seconds - counted_ms)
        return [m["mask"] for m in json.loads(content)["results"][0]["masks"]]


def measure() -> list[Measurement]:
    torch.set_num_threads(THREADS)
    # Kept between runs: writing three ViT-B bundles takes minutes.
    data = Path(__file__).parent / "runs" / "clicks"
    bundles = open_bundles(data / "models")
    server = Server(
        data, encode_threads=str(THREADS), decode_threads=str(THREADS), log_level="error", models_mb="1"
    )
    rows = [
        real_weights.describe_weights(
            "random, of ViT-B's size, with a hill added to the logits; images are noise"
        )
    ]
    try:
        server.wait_ready()
        for label, (sam, bundle) in bundles.items():
            ours = {name: ServiceClicker(server, bundle.name, *size) for name, size in SIZES.items()}
            for name, size in SIZES.items():
                rows += compare_click(
                    f"{name}, {label}",
                    ours[name],
                    ReferencePredictors(sam, bundle, size, ours[name].embedding),
                )
            rows += compare_sizes(label, ours)
    finally:
        server.stop()
    return rows


def open_bundles(models: Path) -> dict[str, tuple[Any, Bundle]]:
    """Return (network, bundle) by the label of the rows, with the bundles in the folder `models`."""
    if real_weights.uses_real_weights():
        bundle = real_weights.open_bundle()
        shutil.copytree(bundle.folder, models / bundle.name, dirs_exist_ok=True)
        return {PHOTOGRAPH: (real_weights.build_network(), bundle)}
    bundles = {}
    for label, share in SHARES.items():
        folder, sam = models / f"blob-{label.rstrip('%')}", build_blob_sam(share)
        if not (folder / "model.yaml").exists():
            export_blob_sam(sam, folder)
        bundles[label] = (sam, Bundle(folder))
    return bundles


def compare_click(label: str, ours: ServiceClicker, references: ReferencePredictors) -> list[Measurement]:
    """Compare all ways to answer the same click. Masks of 25% and 100% have no targets."""
    assert_same_masks(ours.click(select="all", raw=True), references.click_torch(True))
    ours.overheads.clear()
    times = measure_interleaved_ms(
        {
            "segserve, three": lambda: ours.click(select="all"),
            "SamPredictor, three": lambda: references.click_torch(True),
            "segserve, one": lambda: ours.click(multimask=False),
            "SamPredictor, one": lambda: references.click_torch(False),
            "stock ONNX, one": lambda: references.click_stock_onnx(slice(0, 1)),
        }
    )
    targets = TARGETS.get(label, {})
    rows = [Measurement(f"{label}: {name}", f"{ms:.1f} ms") for name, ms in times.items()]
    for reference in ("SamPredictor, three", "SamPredictor, one", "stock ONNX, one"):
        ratio = times[reference] / times[f"segserve, {reference.split()[-1]}"]
        name = f"{label}: segserve against {reference}"
        rows.append(
            at_least(name, ratio, targets[reference])
            if reference in targets
            else Measurement(name, f"{ratio:.2f}x")
        )
    overhead = float(np.median(ours.overheads))
    return [*rows, at_most(f"{label}: HTTP, validation, cache and reply together, p50", overhead, 3, "ms")]


def compare_sizes(share: str, ours: dict[str, ServiceClicker]) -> list[Measurement]:
    """Compare masks of the same share of a small and of a large image."""
    times = measure_interleaved_ms(
        {name: partial(ours[name].click, multimask=False) for name in SIZES}, repeats=30
    )
    small, large = times.values()
    label = f"{share}: segserve at 4000x3000 against 1024x1024"
    return [
        at_most(label, large / small, 1.2, "x")
        if share in WITH_TARGETS
        else Measurement(label, f"{large / small:.2f} x")
    ]


def post_click(
    connection: http.client.HTTPConnection, image_id: str, x: float, y: float, **body: object
) -> tuple[http.client.HTTPResponse, bytes, float]:
    """Click over an open connection with a minimal client, and return (response, body, seconds)."""
    content = json.dumps({"image_id": image_id, "prompts": [{"points": [[x, y]], "labels": [1]}], **body})
    start = time.perf_counter()
    connection.request("POST", "/v1/segment", content, {"content-type": "application/json"})
    response = connection.getresponse()
    data = response.read()
    return response, data, time.perf_counter() - start


def assert_same_masks(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Check that both give the same masks: only then can their times be compared."""
    for a, b in zip(ours, theirs, strict=True):
        iou = coco.iou([{**a, "counts": a["counts"].encode()}], [b], [0])[0, 0]
        assert iou > 0.999, iou
