"""How good is a promptable model? Objects are clicked, boxed and corrected, at full size."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.encode.preprocess import preprocess_image
from segserve.masks.geometry import bounding_box, deepest_pixel, iou
from segserve.masks.simulated_prompts import click_deepest_error
from segserve.train.batched_decoder import decode_masks, encode_prompts
from segserve.train.scenes import Scene, input_scale
from segserve.types import Bool, Preprocess

MIN_OBJECT_PX = 30  # original pixels
MAX_PROMPTS_PER_BATCH = 48  # prompts decoded at once


class EncodedScene:
    """One scene's embedding, and the way back from the input to the image. The scene is stretched already, so
    `preprocess` must not do it again."""

    def __init__(self, sam: Any, scene: Scene, preprocess: Preprocess) -> None:
        self.sam, self.scene, self.size = sam, scene, preprocess.input_size
        device = next(sam.parameters()).device
        self.embedding = sam.image_encoder(
            torch.from_numpy(preprocess_image(scene.image, preprocess)).to(device)
        )
        height, width = scene.labels.shape
        self.scale = input_scale(height, width, preprocess).astype(np.float32)
        inside = np.rint(self.scale * (width, height)).astype(int)
        self.inside = (max(1, int(inside[1])), max(1, int(inside[0])))

    def at_full_size(self, values: Tensor) -> Tensor:
        """[N, 1, h, w] of the input, at any size -> [N, H, W] of the image."""
        square = F.interpolate(values, (self.size, self.size), mode="bilinear", align_corners=False)
        cropped = square[..., : self.inside[0], : self.inside[1]]
        return F.interpolate(cropped, self.scene.labels.shape, mode="bilinear", align_corners=False)[:, 0]


class ObjectPrompter:
    """Asks the model about some objects of one scene and scores the best-scored candidates."""

    def __init__(self, judged: EncodedScene, masks: list[Bool]) -> None:
        self.judged, self.masks = judged, masks

    def ask(
        self,
        points: list[list[tuple[int, int, int]]],
        boxes: NDArray[np.float32] | None,
        prior: Tensor | None,
        multimask: bool,
    ) -> tuple[Bool, Tensor]:
        """Binary masks [N, H, W] and low-res logits [N, 1, h, w]."""
        sam, embedding, scale = self.judged.sam, self.judged.embedding, self.judged.scale
        clicks = np.array(points, np.float32).reshape(len(self.masks), -1, 3)
        where = torch.from_numpy(clicks[..., :2] * scale).to(embedding.device)
        labels = torch.from_numpy(clicks[..., 2]).to(embedding.device)
        area = None if boxes is None else torch.from_numpy(boxes * np.tile(scale, 2)).to(embedding.device)
        tokens = encode_prompts(sam, where, labels, area)
        image = embedding.expand(len(tokens), -1, -1, -1)
        logits, scores = decode_masks(sam, image, sam.prompt_encoder.get_dense_pe(), tokens, prior)
        allowed = slice(1, 4) if multimask else slice(0, 1)
        best = scores[:, allowed].argmax(1)
        low = logits[:, allowed][torch.arange(len(logits)), best][:, None]
        return (self.judged.at_full_size(low) > 0).cpu().numpy(), low

    def scores(self, found: Bool) -> list[float]:
        return [iou(t, f) for t, f in zip(self.masks, found, strict=True)]


def score_objects(clicker: ObjectPrompter) -> dict[str, list[float]]:
    clicks = [[(*deepest_pixel(mask), 1)] for mask in clicker.masks]
    found, low = clicker.ask(clicks, None, None, multimask=True)
    results = {"click": clicker.scores(found)}
    boxes = np.array([bounding_box(m) for m in clicker.masks], np.float32)
    results["box"] = clicker.scores(clicker.ask([[] for _ in clicks], boxes, None, False)[0])
    for _ in range(3):
        for points, mask, answer in zip(clicks, clicker.masks, found, strict=True):
            points.append(click_deepest_error(mask, answer))
        found, low = clicker.ask(clicks, None, low.clamp(-32, 32), multimask=False)
    results["corrected"] = clicker.scores(found)
    return results


def select_objects(scene: Scene, most: int | None) -> list[int]:
    """The ids of what is large enough; with `most`, so many of them, evenly over the image."""
    counts = np.bincount(scene.labels.ravel())
    ids = [i for i in range(1, len(counts)) if counts[i] >= MIN_OBJECT_PX]
    return ids if most is None else ids[:: -(-len(ids) // most) or 1]


@torch.no_grad()
def validate_promptable(
    networks: nn.ModuleDict, scenes: list[Scene], preprocess: Preprocess, most: int | None = None
) -> dict[str, float]:
    """Mean IoU over all objects after one click at the deepest pixel, after a box, and after three corrective
    clicks on top of the first; and the automatic decoder's foreground Dice. most: objects a scene at most."""
    networks.eval()
    results: dict[str, list[float]] = {"click": [], "box": [], "corrected": [], "foreground_dice": []}
    for scene in scenes:
        judged = EncodedScene(networks["sam"], scene, preprocess)
        ids = select_objects(scene, most)
        for start in range(0, len(ids), MAX_PROMPTS_PER_BATCH):
            clicker = ObjectPrompter(
                judged, [scene.labels == i for i in ids[start : start + MAX_PROMPTS_PER_BATCH]]
            )
            for name, values in score_objects(clicker).items():
                results[name] += values
        foreground = networks["automatic"](judged.embedding)[:, :1]
        found = (judged.at_full_size(foreground)[0] > 0.5).cpu().numpy()
        truth = scene.labels > 0
        both = max(1.0, float(found.sum() + truth.sum()))
        results["foreground_dice"].append(2 * float((found & truth).sum()) / both)
    return {name: round(float(np.mean(values)), 4) for name, values in results.items() if values}
