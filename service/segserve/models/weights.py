"""`weights.safetensors` of a bundle: the parameters of its torch networks, for training and for video.

Keys begin with the network's name: `bundle.PROMPTABLE_NETWORK` or `bundle.AUTOMATIC_NETWORK`. Needs torch.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from segserve.errors import BadInput
from segserve.models.bundle import WEIGHTS_FILE, Bundle


def write_weights(folder: Path, networks: Mapping[str, nn.Module], *, fp16_weights: bool = False) -> None:
    """Write the networks' parameters into `folder`.

    networks: by name. fp16_weights: store them as fp16, which rounds weights that were not rounded before.
    """
    tensors = {
        f"{name}.{key}": (value.half() if fp16_weights and value.is_floating_point() else value)
        .contiguous()
        .clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS_FILE)


def read_weights(
    bundle: Bundle, *, purpose: str = "to train on", field: str = "from"
) -> dict[str, dict[str, Tensor]]:
    """Return the tensors by network and by key, float32.

    purpose, field: for the error message. Raises BadInput for a bundle without weights, BrokenModel.
    """
    if not bundle.has(WEIGHTS_FILE):
        raise BadInput(
            f"Model {bundle.name!r} has no weights {purpose}, only ONNX graphs.",
            field=field,
            remedy="Import or pull it again with --keep-weights --replace.",
        )
    bundle.verify()
    networks: dict[str, dict[str, Tensor]] = {}
    for name_and_key, value in load_file(bundle.path(WEIGHTS_FILE)).items():
        name, _, key = name_and_key.partition(".")
        networks.setdefault(name, {})[key] = value.float() if value.is_floating_point() else value
    return networks
