"""Which tensors the models of each kind take and answer."""

from dataclasses import dataclass

from segserve.models.manifest import InstancesManifest, Manifest, SemanticManifest

# Each bundle has one version: a changed model has another name or another digest.
VERSION = "1"
ANY = -1  # length of a dimension


@dataclass(frozen=True)
class TensorSpec:
    """shape: ANY for a dimension of any length. All inputs may be left out but one of the three images."""

    name: str
    datatype: str
    shape: tuple[int, ...]


# One of the three.
IMAGE = TensorSpec("image", "UINT8", (ANY, ANY, 3))  # pixels, RGB
IMAGE_FILE = TensorSpec("image_file", "BYTES", (1,))  # PNG, JPEG, TIFF ...
IMAGE_ID = TensorSpec("image_id", "BYTES", (1,))  # of an image that was sent before; it is answered too
IMAGES = (IMAGE, IMAGE_FILE, IMAGE_ID)

# B objects with N points each, K masks for each object. H, W: of the image; h, w: of the low-res logits.
POINT_COORDS = TensorSpec("point_coords", "FP32", (ANY, ANY, 2))  # [B, N, 2], x and y in pixels of the image
POINT_LABELS = TensorSpec(
    "point_labels", "INT64", (ANY, ANY)
)  # [B, N]; 1: on the object, 0: not, -1: no point
BOXES = TensorSpec("boxes", "FP32", (ANY, 4))  # [B, 4], x0, y0, x1, y1
MASK_INPUT = TensorSpec("mask_input", "FP32", (ANY, ANY, ANY))  # [B, h, w], low-res logits to refine
MASKS = TensorSpec("masks", "BOOL", (ANY, ANY, ANY, ANY))  # [B, K, H, W]
IOU_PREDICTIONS = TensorSpec("iou_predictions", "FP32", (ANY, ANY))  # [B, K]
LOW_RES_MASKS = TensorSpec("low_res_masks", "FP32", (ANY, ANY, ANY, ANY))  # [B, K, h, w]
LABELS = TensorSpec("labels", "INT32", (ANY, ANY))  # [H, W]; without prompts: all objects, 0 is background

CLASSES = TensorSpec("classes", "UINT8", (ANY, ANY))  # [H, W]; 0 is background
PROBABILITIES = TensorSpec(
    "probabilities", "FP16", (ANY, ANY, ANY)
)  # [channels, H, W], where it is asked for

SCORES = TensorSpec("scores", "FP32", (ANY,))  # [N] objects
CLASS_IDS = TensorSpec("class_ids", "INT64", (ANY,))
CLASS_NAMES = TensorSpec("class_names", "BYTES", (ANY,))
INSTANCE_MASKS = TensorSpec("masks", "BOOL", (ANY, ANY, ANY))  # [N, H, W]

PROMPTS = (POINT_COORDS, POINT_LABELS, BOXES, MASK_INPUT)
PROMPT_OUTPUTS = (MASKS, IOU_PREDICTIONS, LOW_RES_MASKS, IMAGE_ID)
AUTOMATIC_OUTPUTS = (LABELS, IMAGE_ID)
SEMANTIC_OUTPUTS = (CLASSES, PROBABILITIES, IMAGE_ID)
INSTANCE_OUTPUTS = (BOXES, SCORES, CLASS_IDS, CLASS_NAMES, INSTANCE_MASKS, IMAGE_ID)


def list_inputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return the inputs of a model."""
    return IMAGES if isinstance(manifest, SemanticManifest | InstancesManifest) else (*IMAGES, *PROMPTS)


def list_outputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Return all outputs of a model; those of a promptable one depend on whether there are prompts."""
    match manifest:
        case SemanticManifest():
            return SEMANTIC_OUTPUTS
        case InstancesManifest():
            return INSTANCE_OUTPUTS
        case _:
            return (*PROMPT_OUTPUTS[:-1], *AUTOMATIC_OUTPUTS)
