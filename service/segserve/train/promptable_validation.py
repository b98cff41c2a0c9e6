"""Validation of promptable models: mean IoU after a click, a box and corrective clicks, and mSA of automatic
segmentation, at the image's full size."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from segserve.automatic.ais_watershed import FOREGROUND, segment_by_watershed
from segserve.automatic.parameters import AisParams
from segserve.encode.preprocess import preprocess_image
from segserve.evaluate.object_matching import match_label_maps, mean_segmentation_accuracy
from segserve.masks.geometry import bounding_box, deepest_pixel, iou
from segserve.masks.simulated_prompts import Click, click_deepest_error
from segserve.train.batched_decoder import (
    MAX_ABS_LOGIT,
    decode_masks,
    encode_images,
    encode_prompts,
    predict_maps,
)
from segserve.train.scenes import Scene, input_scale
from segserve.types import Bool, Preprocess

MIN_VALIDATED_OBJECT_PX = 30  # pixels of the image; smaller objects are left out
MAX_PROMPTS_PER_BATCH = 48  # prompts that are decoded at once
CORRECTIONS = 3  # corrective clicks after the first


class EncodedScene:
    """`EncodedScene` keeps a scene's features, and resizes predictions back to the image.

    preprocess: must not stretch the contrast, as the scene's is stretched already.
    """

    def __init__(self, sam: Any, scene: Scene, preprocess: Preprocess) -> None:
        self.sam, self.scene, self.input_size = sam, scene, preprocess.input_size
        self.device = next(sam.parameters()).device
        image = torch.from_numpy(preprocess_image(scene.image, preprocess)).to(self.device)
        self.features = encode_images(sam, image)
        height, width = scene.labels.shape
        self.scale = input_scale(height, width, preprocess).astype(np.float32)
        inside = np.rint(self.scale * (width, height)).astype(int)
        self.inside = (max(1, int(inside[1])), max(1, int(inside[0])))  # of the input, without padding

    def resize_to_image(self, values: Tensor) -> Tensor:
        """Return [N, H, W] of the image for values [N, 1, h, w] of the input, at any resolution."""
        edge = self.input_size
        square = F.interpolate(values, (edge, edge), mode="bilinear", align_corners=False)
        cropped = square[..., : self.inside[0], : self.inside[1]]
        return F.interpolate(cropped, self.scene.labels.shape, mode="bilinear", align_corners=False)[:, 0]


class ObjectPrompter:
    """`ObjectPrompter` prompts a model for some objects of one scene. masks: N arrays [H, W]."""

    def __init__(self, encoded: EncodedScene, masks: list[Bool]) -> None:
        self.encoded, self.masks = encoded, masks

    def predict(
        self,
        clicks: list[list[Click]],
        boxes: NDArray[np.float32] | None,
        mask_prompt: Tensor | None,
        multimask: bool,
    ) -> tuple[Bool, Tensor]:
        """Return the candidate with the best score for each object: masks [N, H, W], low-res logits [N, 1, h, w].

        clicks: of each object, as many for each.
        boxes: [N, 4], (x0, y0, x1, y1).
        mask_prompt: [N, 1, h, w], logits.
        multimask: three candidates rather than one.
        """
        sam, device, scale = self.encoded.sam, self.encoded.device, self.encoded.scale
        array = np.array(clicks, np.float32).reshape(len(self.masks), -1, 3)
        points = torch.from_numpy(array[..., :2] * scale).to(device)
        labels = torch.from_numpy(array[..., 2]).to(device)
        input_boxes = None
        if boxes is not None:
            input_boxes = torch.from_numpy(boxes * np.tile(scale, 2)).to(device)
        tokens = encode_prompts(sam, points, labels, input_boxes)
        features = {k: value.expand(len(tokens), -1, -1, -1) for k, value in self.encoded.features.items()}
        logits, scores = decode_masks(sam, features, sam.prompt_encoder.get_dense_pe(), tokens, mask_prompt)
        candidates = slice(1, 4) if multimask else slice(0, 1)
        best = scores[:, candidates].argmax(1)
        low = logits[:, candidates][torch.arange(len(logits)), best][:, None]
        return (self.encoded.resize_to_image(low) > 0).cpu().numpy(), low

    def score(self, predictions: Bool) -> list[float]:
        """Return the IoU of each object with its prediction, of [N, H, W]."""
        return [iou(mask, prediction) for mask, prediction in zip(self.masks, predictions, strict=True)]


def score_objects(prompter: ObjectPrompter) -> dict[str, list[float]]:
    """Return the IoU of each object after a click ("click"), after a box ("box"), after all clicks ("corrected")."""
    clicks: list[list[Click]] = [[(*deepest_pixel(mask), 1)] for mask in prompter.masks]
    predictions, low = prompter.predict(clicks, None, None, multimask=True)
    results = {"click": prompter.score(predictions)}
    boxes = np.array([bounding_box(mask) for mask in prompter.masks], np.float32)
    results["box"] = prompter.score(prompter.predict([[] for _ in clicks], boxes, None, multimask=False)[0])
    for _ in range(CORRECTIONS):
        for object_clicks, mask, prediction in zip(clicks, prompter.masks, predictions, strict=True):
            object_clicks.append(click_deepest_error(mask, prediction))
        mask_prompt = low.clamp(-MAX_ABS_LOGIT, MAX_ABS_LOGIT)
        predictions, low = prompter.predict(clicks, None, mask_prompt, multimask=False)
    results["corrected"] = prompter.score(predictions)
    return results


def select_objects(scene: Scene, max_objects: int | None) -> list[int]:
    """Return the ids of objects that are large enough, at most `max_objects` of them, spread evenly over the ids."""
    counts = np.bincount(scene.labels.ravel())
    ids = [i for i in range(1, len(counts)) if counts[i] >= MIN_VALIDATED_OBJECT_PX]
    return ids if max_objects is None else ids[:: -(-len(ids) // max_objects) or 1]


@torch.no_grad()
def validate_promptable(
    networks: nn.ModuleDict,
    scenes: list[Scene],
    preprocess: Preprocess,
    max_objects: int | None = None,
    *,
    ais: AisParams | None,
) -> dict[str, float]:
    """Return the mean IoU over all objects for "click", "box" and "corrected", and "foreground_dice" and "msa".

    They are the IoU after one click at the deepest pixel, after a box, and after three corrective clicks on top of the
    first; the Dice of the automatic decoder's foreground, and the mSA of its objects by the watershed, both means over
    the scenes.
    max_objects: the largest number of objects of a scene that are prompted for.
    ais: parameters of the watershed; None does not score the automatic decoder.
    """
    networks.eval()
    results: dict[str, list[float]] = {
        name: [] for name in ("click", "box", "corrected", "foreground_dice", "msa")
    }
    for scene in scenes:
        encoded = EncodedScene(networks["sam"], scene, preprocess)
        ids = select_objects(scene, max_objects)
        for start in range(0, len(ids), MAX_PROMPTS_PER_BATCH):
            masks = [scene.labels == i for i in ids[start : start + MAX_PROMPTS_PER_BATCH]]
            for name, values in score_objects(ObjectPrompter(encoded, masks)).items():
                results[name] += values
        if ais is not None:
            for name, value in score_automatic(networks["automatic"], encoded, ais).items():
                results[name].append(value)
    return {name: round(float(np.mean(values)), 4) for name, values in results.items() if values}


def score_automatic(automatic: nn.Module, encoded: EncodedScene, ais: AisParams) -> dict[str, float]:
    """Return the Dice of the automatic decoder's foreground on a scene, and the mSA of its objects."""
    decoded = predict_maps(automatic, encoded.features)  # [1, 3, h, w]
    maps = encoded.resize_to_image(decoded.transpose(0, 1)).cpu().numpy()
    prediction, truth = maps[FOREGROUND] > 0.5, encoded.scene.labels > 0
    areas = max(1.0, float(prediction.sum() + truth.sum()))
    objects = segment_by_watershed(maps, ais)
    return {
        "foreground_dice": 2 * float((prediction & truth).sum()) / areas,
        "msa": mean_segmentation_accuracy(match_label_maps(encoded.scene.labels, objects)),
    }
