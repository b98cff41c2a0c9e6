"""How good is the starter? Every nucleus of 30 px or more is clicked, boxed and corrected, at full size."""

import numpy as np
import torch
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor, nn
from torch.nn import functional as F

from network import INPUT_SIZE, decode, encode_prompts
from prompts import bounding_box, corrective_click, deepest_pixel
from scenes import MEAN, STD, Scene

SMALLEST = 30  # original pixels
CHUNK = 48  # prompts decoded at once


def embed(sam: Sam, scene: Scene) -> tuple[Tensor, tuple[int, int]]:
    """The scene's embedding [1, DIM, g, g], and (height, width) of the image inside the padded input."""
    resized = ResizeLongestSide(INPUT_SIZE).apply_image(scene.image)
    height, width = resized.shape[:2]
    image = torch.from_numpy((resized - MEAN) / STD).permute(2, 0, 1)[None].float()
    padded = F.pad(image, (0, INPUT_SIZE - width, 0, INPUT_SIZE - height))
    return sam.image_encoder(padded), (height, width)


class Clicker:
    """Asks the model about the objects of one scene and scores the best-scored candidates."""

    def __init__(self, sam: Sam, scene: Scene, masks: list[np.ndarray]) -> None:
        self.sam, self.scene, self.masks = sam, scene, masks
        self.embedding, self.inside = embed(sam, scene)
        height, width = scene.labels.shape
        self.scale = np.array([self.inside[1] / width, self.inside[0] / height], np.float32)

    def ask(
        self,
        points: list[list[tuple[int, int, int]]],
        boxes: np.ndarray | None,
        prior: Tensor | None,
        multimask: bool,
    ) -> tuple[np.ndarray, Tensor]:
        """Binary masks [N, H, W] and low-res logits [N, 1, h, w]."""
        clicks = np.array(points, np.float32).reshape(len(self.masks), -1, 3)
        where = torch.from_numpy(clicks[..., :2] * self.scale)
        area = None if boxes is None else torch.from_numpy(boxes * np.tile(self.scale, 2))
        tokens = encode_prompts(self.sam, where, torch.from_numpy(clicks[..., 2]), area)
        logits, scores = decode(
            self.sam,
            self.embedding.expand(len(tokens), -1, -1, -1),
            self.sam.prompt_encoder.get_dense_pe(),
            tokens,
            prior,
        )
        allowed = slice(1, 4) if multimask else slice(0, 1)
        best = scores[:, allowed].argmax(1)
        low = logits[:, allowed][torch.arange(len(logits)), best][:, None]
        square = F.interpolate(low, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        full = F.interpolate(
            square[..., : self.inside[0], : self.inside[1]],
            self.scene.labels.shape,
            mode="bilinear",
            align_corners=False,
        )
        return (full[:, 0] > 0).numpy(), low

    def scores(self, found: np.ndarray) -> list[float]:
        return [float((t & f).sum() / (t | f).sum()) for t, f in zip(self.masks, found, strict=True)]


def judge_masks(clicker: Clicker) -> dict[str, list[float]]:
    clicks = [[(*deepest_pixel(mask), 1)] for mask in clicker.masks]
    found, low = clicker.ask(clicks, None, None, multimask=True)
    results = {"click": clicker.scores(found)}
    results["box"] = clicker.scores(
        clicker.ask([[] for _ in clicks], np.stack([bounding_box(m) for m in clicker.masks]), None, False)[0]
    )
    for _ in range(3):
        for points, mask, answer in zip(clicks, clicker.masks, found, strict=True):
            points.append(corrective_click(mask, answer, None))
        found, low = clicker.ask(clicks, None, low.clamp(-32, 32), multimask=False)
    results["corrected"] = clicker.scores(found)
    return results


@torch.no_grad()
def judge(sam: Sam, automatic: nn.Module, scenes: list[Scene]) -> dict[str, float]:
    """Mean IoU over all nuclei after one click at the deepest pixel, after a box, and after three corrective
    clicks on top of the first; and the automatic decoder's foreground Dice."""
    sam.eval()
    automatic.eval()
    results: dict[str, list[float]] = {"click": [], "box": [], "corrected": [], "foreground_dice": []}
    for scene in scenes:
        counts = np.bincount(scene.labels.ravel())
        ids = [i for i in range(1, len(counts)) if counts[i] >= SMALLEST]
        for start in range(0, len(ids), CHUNK):
            clicker = Clicker(sam, scene, [scene.labels == i for i in ids[start : start + CHUNK]])
            for name, values in judge_masks(clicker).items():
                results[name] += values
        embedding, (height, width) = embed(sam, scene)
        foreground = F.interpolate(automatic(embedding)[:, :1], (INPUT_SIZE, INPUT_SIZE), mode="bilinear")
        full = (
            F.interpolate(foreground[..., :height, :width], scene.labels.shape, mode="bilinear")[0, 0] > 0.5
        )
        truth = scene.labels > 0
        results["foreground_dice"].append(
            2 * float((full.numpy() & truth).sum()) / max(1.0, float(full.sum() + truth.sum()))
        )
    return {name: round(float(np.mean(values)), 4) for name, values in results.items()}
