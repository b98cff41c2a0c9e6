"""Import a package of the BioImage Model Zoo (bioimage.io): a zip or a folder with rdf.yaml and ONNX weights.

Only ONNX weights are read, and no code of a package is ever run. pytorch_state_dict needs the package's own Python.
TorchScript is a program too: it has operators that read and write files (aten::from_file), and PyTorch's own advice is
not to load it from strangers. A user who trusts a package can convert it with `bioimageio add-weights`.

The package must hold every file that it names: nothing is downloaded.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bioimageio.core import Tensor
from bioimageio.core.digest_spec import create_sample_for_model
from bioimageio.core.proc_setup import setup_pre_and_postprocessing
from bioimageio.spec import ValidationContext, build_description
from bioimageio.spec.model import v0_5
from numpy.typing import NDArray

from segserve.errors import BadInput, BrokenModel
from segserve.models.bundle import file_sha256, write_manifest
from segserve.models.importers import onnx
from segserve.models.importers.bioimageio_steps import build_activation, build_input
from segserve.models.importers.import_request import ImportRequest, ModelCard
from segserve.models.importers.onnx_file import read_onnx_file, store_onnx_file
from segserve.models.importers.safe_unzip import resolve_inside, unpack_untrusted_zip
from segserve.models.manifest import SemanticManifest, Subject
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel

DESCRIPTION_FILES = ("rdf.yaml", "bioimageio.yaml")
AXES = ("batch", "channel", "space", "space")
# Largest error over the largest value, against bioimageio.core.
TOLERANCE = 1e-4
# The same against the package's test output, which another machine computed. It is the zoo's own default.
PACKAGE_TOLERANCE = 1e-3
# The share of pixels that may differ where the test output is binary: rounding flips pixels near the threshold.
MAX_WRONG_SHARE = 1e-3
MAX_DESCRIPTION_CHARACTERS = 300
DEFAULT_TILE_EDGE_PX = 512
MIN_OVERLAP = 0.25
MAX_OVERLAP = 0.75


def write_bundle(request: ImportRequest) -> None:
    """Write the bundle of a package, and reproduce the package's own test.

    Raises BadInput (no such package, or one that cannot be served), BrokenModel (its test is not reproduced).
    """
    if request.variant is not None:
        raise BadInput("A package has no variants.", field="variant", remedy="Leave --variant out.")
    with tempfile.TemporaryDirectory(dir=request.folder.parent) as unpacked:
        package = request.checkpoint
        if not request.checkpoint.is_dir():
            request.on_stage("unpacking the package")
            package = Path(unpacked)
            unpack_untrusted_zip(request.checkpoint, package)
        request.on_stage("reading the package")
        description = read_description(package)
        weights = find_onnx_weights(description, package)
        store_onnx_file(read_onnx_file(weights), weights, request.folder / onnx.GRAPH_FILE)
        completed = complete_card(description, request)
        detected = read_manifest_fields(description, package)
        manifest = onnx.inspect_graph(request.folder / onnx.GRAPH_FILE, completed, detected, "bioimageio")
        request.on_stage("reproducing its test")
        check_reproduction(request.folder, manifest, description, package)


def read_description(package: Path) -> v0_5.ModelDescr:
    """Read rdf.yaml. Raises BadInput."""
    path = next((package / name for name in DESCRIPTION_FILES if (package / name).is_file()), None)
    if path is None:
        raise BadInput(
            f"The package has no {DESCRIPTION_FILES[0]}.",
            field="checkpoint",
            remedy="Give a BioImage.IO package as its zip or unpacked.",
        )
    try:
        context = ValidationContext(root=package, file_name=path.name, perform_io_checks=False)
        content = yaml.safe_load(path.read_bytes())
        description = build_description(content, context=context, format_version="latest")
    except Exception as error:  # for broken YAML the library raises many types
        raise BadInput(f"{path.name} cannot be read: {str(error)[:200]}.", field="checkpoint") from error
    if not isinstance(description, v0_5.ModelDescr):
        summary = getattr(description, "validation_summary", None)
        reason = summary.format()[:300] if summary is not None else ""
        raise BadInput(
            f"{path.name} does not describe a model of BioImage.IO. {reason}",
            field="checkpoint",
            remedy="See bioimageio validate-format.",
        )
    return description


def read_test_tensor(package: Path, tensor: Any) -> NDArray[Any]:
    """Read the test array [N, C, H, W] of an input or output. Raises BadInput."""
    if tensor.test_tensor is None:
        raise BadInput("The package has no test tensors.", field="checkpoint", remedy="Add them to it.")
    path = resolve_inside(package, str(tensor.test_tensor.source))
    try:
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
        if loaded.ndim == len(AXES) and loaded.size:
            return loaded
    except Exception as error:  # for bytes that are no array numpy raises many types
        raise BadInput(f"{path.name} cannot be read as an array.", field="checkpoint") from error
    raise BadInput(f"{path.name} is not an image of {len(AXES)} axes.", field="checkpoint")


def find_onnx_weights(description: v0_5.ModelDescr, package: Path) -> Path:
    """Return the ONNX file. Raises BadInput."""
    entry = description.weights.onnx
    if entry is None or entry.external_data is not None:
        others = [name for name, weights in description.weights if weights is not None]
        raise BadInput(
            f"The package has no ONNX weights in one file, but {', '.join(others)}, which could run code of its own.",
            field="checkpoint",
            remedy="Where you trust it: bioimageio add-weights PACKAGE OUTPUT --target-format onnx.",
        )
    path = resolve_inside(package, str(entry.source))
    if entry.sha256 is not None and file_sha256(path) != str(entry.sha256):
        raise BadInput(
            f"{path.name} does not match its digest.",
            field="checkpoint",
            remedy="Download the package again.",
        )
    return path


def complete_card(description: v0_5.ModelDescr, request: ImportRequest) -> ImportRequest:
    """Return the request, the empty fields of its card filled from the package."""
    card = ModelCard(
        description=request.card.description or (description.description or "")[:MAX_DESCRIPTION_CHARACTERS],
        licence=request.card.licence or str(description.license or ""),
        source=request.card.source or str(description.id or description.name),
        suits=request.card.suits or tuple(each for each in Subject if each in description.tags),
    )
    return replace(request, card=card)


def read_manifest_fields(description: v0_5.ModelDescr, package: Path) -> dict[str, Any]:
    """Return the fields of the manifest that the package describes. Raises BadInput."""
    if len(description.inputs) != 1 or len(description.outputs) != 1:
        raise BadInput(
            f"The package has {len(description.inputs)} inputs and {len(description.outputs)} outputs.",
            field="checkpoint",
            remedy="Only models of one image and one map of classes are served.",
        )
    image, output = description.inputs[0], description.outputs[0]
    for tensor in (image, output):
        if tuple(axis.type for axis in tensor.axes) != AXES or [a.id for a in tensor.axes[2:]] != ["y", "x"]:
            raise BadInput(
                f"Its tensor {tensor.id} has axes {', '.join(str(axis.id) for axis in tensor.axes)}.",
                field="checkpoint",
                remedy="Only batch, channel, y, x is served: no volumes, no time.",
            )
    names = [str(name) for name in output.axes[1].channel_names]
    max_value = float(read_test_tensor(package, image).max())
    return {
        **read_sizes(image.axes[2:], output.axes[2:]),
        "input": build_input(image.preprocessing, len(image.axes[1].channel_names), max_value),
        "classes": names,
        **build_activation(output.postprocessing, len(names)),
    }


def read_sizes(inputs: Any, outputs: Any) -> dict[str, Any]:
    """Return `multiple`, `tile`, and the `overlap` that keeps the halo out; nothing where the size is fixed.

    inputs, outputs: the axes y and x.
    """
    steps = [axis.size.step for axis in inputs if isinstance(axis.size, v0_5.ParameterizedSize)]
    halo = max(getattr(axis, "halo", 0) for axis in outputs)
    multiple = int(np.lcm.reduce([step for step in steps if step] or [1]))
    if len(steps) < 2:  # a fixed size: the graph says it too
        return {}
    tile = -(-DEFAULT_TILE_EDGE_PX // multiple) * multiple
    overlap = min(MAX_OVERLAP, max(MIN_OVERLAP, 2 * halo / tile))
    return {"multiple": multiple, "tile": (tile, tile), "overlap": overlap}


def check_reproduction(
    folder: Path, manifest: SemanticManifest, description: v0_5.ModelDescr, package: Path
) -> None:
    """Check that the bundle reproduces the package's own test. Raises BrokenModel.

    bioimageio.core prepares the input. The output must be the package's test output. The manifest's activation and
    thresholds must do the same as bioimageio.core's steps after the network.
    """
    model = SemanticModel(write_manifest(folder, manifest), RuntimeOptions.for_trial())
    image, output = description.inputs[0], description.outputs[0]
    sample = create_sample_for_model(description, inputs={image.id: read_test_tensor(package, image)})
    before, after = setup_pre_and_postprocessing(description, dataset_for_initial_statistics=[sample])
    for step in before:
        step(sample)
    prepared = np.asarray(sample.members[image.id].data, np.float32)
    sample.members[output.id] = Tensor.from_numpy(model.run(prepared), dims=[axis.id for axis in output.axes])
    for step in after:
        step(sample)
    expected = np.asarray(sample.members[output.id].data)
    ours = model.predict_probabilities(prepared)
    if manifest.thresholds and any(step.id == "binarize" for step in output.postprocessing):
        ours = (ours >= np.array(manifest.thresholds, np.float32)[:, None, None]).astype(np.float32)
    check_reproduces("bioimageio.core's steps after the network", ours, expected, TOLERANCE)
    test_output = read_test_tensor(package, output)
    check_reproduces("the package's own test output", ours, test_output, PACKAGE_TOLERANCE)


def check_reproduces(what: str, ours: NDArray[Any], expected: NDArray[Any], tolerance: float) -> None:
    """Raise BrokenModel unless the arrays agree.

    tolerance: largest error over the largest value, or over 1 if that is larger.
    """
    expected = expected.astype(np.float32)
    if ours.shape == expected.shape:
        wrong = np.abs(ours - expected) > tolerance * max(1.0, float(np.abs(expected).max()))
        binary = set(np.unique(expected)) <= {0.0, 1.0}
        if not wrong.any() or (binary and wrong.mean() <= MAX_WRONG_SHARE):
            return
    raise BrokenModel(
        f"The imported model does not reproduce {what}.",
        remedy="Check --manifest; if there is none, please report the package.",
    )
