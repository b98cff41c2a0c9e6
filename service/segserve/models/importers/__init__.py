"""Published checkpoints to bundles: read, export, compare with the model's own library, put in place.

Only this file is free of torch; the modules beside it are imported when an import begins.
"""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from segserve.errors import BadInput, MissingDependency
from segserve.models.bundle import Bundle
from segserve.models.install import new_bundle


class Importer(StrEnum):
    """What a checkpoint is, by whose library reads it."""

    SAM = "sam"  # segment-anything: vit_b, vit_l, vit_h, and fine-tunes of them such as micro-sam's
    MEDSAM = "medsam"  # the same network, with MedSAM's way of preparing images
    MOBILE_SAM = "mobile_sam"  # vit_t
    SAM2 = "sam2"  # 2.0 and 2.1: tiny, small, base_plus, large
    MASK_RCNN = "mask_rcnn"  # torchvision: maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2


# Importer -> the module to find, the package that brings it
LIBRARIES = {
    Importer.SAM: ("segment_anything", "segment-anything"),
    Importer.MEDSAM: ("segment_anything", "segment-anything"),
    Importer.MOBILE_SAM: ("mobile_sam", "mobilesam-mirror"),
    Importer.SAM2: ("sam2", "sam2"),
    Importer.MASK_RCNN: ("torchvision", "torchvision"),
}
WITH_CLASSES = {Importer.MASK_RCNN}


@dataclass(frozen=True)
class About:
    """What a bundle's manifest says of its origin."""

    description: str = ""
    licence: str = ""
    source: str = ""


def require_libraries(kind: Importer) -> None:
    """Raises MissingDependency unless torch, onnx and the model's own library can be imported."""
    module, package = LIBRARIES[kind]
    for found, name in (("torch", "PyTorch"), ("onnx", "onnx"), (module, package)):
        if importlib.util.find_spec(found) is None:
            raise MissingDependency(name, "models", f"Importing a {kind} checkpoint")


def known_kind(kind: str) -> Importer:
    try:
        return Importer(kind)
    except ValueError:
        raise BadInput(
            f"There is no importer {kind!r}.", field="kind", remedy=f"Known: {', '.join(Importer)}."
        ) from None


def import_checkpoint(
    kind: str,
    checkpoint: Path,
    name: str,
    models_dir: Path,
    *,
    variant: str | None = None,
    classes: Sequence[str] = (),
    replace: bool = False,
    about: About | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Turn a checkpoint into the bundle `models_dir/name`.

    variant: the architecture's size, for checkpoints whose shapes do not tell. classes: their names, for models
    that have any. on_stage: called with the name of each stage as it begins. Raises BadInput (not such a
    checkpoint, a name that is taken), BrokenModel (the export does not agree with the library),
    MissingDependency; after any error the folder is as it was.
    """
    importer = known_kind(kind)
    require_libraries(importer)
    if classes and importer not in WITH_CLASSES:
        raise BadInput(f"Models of kind {kind!r} have no classes.", field="classes", remedy="Leave them out.")
    named = {"classes": classes} if classes else {}
    from segserve.models.importers.state import read_checkpoint

    family = importlib.import_module(f"{__name__}.{importer}").FAMILY
    with new_bundle(models_dir, name, replace=replace) as folder:
        on_stage("reading the checkpoint")
        network, architecture = family.build(read_checkpoint(checkpoint), variant)
        on_stage("writing ONNX graphs")
        bundle = family.export(
            network, folder, name=name, architecture=architecture, about=about or About(), **named
        )
        on_stage("comparing with the library")
        family.compare(bundle, network)
        on_stage("putting it in place")
    return Bundle(models_dir / name)
