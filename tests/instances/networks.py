"""torchvision's Mask R-CNN under random weights, small, and biased so that objects survive the thresholds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

CLASSES = ("__background__", "cat", "dog", "bird")
WIDTH = 16


class Body(nn.Sequential):
    """Four stages with strides of 4 to 32, instead of a ResNet."""

    def __init__(self) -> None:
        def stage(channels: int, stride: int) -> nn.Module:
            convolution = nn.Conv2d(channels, WIDTH, 3, stride, 1)
            return nn.Sequential(convolution, nn.BatchNorm2d(WIDTH), nn.ReLU())

        super().__init__()
        self.layer1, self.layer2 = stage(3, 4), stage(WIDTH, 2)
        self.layer3, self.layer4 = stage(WIDTH, 2), stage(WIDTH, 2)


def untrained(classes: int = len(CLASSES), seed: int = 0) -> MaskRCNN:
    """A complete Mask R-CNN for images of about 128 px, shaped like maskrcnn_resnet50_fpn."""
    torch.manual_seed(seed)
    layers = {f"layer{index + 1}": str(index) for index in range(4)}
    backbone = BackboneWithFPN(Body(), layers, [WIDTH] * 4, WIDTH)
    return MaskRCNN(
        backbone,
        min_size=128,
        max_size=224,
        box_head=TwoMLPHead(WIDTH * 7 * 7, 32),
        box_predictor=FastRCNNPredictor(32, classes),
        mask_head=MaskRCNNHeads(WIDTH, (WIDTH,), 1),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, classes),
    )


def small(classes: int = len(CLASSES), seed: int = 0) -> MaskRCNN:
    """Return the same network with results that differ from position to position."""
    network: MaskRCNN = spread(untrained(classes, seed))
    return network


def spread(network: Any, seed: int = 0) -> Any:
    """Scale the last layers so that their results differ from position to position.

    Random weights give nearly the same result everywhere, and then rounding decides the order of the objects. The
    scale follows from the layers' outputs for noise.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    network.eval()
    heads = network.roi_heads
    deviations = {
        network.rpn.head.cls_logits: 2.0,
        network.rpn.head.bbox_pred: 0.3,
        heads.box_predictor.cls_score: 1.0,
        heads.box_predictor.bbox_pred: 1.0,
        heads.mask_predictor.mask_fcn_logits: 3.0,
    }
    noise = [torch.rand(3, 64, 64, generator=generator)]
    for layer, deviation in deviations.items():
        scale_output(layer, deviation, lambda: network(noise))
    return network


def scale_output(layer: Any, deviation: float, run: Callable[[], Any]) -> None:
    """Scale and shift the layer so that its outputs have this standard deviation, and each channel (class) a mean of 0.

    run: runs the whole network.
    """
    outputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.no_grad():
        run()
        hook.remove()
        values = torch.cat([each.transpose(0, 1).flatten(1) for each in outputs], 1)
        factor = deviation / (values - values.mean(1, keepdim=True)).std()
        layer.weight *= factor
        layer.bias.copy_((layer.bias - values.mean(1)) * factor)


def full(variant: str, min_size: int = 128, max_size: int = 160, classes: int = len(CLASSES)) -> Any:
    """Return a published architecture of 44 million weights, by default for small images."""
    build = {"resnet50_fpn": maskrcnn_resnet50_fpn, "resnet50_fpn_v2": maskrcnn_resnet50_fpn_v2}[variant]
    torch.manual_seed(0)
    sizes = {"min_size": min_size, "max_size": max_size}
    return spread(build(weights=None, weights_backbone=None, num_classes=classes, **sizes))
