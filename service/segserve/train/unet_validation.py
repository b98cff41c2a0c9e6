"""Validation of U-Nets: loss and Dice on whole held-out images, predicted tile by tile."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segserve.train.dataset_folder import LabelledImage
from segserve.train.unet_dataset import normalise_image, one_hot_mask
from segserve.train.unet_losses import UnetLoss
from segserve.types import UInt8

TILE_PX = 1024  # the edge of a tile; a larger image is predicted in parts, which bounds the memory


@torch.no_grad()
def validate_unet(
    network: Any, images: list[LabelledImage], classes: int, device: str, loss: UnetLoss
) -> dict[str, float]:
    """Return "loss_validation" and "dice", means over stretched images.

    An image's Dice is the mean over the classes that its mask or its prediction has.
    """
    network.eval()
    dices, losses = [], []
    for image in images:
        logits = predict_image(network, image.image, device)
        truth = torch.from_numpy(one_hot_mask(image.mask, classes))
        losses.append(float(loss(logits[None], truth[None])))
        predicted, true = logits > 0, truth > 0
        areas = (predicted.sum((1, 2)) + true.sum((1, 2))).float()
        overlap = 2 * (predicted & true).sum((1, 2)).float()
        present = areas > 0
        dices.append(float((overlap / areas)[present].mean()) if bool(present.any()) else 1.0)
    return {"loss_validation": float(np.mean(losses)), "dice": float(np.mean(dices))}


def predict_image(network: Any, image: UInt8, device: str) -> Tensor:
    """Return logits [classes, H, W], on the CPU, of a stretched image [H, W, 3]."""
    height, width = image.shape[:2]
    edge, rows = network.fixed_px or TILE_PX, []
    for y in range(0, height, edge):
        row = image[y : y + edge]
        tiles = [predict_tile(network, row[:, x : x + edge], device) for x in range(0, width, edge)]
        rows.append(torch.cat(tiles, dim=2))
    return torch.cat(rows, dim=1)


def predict_tile(network: Any, image: UInt8, device: str) -> Tensor:
    """Return logits [classes, h, w] of a tile [h, w, 3], padded to a size that the network takes."""
    height, width = image.shape[:2]
    padding = (0, -width % network.multiple, 0, -height % network.multiple)
    padded = F.pad(torch.from_numpy(normalise_image(image))[None], padding, mode="replicate")
    logits: Tensor = network(padded.to(device))[0, :, :height, :width].cpu()
    return logits
