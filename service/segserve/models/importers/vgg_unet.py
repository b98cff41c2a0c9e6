"""Import a U-Net with VGG11's convolutions as encoder, such as the published one for lungs on chest X-rays. No torch.

Its weights are published as a whole pickled module. Only the tensors are read; the classes that such a file names are
known here, and none of them is imported or run.
"""

import onnx

from segserve.errors import BadInput
from segserve.models.bundle import file_sha256, write_manifest
from segserve.models.importers.build_semantic_manifest import build_semantic_manifest
from segserve.models.importers.check_tensors import check_tensors, to_float32
from segserve.models.importers.compare_arrays import check_error, error_over_max
from segserve.models.importers.import_request import ImportRequest
from segserve.models.importers.read_checkpoint import read_checkpoint
from segserve.models.runtime.onnx_graph import OnnxGraph
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.templates.graph_template import read_template
from segserve.models.templates.published_embeddings import (
    find_published_embedding,
    make_test_picture,
    sample_embedding,
)

TEMPLATE = "vgg_unet/model"
MODULES = frozenset(
    {
        ("lung_segmentation", "PretrainedUNet"),
        ("lung_segmentation", "Block"),
        ("torch.nn.modules.conv", "Conv2d"),
        ("torch.nn.modules.batchnorm", "BatchNorm2d"),
    }
)
PARTS = ("init_conv.", "conv", "center.", "dec", "out.")
MULTIPLE = 32
INPUT_EDGE = 512
TOLERANCE = 1e-3  # largest error over the largest value
# Its code takes x / 255 - 0.5 of the picture at 512 x 512, and softmax.
DETECTED = {
    "multiple": MULTIPLE,
    "tile": (INPUT_EDGE, INPUT_EDGE),
    "whole_image": True,
    "input": {"channels": 1, "normalise": {"method": "fixed", "mean": [0.5], "std": [1.0], "white": 1.0}},
}


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle and check it. Raises BadInput, BrokenModel."""
    if request.variant is not None:
        raise BadInput("This U-Net has no variants.", field="variant", remedy="Leave --variant out.")
    request.on_stage("reading the checkpoint")
    state = read_checkpoint(request.checkpoint, MODULES)
    template = read_template(TEMPLATE)
    shapes = {name: value.shape for name, value in state.items()}
    what = "a U-Net with VGG11's encoder"
    check_tensors(shapes, template.shapes, what, PARTS, template.unread)
    weights = to_float32(state, template.shapes, what)
    manifest = build_semantic_manifest(
        request, "vgg_unet", channels=1, classes=weights["out.weight"].shape[0], detected=DETECTED
    )
    request.on_stage("writing the ONNX graph")
    onnx.save(template.fill(weights), str(request.folder / "model.onnx"))
    request.on_stage("comparing with the library")
    graph = OnnxGraph(request.folder / "model.onnx", RuntimeOptions.for_trial())
    [logits] = graph.run({graph.inputs[0]: make_test_picture(INPUT_EDGE)[:, :1]}).values()
    sample = sample_embedding(logits)
    published = find_published_embedding(file_sha256(request.checkpoint))
    # Without a published answer this tells whether the weights are finite.
    check_error("network", error_over_max(sample, sample if published is None else published), TOLERANCE)
    write_manifest(request.folder, manifest)
