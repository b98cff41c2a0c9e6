"""Write the templates of `segserve.models.templates`: `make templates`.

Each network of a reference library is exported with random weights. An initialiser is recognised by its values, so it
does not matter what the exporter calls it. Two exports with different weights must give the same template: this shows
that nothing that depends on weights was stored as a constant.
"""

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import onnx
import torch
import typer
from onnx import ModelProto, helper, numpy_helper, shape_inference
from torch import nn
from torch.nn import functional as F

from segserve.models.bundle import file_sha256
from segserve.models.export.batch_norm import fold_batch_norms_when_run
from segserve.models.export.sam import write_sam_graphs
from segserve.models.export.semantic import FREE_AXES
from segserve.models.export.torch_to_onnx import export_onnx
from segserve.models.manifest import ModelKind
from segserve.models.templates.architectures import (
    ARCHITECTURES,
    TEMPLATE_ARCHITECTURES,
    VGG_UNET,
    SamArchitecture,
    SemanticArchitecture,
)
from segserve.models.templates.fold_constants import fold_constants
from segserve.models.templates.graph_template import (
    SUFFIX,
    TEMPLATES_FOLDER,
    as_template,
    compress_template,
    write_template,
)
from segserve.models.templates.published_embeddings import make_test_picture, record_published_embedding

# The parts of the library's network that the graphs hold.
PARTS_BY_GRAPH = {"encoder": ("image_encoder.",), "model": ("",)}
DECODER_PARTS = ("prompt_encoder.", "mask_decoder.", "sam_prompt_encoder.", "sam_mask_decoder.")


def build_network(architecture: str) -> Any:
    """Build the reference library's network of that architecture."""
    if architecture == VGG_UNET.name:
        from segserve.models.networks.vgg_unet import VggUNet

        return VggUNet()
    if is_sam2(architecture):
        from segserve.models.networks.sam2 import build_sam2_network

        return build_sam2_network(f"2.1_{architecture.removeprefix('hiera_')}")
    if architecture == "lite_medsam":
        from segserve.models.networks.lite_medsam import build_lite_medsam

        return build_lite_medsam()
    if architecture == "vit_t":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mobile_sam imports timm by names that timm deprecates
            from mobile_sam import sam_model_registry
    else:
        from segment_anything import sam_model_registry
    return sam_model_registry[architecture]()


def write_templates(
    architecture: SamArchitecture | SemanticArchitecture,
    folder: Path = TEMPLATES_FOLDER,
    build: Callable[[str], Any] = build_network,
    *,
    twice: bool = True,
) -> None:
    """Write the templates of an architecture into `folder`.

    twice: export with other weights too, and compare.

    Raises AssertionError where a graph would hold something of the weights.
    """
    for graph, template in make_templates(build(architecture.name), architecture.name, seed=0):
        write_template(template, folder / f"{architecture.templates[graph]}{SUFFIX}")
    if twice:
        for graph, other in make_templates(build(architecture.name), architecture.name, seed=1):
            template = (folder / f"{architecture.templates[graph]}{SUFFIX}").read_bytes()
            assert template == compress_template(other), f"{architecture.name}'s {graph} depends on weights"


def make_templates(network: Any, architecture: str, seed: int) -> Iterator[tuple[str, ModelProto]]:
    """Yield the name and the template of each graph. seed: of the random weights."""
    randomise(network, seed)
    state = network.state_dict()
    keys = {
        value_digest(tensor.numpy().tobytes()): key
        for key, tensor in state.items()
        if tensor.is_floating_point()
    }
    in_graph = fix_position_size(look_up_biases_when_run(fold_batch_norms_when_run(network)))
    torch.manual_seed(0)  # of the examples
    with tempfile.TemporaryDirectory() as folder:
        write_graphs(in_graph, Path(folder), architecture, unfolded=True)
        for path in sorted(Path(folder).glob("*.onnx")):
            model = onnx.load(str(path))
            names = name_by_values(model, keys)
            model = make_shapes_constant(model, frozenset(names))
            parts = PARTS_BY_GRAPH.get(path.stem, DECODER_PARTS)
            unread = {key for key in state if key.startswith(parts)} - set(names.values())
            yield path.stem, as_template(model, names, unread)


def write_graphs(network: Any, folder: Path, architecture: str, **how: bool) -> None:
    """Write all graphs of an architecture, or of a small network shaped like it. how: see `export_onnx`."""
    if architecture == VGG_UNET.name:
        image = {"image": torch.zeros(1, 1, 64, 96)}
        axes = {"image": FREE_AXES, "classes": FREE_AXES}
        export_onnx(network, folder / "model.onnx", image, ("classes",), axes, **how)
    elif is_sam2(architecture):
        from segserve.models.export.sam2 import write_sam2_graphs

        write_sam2_graphs(network, folder, **how)
    else:
        write_sam_graphs(network, folder, architecture, **how)


def is_sam2(architecture: str) -> bool:
    return architecture in ARCHITECTURES and ARCHITECTURES[architecture].kind is ModelKind.SAM2


def randomise(network: nn.Module, seed: int) -> None:
    """Fill parameters and statistics with values of which no two tensors have the same."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            is_variance = name.endswith("running_var")
            values = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(values + 0.5 if is_variance else 0.1 * (values - 0.5))
    network.eval()  # TinyViT looks up its attention biases here


def look_up_biases_when_run(network: nn.Module) -> nn.Module:
    """Let TinyViT look up its attention biases as it runs: eval() stores them as constants. In place."""

    def look_up(module: Any, inputs: Any) -> None:
        module.__dict__["ab"] = module.attention_biases[:, module.attention_bias_idxs]

    for module in network.modules():
        if hasattr(module, "attention_bias_idxs"):
            del module._buffers["ab"]
            module.register_forward_pre_hook(look_up)
    return network


def fix_position_size(network: nn.Module) -> nn.Module:
    """Let Hiera compute its position embedding for the one size that the graph takes, in place.

    It asks the image for its size, so the embedding would be computed anew for each image.
    """
    trunk: Any = getattr(getattr(network, "image_encoder", None), "trunk", None)
    if trunk is not None:
        edge = network.image_size // trunk.patch_embed.proj.stride[0]

        def position(size: Any) -> torch.Tensor:
            window = trunk.pos_embed_window
            whole = F.interpolate(trunk.pos_embed, size=(edge, edge), mode="bicubic")
            times = [edge // int(each) for each in window.shape[2:]]
            return (whole + window.repeat(1, 1, *times)).permute(0, 2, 3, 1)

        trunk._get_pos_embed = position
    return network


def value_digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def name_by_values(model: ModelProto, keys: Mapping[bytes, str]) -> dict[str, str]:
    """Return the checkpoint's name of each initialiser that is one of its tensors."""
    names = {}
    for tensor in model.graph.initializer:
        key = keys.get(value_digest(numpy_helper.to_array(tensor).tobytes()))
        if key is not None:
            names[tensor.name] = key
    return names


def make_shapes_constant(model: ModelProto, weights: frozenset[str]) -> ModelProto:
    """Fold each Shape of a tensor whose shape is known. What is folded makes more shapes known, so it is done again.

    weights: the names of the initialisers that come from a checkpoint.
    """
    while replace_known_shapes(model):
        model = fold_constants(model, {}, weights)
    return model


def replace_known_shapes(model: ModelProto) -> int:
    """Replace each Shape of a tensor whose shape is known by that shape, in place. Returns how many there were."""
    shapes: dict[str, list[int]] = {}
    inferred = shape_inference.infer_shapes(without_weights(model), data_prop=True).graph
    for value in (*inferred.value_info, *inferred.input):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = [dim.dim_value for dim in dims]
    known = [n for n in model.graph.node if n.op_type == "Shape" and n.input[0] in shapes and not n.attribute]
    for node in known:
        value = helper.make_tensor(
            node.output[0], onnx.TensorProto.INT64, [len(shapes[node.input[0]])], shapes[node.input[0]]
        )
        node.CopyFrom(helper.make_node("Constant", [], list(node.output), name=node.name, value=value))
    return len(known)


def without_weights(model: ModelProto) -> ModelProto:
    """Return a copy in which large initialisers are inputs: it stays under protobuf's limit."""
    small = ModelProto()
    graph = helper.make_graph(
        model.graph.node,
        "graph",
        [
            *model.graph.input,
            *(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer),
        ],
        model.graph.output,
    )
    small.CopyFrom(helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version))
    return small


def record_checkpoint(architecture: str, checkpoint: Path, published: Path) -> None:
    """Store what the library computes for a published checkpoint: an import of it is compared with that.

    checkpoint: a state dict. published: the file that holds the same tensors, as it is published.
    """
    network = build_network(architecture)
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    picture = make_test_picture(TEMPLATE_ARCHITECTURES[architecture].input_size)
    network.eval()
    with torch.no_grad():
        if architecture == VGG_UNET.name:
            embedding = network(torch.from_numpy(picture[:, :1])).numpy()
        else:
            embedding = network.image_encoder(torch.from_numpy(picture)).numpy()
    record_published_embedding(file_sha256(published), embedding)


def main(
    architectures: Annotated[list[str] | None, typer.Argument(help="Which ones [default: all].")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Instead: store the embedding of a published checkpoint.")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="The published file, where the checkpoint is its state dict alone.")
    ] = None,
) -> None:
    for name in architectures or TEMPLATE_ARCHITECTURES:
        if checkpoint is None:
            write_templates(TEMPLATE_ARCHITECTURES[name])
        else:
            record_checkpoint(name, checkpoint, published or checkpoint)


if __name__ == "__main__":
    typer.run(main)
