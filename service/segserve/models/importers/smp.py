"""Import a model of segmentation-models-pytorch (smp), such as U-Net, FPN or DeepLabV3+.

The checkpoint is a folder that `save_pretrained` wrote, or a state dict with `--variant unet:resnet34`.
"""

import json
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import nn

from segserve.errors import BadInput
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest
from segserve.models.importers.compare_semantic import export_and_compare
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.load_weights import load_weights
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint, strip_prefix

CONFIG_FILE = "config.json"
SMP_WEIGHTS_FILE = "model.safetensors"
# Activations of the library that return probabilities.
PROBABILITY_ACTIVATIONS = frozenset({"sigmoid", "softmax", "softmax2d", "clamp"})
MAX_CONFIG_BYTES = 1 << 20
PARTS = ("encoder.", "decoder.", "segmentation_head.")
MIN_MULTIPLE = 16
# The input of its pretrained encoders, and so of most models that are trained with them.
IMAGENET_INPUT = {"method": "fixed", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and compare it with the library. Raises BadInput, BrokenModel."""
    request.on_stage("reading the checkpoint")
    if request.checkpoint.is_dir():
        architecture, options = read_config(request.checkpoint / CONFIG_FILE, request.variant)
        state = read_checkpoint(request.checkpoint / SMP_WEIGHTS_FILE)
    else:
        architecture, options = parse_variant(request.variant)
        state = strip_prefix(read_checkpoint(request.checkpoint), "model.")  # the prefix of lightning modules
    network, channels, classes = build_network(architecture, options, state)
    detected: dict[str, Any] = {"multiple": max(network.encoder.output_stride, MIN_MULTIPLE)}
    if channels == 3:
        detected["input"] = {"channels": 3, "normalise": IMAGENET_INPUT}
    if (activation := options.get("activation")) in PROBABILITY_ACTIVATIONS:  # it is part of the network
        detected["activation"] = "none"
    elif activation not in (None, "identity"):
        raise BadInput(
            f"Its activation is {activation!r}, which does not return probabilities.",
            field="checkpoint",
            remedy=f"These do: {', '.join(sorted(PROBABILITY_ACTIVATIONS))}; or leave it out and set it in --manifest.",
        )
    name = f"{architecture}:{options['encoder_name']}"
    export_and_compare(
        network,
        request.folder,
        build_semantic_manifest(request, name, channels=channels, classes=classes, detected=detected),
        request.on_stage,
    )


def read_config(path: Path, variant: str | None) -> tuple[str, dict[str, Any]]:
    """Read config.json. Returns (architecture, its options). Raises BadInput."""
    if variant is not None:
        raise BadInput(f"{CONFIG_FILE} says what it is.", field="variant", remedy="Leave --variant out.")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        options = json.loads(path.read_bytes())
        by_class = {kind.__name__: name for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items()}
        architecture = by_class[options.pop("_model_class")]
        encoder = str(options["encoder_name"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{path.name} does not say which model this is.",
            field="checkpoint",
            remedy="Give the folder that the model's save_pretrained wrote.",
        ) from error
    check_encoder(encoder)
    return architecture, options


def parse_variant(variant: str | None) -> tuple[str, dict[str, Any]]:
    """Parse a variant such as "unet:resnet34". Returns (architecture, its options). Raises BadInput."""
    architecture, separator, encoder = (variant or "").partition(":")
    if not separator or architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise BadInput(
            "Weights do not tell which model of segmentation-models-pytorch they are of.",
            field="variant",
            remedy="Give --variant ARCHITECTURE:ENCODER, such as unet:resnet34. Architectures: "
            f"{', '.join(smp.MODEL_ARCHITECTURES_MAPPING)}.",
        )
    check_encoder(encoder)
    return architecture, {"encoder_name": encoder}


def check_encoder(name: str) -> None:
    """Raise BadInput unless installed code can build the encoder: some of timm's names make it download."""
    is_timm_encoder = name.startswith("tu-") and name.removeprefix("tu-") in timm.list_models()
    if not is_timm_encoder and name not in smp.encoders.get_encoder_names():
        raise BadInput(
            f"segmentation-models-pytorch has no encoder {name!r}.",
            field="variant",
            remedy="Encoders are such as resnet34, efficientnet-b0, mit_b0, or tu- before a name of timm's.",
        )


def build_network(architecture: str, options: dict[str, Any], state: StateDict) -> tuple[nn.Module, int, int]:
    """Return (network, channels of its input, classes). Raises BadInput.

    The shapes of the weights tell both numbers: they are compared with a network of 3 channels and 1 class.
    """
    template = create_network(architecture, options, channels=3, classes=1).state_dict()
    channels = classes = 0
    for key, expected in template.items():
        shape = state[key].shape if key in state else expected.shape
        if len(shape) != len(expected.shape):
            continue  # load_weights reports it, with all other wrong shapes
        if key.startswith("segmentation_head.") and key.endswith(".weight"):
            classes = shape[0]  # the last one counts
        elif not channels and len(expected.shape) == 4 and expected.shape[1] == 3:
            channels = shape[1]  # the first convolution
    channels, classes = channels or 3, classes or 1
    network = create_network(architecture, options, channels=channels, classes=classes)
    load_weights(network, state, f"{architecture} with encoder {options['encoder_name']}", PARTS)
    return network, channels, classes


def create_network(architecture: str, options: dict[str, Any], *, channels: int, classes: int) -> nn.Module:
    """Return a new network, never with pretrained weights: the library would download them.

    Raises BadInput for unknown options.
    """
    fixed = {"encoder_weights": None, "in_channels": channels, "classes": classes, "aux_params": None}
    try:
        return smp.create_model(architecture, **{**options, **fixed}).eval()
    except Exception as error:  # for a wrong option the library raises many types
        raise BadInput(
            f"segmentation-models-pytorch cannot build this {architecture}: {str(error)[:200]}.",
            field="checkpoint",
            remedy="Check the encoder, and the options in config.json.",
        ) from error
