"""The interfaces of ONNX pairs: recognise one by names and shapes, and rewrite both graphs to the one that is run.

Projects export the same networks under many names. A bundle's graphs have one interface for each kind:

    encoder   one input, the prepared image [1, 3, S, S]; outputs: embedding, then SAM 2's features, the finest first
    decoder   `models.onnx_pair_model`

Known exports (first the encoder's image and features, then what the decoder reads and returns):

    segment-anything, micro-sam   x -> image_embeddings; image_embeddings, point_coords, point_labels, mask_input,
                                  has_mask_input, orig_im_size -> masks, iou_predictions, low_res_masks
    labelme, osam                 the same; some return one mask only
    samexporter, SAM 1            input_image [height, width, 3], values 0 to 255, normalised and padded in the graph
    rectlabel, osam, SAM 2        input -> image_embeddings, high_res_features1, high_res_features2; the same names and
                                  orig_im_size in the decoder
    samexporter, browsers, SAM 2  image -> high_res_feats_0, high_res_feats_1, image_embed; the same names in the
                                  decoder -> masks, iou_predictions
    EfficientSAM                  batched_images -> image_embeddings; batched_point_coords, batched_point_labels

SAM 2's decoders differ in one thing that no name tells: most add the padding point of a prompt without a box
themselves, and others read it. The graph tells: such a decoder joins its labels with a constant.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from segserve.errors import BadInput
from segserve.models.importers.import_request import OnnxPairKind
from segserve.models.manifest import PreprocessEntry

POINT_INPUTS = ("point_coords", "point_labels")
EFFICIENT_SAM_INPUTS = ("batched_point_coords", "batched_point_labels")
MASK_INPUT = "mask_input"
IMAGE_SIZE_INPUT = "orig_im_size"
OPTIONAL_INPUTS = (MASK_INPUT, "has_mask_input", IMAGE_SIZE_INPUT)
OUTPUTS = ("masks", "iou_predictions", "low_res_masks")
# The names of the decoder's features in the graphs that are run, in the order of the encoder's outputs.
FEATURE_INPUTS = ("image_embeddings", "high_res_feats_0", "high_res_feats_1")
CHANNELS = 3
# Edge of the input, where neither graph tells it: that of all published models of these kinds.
DEFAULT_INPUT_SIZE = 1024
MIN_INPUT_SIZE, MAX_INPUT_SIZE = 64, 4096
MIN_LOW = 16
PATCH = 16  # pixels of the input for one pixel of the embedding
# Operations that leave labels labels.
RESHAPING = {"Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape"}


@dataclass(frozen=True)
class PairInterface:
    """What a pair is. input_size: edge of the encoder's input, pixels. low: edge of the decoder's logits."""

    kind: OnnxPairKind
    input_size: int
    low: int


def recognise_pair(encoder: ModelProto, decoder: ModelProto, kind: OnnxPairKind | None) -> PairInterface:
    """Return what the pair is. kind: which it must be; None where the graphs tell it.

    Raises BadInput that lists what was found.
    """
    names = {value.name for value in graph_inputs(decoder)}
    if {"point_coords", "batched_point_coords"} & {value.name for value in graph_inputs(encoder)}:
        raise BadInput(
            "The first file is a decoder.",
            field="checkpoint",
            remedy="Give the encoder first: ENCODER --decoder DECODER.",
        )
    features, returned = find_features(decoder), len(decoder.graph.output)
    if set(EFFICIENT_SAM_INPUTS) <= names and len(features) == 1 and returned >= 2:
        found = OnnxPairKind.EFFICIENT_SAM
    elif set(POINT_INPUTS) <= names and len(features) == 1 and returned >= 3:
        found = OnnxPairKind.SAM
    elif set(POINT_INPUTS) <= names and len(features) == 3 and returned >= 2:
        found = OnnxPairKind.SAM2
    else:
        raise unknown_decoder(decoder)
    known = {*OPTIONAL_INPUTS, *POINT_INPUTS, *EFFICIENT_SAM_INPUTS, *(value.name for value in features)}
    if not names <= known:
        raise unknown_decoder(decoder)
    if kind is not None and kind is not found:
        raise BadInput(
            f"This is a pair of kind {found}, not {kind}.", field="variant", remedy="Leave --variant out."
        )
    refuse_other_types(decoder, "decoder")
    refuse_other_types(encoder, "checkpoint")
    if len(encoder.graph.output) < len(features):
        raise BadInput(
            f"The decoder reads {len(features)} features, and the encoder returns "
            f"{describe(encoder.graph.output)}.",
            field="checkpoint",
            remedy="Give the encoder that was exported with this decoder.",
        )
    size = find_input_size(encoder, features[0])
    prior = [shape[-1] for shape in map(shape_of, find_inputs(decoder, MASK_INPUT)) if shape]
    low = next(iter(prior), None) or size // 4
    if not MIN_INPUT_SIZE <= size <= MAX_INPUT_SIZE or not MIN_LOW <= low <= size:
        raise BadInput(
            f"The encoder reads images of {size} pixels, and the decoder masks of {low}.",
            field="checkpoint",
            remedy=f"Images have {MIN_INPUT_SIZE} to {MAX_INPUT_SIZE} pixels along an edge, masks at most as many.",
        )
    return PairInterface(found, size, low)


def unknown_decoder(decoder: ModelProto) -> BadInput:
    return BadInput(
        f"This decoder's interface is not known. It reads {describe(graph_inputs(decoder))} and returns "
        f"{describe(decoder.graph.output)}.",
        field="decoder",
        remedy=f"Expected an embedding and {', '.join((*POINT_INPUTS, *OPTIONAL_INPUTS))} (segment-anything's, "
        f"SAM 2's), or {', '.join(EFFICIENT_SAM_INPUTS)} (EfficientSAM's).",
    )


def refuse_other_types(model: ModelProto, field: str) -> None:
    """Raise BadInput for an input that is not float32; sizes may be whole numbers."""
    for value in graph_inputs(model):
        type = value.type.tensor_type.elem_type
        if type != TensorProto.FLOAT and value.name != IMAGE_SIZE_INPUT:
            raise BadInput(
                f"Its input {value.name} is {TensorProto.DataType.Name(type).lower()}.",
                field=field,
                remedy="Export it with inputs of float32.",
            )


def graph_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs; older exporters list the weights among them."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in stored]


def find_inputs(model: ModelProto, name: str) -> list[ValueInfoProto]:
    return [value for value in graph_inputs(model) if value.name == name]


def shape_of(value: ValueInfoProto) -> list[int | None]:
    """Return the shape, None for a size that the graph leaves free."""
    return [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]


def describe(values: Iterable[ValueInfoProto]) -> str:
    """Return names and shapes, for messages."""
    return ", ".join(
        f"{value.name[:40]} [{', '.join(str(size or '?') for size in shape_of(value))}]"
        for value in list(values)[:12]
    )


def find_features(decoder: ModelProto) -> list[ValueInfoProto]:
    """Return the decoder's inputs of the encoder's features: the embedding, then from the finest to the coarsest."""
    return order_features(
        [
            value
            for value in graph_inputs(decoder)
            if len(shape_of(value)) == 4
            and value.name != MASK_INPUT
            and value.name not in EFFICIENT_SAM_INPUTS
        ]
    )


def order_features(values: list[ValueInfoProto]) -> list[ValueInfoProto]:
    """Return the embedding, which has the fewest pixels, then the others from the finest to the coarsest.

    Where a graph leaves sizes free the names tell: all exports number the finer features from the finest.
    """
    edges = {value.name: shape_of(value)[-1] for value in values}
    if None in edges.values():
        return sorted(values, key=lambda value: (value.name.startswith("high_res"), value.name))
    by_edge = sorted(values, key=lambda value: edges[value.name] or 0)
    return [*by_edge[:1], *reversed(by_edge[1:])]


def match_outputs(encoder: ModelProto, features: list[ValueInfoProto]) -> list[ValueInfoProto]:
    """Return the encoder's output for each feature that the decoder reads: by name, else by shape, else by order."""
    outputs = list(encoder.graph.output)
    by_name = {value.name: value for value in outputs}
    if all(value.name in by_name for value in features):
        return [by_name[value.name] for value in features]
    shapes = [shape_of(value)[1:] for value in outputs]
    wanted = [shape_of(value)[1:] for value in features]
    if all(None not in shape and shapes.count(shape) == 1 for shape in wanted):
        return [outputs[shapes.index(shape)] for shape in wanted]
    planar = [value for value in outputs if len(shape_of(value)) == 4]
    return order_features(planar) if len(planar) == len(features) else outputs[: len(features)]


def find_input_size(encoder: ModelProto, embedding: ValueInfoProto) -> int:
    """Return the edge of the encoder's input, pixels. Raises BadInput where it is no square image."""
    inputs = graph_inputs(encoder)
    shape = shape_of(inputs[0]) if len(inputs) == 1 else []
    if is_planar(shape):
        height, width = shape[2:]
    elif is_interleaved(shape):
        height, width = shape[:2]
    else:
        raise BadInput(
            f"The encoder reads {describe(inputs)}.",
            field="checkpoint",
            remedy="Expected one image, [1, 3, S, S], or [height, width, 3] as samexporter writes it.",
        )
    if height != width:
        raise BadInput(
            f"The encoder reads images of {height} x {width}.",
            field="checkpoint",
            remedy="Only squares are served.",
        )
    if height is not None:
        return height
    grid = shape_of(embedding)[-1]
    return DEFAULT_INPUT_SIZE if grid is None else PATCH * grid


def is_planar(shape: list[int | None]) -> bool:
    return len(shape) == 4 and shape[1] in (CHANNELS, None)


def is_interleaved(shape: list[int | None]) -> bool:
    return len(shape) == CHANNELS and shape[2] == CHANNELS


def adapt_encoder(encoder: ModelProto, features: list[ValueInfoProto], preprocess: PreprocessEntry) -> bool:
    """Give an encoder the interface that is run, in place. Returns whether anything had to change.

    features: the decoder's inputs of the encoder's features, as `find_features` returns them.
    """
    [image] = graph_inputs(encoder)
    is_picture = is_interleaved(shape_of(image))
    if is_picture:
        read_prepared_images(encoder, image, preprocess)
    return replace_outputs(encoder, match_outputs(encoder, features)) or is_picture


def read_prepared_images(encoder: ModelProto, image: ValueInfoProto, preprocess: PreprocessEntry) -> None:
    """Let an encoder of pictures [height, width, 3] read [1, 3, S, S] as all others do, in place.

    It normalises values itself, so normalised values are turned back first.
    """
    size = preprocess.input_size
    add_constants(
        encoder,
        std=np.array(preprocess.std, np.float32),
        mean=np.array(preprocess.mean, np.float32),
        batch_axis=np.array([0], np.int64),
    )
    nodes = [
        helper.make_node("Squeeze", ["image", "segserve.batch_axis"], ["segserve.planes"]),
        helper.make_node("Transpose", ["segserve.planes"], ["segserve.pixels"], perm=[1, 2, 0]),
        helper.make_node("Mul", ["segserve.pixels", "segserve.std"], ["segserve.scaled"]),
        helper.make_node("Add", ["segserve.scaled", "segserve.mean"], [image.name]),
    ]
    shape = [1, CHANNELS, size, size]
    replace_input(encoder, image, helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))
    prepend(encoder, nodes)


def adapt_decoder(decoder: ModelProto, kind: OnnxPairKind) -> bool:
    """Give a decoder the interface that is run, in place. Returns whether anything had to change."""
    by_name = {value.name: value for value in decoder.graph.output}
    outputs = [by_name[name] for name in OUTPUTS if name in by_name]
    changed = len(outputs) == len(OUTPUTS[kind is OnnxPairKind.SAM2 :]) and replace_outputs(decoder, outputs)
    features = find_features(decoder)
    for value, name in zip(features, FEATURE_INPUTS, strict=False):
        if value.name != name:
            rename_input(decoder, value, name)
            changed = True
    for value in graph_inputs(decoder):
        if value.name == IMAGE_SIZE_INPUT and value.type.tensor_type.elem_type == TensorProto.INT32:
            widen_image_size(decoder, value)
            changed = True
    if kind is OnnxPairKind.SAM2 and not adds_padding_point(decoder):
        add_padding_point(decoder)
        changed = True
    return changed


def widen_image_size(decoder: ModelProto, value: ValueInfoProto) -> None:
    """Let a decoder that reads sizes of 32 bits read those of 64, in place."""
    inner = f"segserve.{value.name}"
    rename_uses(decoder.graph, value.name, inner)
    prepend(decoder, [helper.make_node("Cast", [value.name], [inner], to=TensorProto.INT32)])
    replace_input(decoder, value, helper.make_tensor_value_info(value.name, TensorProto.INT64, [2]))


def adds_padding_point(decoder: ModelProto) -> bool:
    """Whether a decoder joins the labels that it is given with others."""
    labels = {"point_labels"}
    for node in decoder.graph.node:
        if node.op_type == "Concat" and any(name in labels for name in node.input):
            return True
        if node.op_type in RESHAPING and node.input[0] in labels:
            labels.update(node.output)
    return False


def add_padding_point(decoder: ModelProto) -> None:
    """Let a decoder that reads the padding point be called without it, in place."""
    add_constants(decoder, origin=np.zeros((1, 1, 2), np.float32), padding=np.full((1, 1), -1, np.float32))
    nodes = []
    for name, constant, shape in (
        ("point_coords", "origin", [1, "points", 2]),
        ("point_labels", "padding", [1, "points"]),
    ):
        [value] = find_inputs(decoder, name)
        inner = f"segserve.{name}"
        rename_uses(decoder.graph, name, inner)
        nodes.append(helper.make_node("Concat", [name, f"segserve.{constant}"], [inner], axis=1))
        replace_input(decoder, value, helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    prepend(decoder, nodes)


def add_constants(model: ModelProto, **values: np.ndarray) -> None:
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"segserve.{name}"))


def prepend(model: ModelProto, nodes: list[NodeProto]) -> None:
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])


def replace_input(model: ModelProto, old: ValueInfoProto, new: ValueInfoProto) -> None:
    others = [value for value in model.graph.input if value.name != old.name]
    del model.graph.input[:]
    model.graph.input.extend([new, *others])


def replace_outputs(model: ModelProto, outputs: list[ValueInfoProto]) -> bool:
    """Return whether they had to change."""
    if [value.name for value in outputs] == [value.name for value in model.graph.output]:
        return False
    outputs = [ValueInfoProto.FromString(value.SerializeToString()) for value in outputs]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return True


def rename_input(model: ModelProto, value: ValueInfoProto, name: str) -> None:
    """Rename an input; the graph reads it under its old name from a node that passes it on."""
    renamed = ValueInfoProto.FromString(value.SerializeToString())
    renamed.name = name
    old = value.name
    replace_input(model, value, renamed)
    prepend(model, [helper.make_node("Identity", [name], [old])])


def rename_uses(graph: GraphProto, old: str, new: str) -> None:
    """Let the nodes read `new` in place of `old`, in subgraphs too."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename_uses(inner, old, new)
