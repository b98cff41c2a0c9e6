"""Import a U-Net in one of the two variants that are in wide use; see `models.networks.unet`."""

import re

from torch import nn

from segserve.errors import BadInput
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest
from segserve.models.importers.compare_semantic import export_and_compare
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.load_weights import build_and_load
from segserve.models.importers.read_checkpoint import StateDict, read_checkpoint
from segserve.models.networks.unet import FeatureListUNet, MilesialUNet

# The first convolution of each variant.
MILESIAL_FIRST = "inc.double_conv.0.weight"
FEATURE_LIST_FIRST = "downs.0.conv.0.weight"
# The weights that tell the widths.
CONVOLUTION = re.compile(
    r"(inc\.double_conv\.[03]|down\d+\.maxpool_conv\.1\.double_conv\.3|outc\.conv|downs\.\d+\.conv\.0|final_conv)\.weight"
)


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and compare it with the network. Raises BadInput, BrokenModel."""
    if request.variant is not None:
        raise BadInput("U-Nets have no variants.", field="variant", remedy="Leave --variant out.")
    request.on_stage("reading the checkpoint")
    state = read_checkpoint(request.checkpoint)
    network, channels, classes, depth = build_unet(state)
    detected = {"multiple": 2**depth}
    manifest = build_semantic_manifest(request, "unet", channels=channels, classes=classes, detected=detected)
    export_and_compare(network, request.folder, manifest, request.on_stage)


def build_unet(state: StateDict) -> tuple[nn.Module, int, int, int]:
    """Return (network, channels of its input, classes, levels below the first). Raises BadInput."""
    flat = [
        key
        for key, value in state.items()
        if CONVOLUTION.fullmatch(key) and (value.ndim != 4 or not value.size)
    ]
    if flat:
        raise BadInput(
            f"This is not a checkpoint of a U-Net: {flat[0]} is {state[flat[0]].shape}.",
            field="checkpoint",
            remedy="Its convolutions are two-dimensional.",
        )
    if MILESIAL_FIRST in state and "outc.conv.weight" in state:
        return build_milesial_unet(state)
    if FEATURE_LIST_FIRST in state and "final_conv.weight" in state:
        return build_feature_list_unet(state)
    raise BadInput(
        "This is not a checkpoint of a U-Net as commonly written.",
        field="checkpoint",
        remedy=f"Expected {MILESIAL_FIRST!r} and 'outc.conv.weight' (inc, down1.., up1.., outc), or "
        f"{FEATURE_LIST_FIRST!r} and 'final_conv.weight' (downs, ups, bottleneck, final_conv). Export any other "
        "network to ONNX and import it as onnx.",
    )


def count_unet_levels(state: StateDict, pattern: str) -> int:
    """Return the number of different levels in the keys. pattern: its first group is the level."""
    return len({match[1] for key in state if (match := re.match(pattern, key))})


def build_milesial_unet(state: StateDict) -> tuple[nn.Module, int, int, int]:
    """Return the same as `build_unet`, for a `MilesialUNet`."""
    depth = count_unet_levels(state, r"down(\d+)\.maxpool_conv\.1\.double_conv\.3\.weight$")
    level_keys = [f"down{n}.maxpool_conv.1.double_conv.3.weight" for n in range(1, depth + 1)]
    if not depth or any(key not in state for key in level_keys):
        raise BadInput("This U-Net has no levels down1, down2, ...", field="checkpoint")
    widths = [state[key].shape[0] for key in ("inc.double_conv.3.weight", *level_keys) if key in state]
    channels, classes = state[MILESIAL_FIRST].shape[1], state["outc.conv.weight"].shape[0]
    network = build_and_load(
        lambda: MilesialUNet(
            channels,
            classes,
            widths,
            bilinear="up1.up.weight" not in state,
            bias="inc.double_conv.0.bias" in state,
        ),
        state,
        "U-Net (inc, down, up, outc)",
        ("inc.", "down", "up", "outc."),
    )
    return network, channels, classes, depth


def build_feature_list_unet(state: StateDict) -> tuple[nn.Module, int, int, int]:
    """Return the same as `build_unet`, for a `FeatureListUNet`."""
    depth = count_unet_levels(state, r"downs\.(\d+)\.conv\.0\.weight$")
    firsts = [f"downs.{n}.conv.0.weight" for n in range(depth)]
    if any(key not in state for key in firsts):
        raise BadInput("This U-Net's levels in 'downs' are not numbered in order.", field="checkpoint")
    features = [state[key].shape[0] for key in firsts]
    channels, classes = state[FEATURE_LIST_FIRST].shape[1], state["final_conv.weight"].shape[0]
    network = build_and_load(
        lambda: FeatureListUNet(channels, classes, features, bias="downs.0.conv.0.bias" in state),
        state,
        "U-Net (downs, ups, bottleneck, final_conv)",
        ("downs.", "ups.", "bottleneck.", "final_conv."),
    )
    return network, channels, classes, depth
