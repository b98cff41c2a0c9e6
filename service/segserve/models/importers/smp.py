"""segmentation-models-pytorch: a folder that `save_pretrained` wrote, or a checkpoint and `--variant unet:resnet34`."""

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
from segserve.models.importers.read_checkpoint import StateDict, load_weights, read_checkpoint, strip_prefix

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Activations of the library that answer probabilities
PROBABILITIES = frozenset({"sigmoid", "softmax", "softmax2d", "clamp"})
MAX_CONFIG_BYTES = 1 << 20
OWN = ("encoder.", "decoder.", "segmentation_head.")
# What its pretrained encoders were trained with, and so what people train on with them.
IMAGENET = {"method": "fixed", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def write_bundle(request: ImportRequest) -> None:
    """Raises BadInput (no such model), BrokenModel (the export does not agree)."""
    request.on_stage("reading the checkpoint")
    if request.checkpoint.is_dir():
        architecture, options = read_config(request.checkpoint / CONFIG, request.variant)
        state = read_checkpoint(request.checkpoint / WEIGHTS)
    else:
        architecture, options = parse_variant(request.variant)
        state = strip_prefix(read_checkpoint(request.checkpoint), "model.")  # as lightning modules have it
    network, channels, classes = build_network(architecture, options, state)
    found: dict[str, Any] = {"multiple": max(network.encoder.output_stride, 16)}
    if channels == 3:
        found["input"] = {"channels": 3, "normalise": IMAGENET}
    if (activation := options.get("activation")) in PROBABILITIES:  # it is part of the network
        found["activation"] = "none"
    elif activation not in (None, "identity"):
        raise BadInput(
            f"Its activation is {activation!r}, which answers no probabilities.",
            field="checkpoint",
            remedy=f"These do: {', '.join(sorted(PROBABILITIES))}; or leave it out, and say which in --manifest.",
        )
    name = f"{architecture}:{options['encoder_name']}"
    export_and_compare(
        network,
        request.folder,
        build_semantic_manifest(request, name, channels=channels, classes=classes, found=found),
        request.on_stage,
    )


def read_config(path: Path, variant: str | None) -> tuple[str, dict[str, Any]]:
    """(architecture, its options). Raises BadInput."""
    if variant is not None:
        raise BadInput(f"{CONFIG} says what it is.", field="variant", remedy="Leave --variant out.")
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        options = json.loads(path.read_bytes())
        by_class = {kind.__name__: name for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items()}
        architecture = by_class[options.pop("_model_class")]
        encoder = str(options["encoder_name"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(
            f"{path} does not say which model this is.",
            field="checkpoint",
            remedy="Give the folder that the model's save_pretrained wrote.",
        ) from error
    check_encoder(encoder)
    return architecture, options


def parse_variant(variant: str | None) -> tuple[str, dict[str, Any]]:
    """ "unet:resnet34" -> the same. Raises BadInput."""
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
    """Only what is built from code that is installed: timm takes names that make it download, too."""
    of_timm = name.startswith("tu-") and name.removeprefix("tu-") in timm.list_models()
    if not of_timm and name not in smp.encoders.get_encoder_names():
        raise BadInput(
            f"segmentation-models-pytorch has no encoder {name!r}.",
            field="variant",
            remedy="Encoders are such as resnet34, efficientnet-b0, mit_b0, or tu- before a name of timm's.",
        )


def build_network(architecture: str, options: dict[str, Any], state: StateDict) -> tuple[nn.Module, int, int]:
    """(network, channels in, classes). Both are told by the shapes: a network of the usual ones is compared with the
    weights. Raises BadInput."""
    usual = create_network(architecture, options, channels=3, classes=1).state_dict()
    channels = classes = 0
    for key, expected in usual.items():
        shape = state[key].shape if key in state else expected.shape
        if len(shape) != len(expected.shape):
            continue  # reported below, with all that does not fit
        if key.startswith("segmentation_head.") and key.endswith(".weight"):
            classes = shape[0]  # the last of them
        elif not channels and len(expected.shape) == 4 and expected.shape[1] == 3:
            channels = shape[1]  # the first convolution
    channels, classes = channels or 3, classes or 1
    network = create_network(architecture, options, channels=channels, classes=classes)
    load_weights(network, state, f"{architecture} with encoder {options['encoder_name']}", OWN)
    return network, channels, classes


def create_network(architecture: str, options: dict[str, Any], *, channels: int, classes: int) -> nn.Module:
    """Never with pretrained weights: those would be downloaded. Raises BadInput for options that are none."""
    fixed = {"encoder_weights": None, "in_channels": channels, "classes": classes, "aux_params": None}
    try:
        return smp.create_model(architecture, **{**options, **fixed}).eval()
    except Exception as error:  # whatever a wrong option makes the library raise
        raise BadInput(
            f"segmentation-models-pytorch cannot build this {architecture}: {str(error)[:200]}.",
            field="checkpoint",
            remedy="Check the encoder, and the options in config.json.",
        ) from error
