"""Differences between our encoder and fast decoder and those of segment-anything, for every kind of prompt."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.utils.transforms import ResizeLongestSide

from bench import real_weights
from bench.measuring import THREADS, Measurement, at_most
from segserve.decode.prompt_encoding import encode_tokens, logits_geometry
from segserve.encode.preprocess import preprocess_image
from segserve.masks.crop import to_mask
from segserve.masks.upscale import upscale_mask
from segserve.models.export.sam import export_sam
from segserve.models.promptable_model import PromptableModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.types import Box, Prompt, Size

SIZE = Size(768, 1024)
PROMPTS = {
    "a point": Prompt(np.array([[500, 400]], np.float32), np.array([1])),
    "twenty points": Prompt(
        np.random.default_rng(1).uniform(0, 700, (20, 2)).astype(np.float32), np.arange(20) % 2
    ),
    "a box": Prompt(box=Box(100, 120, 600, 500)),
    "a box and points": Prompt(
        np.array([[300, 300], [50, 60]], np.float32), np.array([1, 0]), Box(100, 120, 600, 500)
    ),
    "a point and a mask prompt": Prompt(
        np.array([[500, 400]], np.float32),
        np.array([1]),
        logits=np.random.default_rng(2).normal(0, 4, (256, 256)).astype(np.float32),
    ),
}


def measure() -> list[Measurement]:
    torch.manual_seed(0)
    options = RuntimeOptions(threads=THREADS)
    with tempfile.TemporaryDirectory() as work:
        if real_weights.uses_real_weights():
            name, sam = "MobileSAM", real_weights.build_network()
            model = PromptableModel(real_weights.open_bundle(), options, options)
            picture = real_weights.read_photograph((SIZE.width, SIZE.height))
            image = torch.from_numpy(preprocess_image(picture, model.preprocess))
        else:
            name, sam = "ViT-B", sam_model_registry["vit_b"]().eval()
            bundle = export_sam(sam, Path(work) / "b", name="b", architecture="vit_b")
            model, image = PromptableModel(bundle, options, options), torch.randn(1, 3, 1024, 1024)
        with torch.no_grad():
            reference = sam.image_encoder(image)
        embedding = model.encode(image.numpy())["embedding"]
        relative = np.abs(embedding - reference[0].numpy()).max() / reference.std().item()
        rows = [
            real_weights.describe_weights("random, of ViT-B's size; the image is noise"),
            at_most(f"{name} encoder, largest difference over the standard deviation", relative, 1e-3, ""),
        ]
        for name, prompt in PROMPTS.items():
            rows += compare_prompt(sam, model, reference, name, prompt)
    return rows


def compare_prompt(
    sam: object, model: PromptableModel, embedding: torch.Tensor, name: str, prompt: Prompt
) -> list[Measurement]:
    """Compare the candidates of one prompt, from the same fp32 embedding and from the embedding cached as fp16."""
    predictor = SamPredictor(sam)
    predictor.features, predictor.is_image_set = embedding, True
    predictor.original_size = (SIZE.height, SIZE.width)
    predictor.input_size = ResizeLongestSide(1024).get_preprocess_shape(SIZE.height, SIZE.width, 1024)
    box = (
        None if prompt.box is None else np.array([prompt.box.x0, prompt.box.y0, prompt.box.x1, prompt.box.y1])
    )
    masks, _, logits = predictor.predict(
        prompt.points if len(prompt.points) else None,
        prompt.labels if len(prompt.labels) else None,
        box,
        None if prompt.logits is None else prompt.logits[None],
        multimask_output=True,
    )
    coords, labels = encode_tokens(prompt, model.manifest, SIZE)
    geometry = logits_geometry(model.manifest, SIZE)

    def decode(array: np.ndarray) -> tuple[np.ndarray, float]:
        """Return (low-res logits [3, h, w], the lowest IoU with the reference masks)."""
        low, _ = model.decode(model.prepare({"embedding": array}, prompt.logits), coords, labels, [1, 2, 3])
        predicted = np.stack([to_mask(upscale_mask(m, geometry)) for m in low])
        union = (predicted | masks).sum((1, 2))
        return low, float(
            np.where(union > 0, (predicted & masks).sum((1, 2)) / np.maximum(union, 1), 1).min()
        )

    fp32 = embedding[0].numpy()
    low, iou = decode(fp32)
    _, fp16_iou = decode(fp32.astype(np.float16))
    return [
        at_most(
            f"{name}: logits, largest difference over the standard deviation",
            np.abs(low - logits).max() / logits.std(),
            1e-4,
            "",
        ),
        Measurement(f"{name}: binary masks, lowest IoU", f"{iou:.6f}", ">= 0.9999", iou >= 0.9999),
        Measurement(f"{name}: the same from the fp16 cache", f"{fp16_iou:.6f}"),
    ]
