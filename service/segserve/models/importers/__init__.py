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

    SAM = "sam"  # segment-anything: vit_b, vit_l, vit_h, and fine-tunes of them
    MEDSAM = "medsam"  # the same network, with MedSAM's way of preparing images
    MOBILE_SAM = "mobile_sam"  # vit_t
    MICRO_SAM = "micro_sam"  # either of them with micro-sam's decoder for automatic segmentation
    SAM2 = "sam2"  # 2.0 and 2.1: tiny, small, base_plus, large
    MASK_RCNN = "mask_rcnn"  # torchvision: maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2
    UNET = "unet"  # as commonly written: inc, down1.. or downs, ups
    SMP = "smp"  # segmentation-models-pytorch: unet:resnet34 and the like
    BIOIMAGEIO = "bioimageio"  # a package of the BioImage Model Zoo with ONNX weights
    ONNX = "onnx"  # any graph with [N, C, H, W] in and [N, K, H, W] out


# Importer -> the module to find, the package that brings it, the extra that brings that
LIBRARIES = {
    Importer.SAM: ("segment_anything", "segment-anything", "models"),
    Importer.MEDSAM: ("segment_anything", "segment-anything", "models"),
    Importer.MOBILE_SAM: ("mobile_sam", "mobilesam-mirror", "models"),
    Importer.MICRO_SAM: ("micro_sam", "micro-sam", "microsam"),
    Importer.SAM2: ("sam2", "sam2", "models"),
    Importer.MASK_RCNN: ("torchvision", "torchvision", "models"),
    Importer.UNET: ("torch", "PyTorch", "models"),
    Importer.SMP: ("segmentation_models_pytorch", "segmentation-models-pytorch", "models"),
    Importer.BIOIMAGEIO: ("bioimageio", "bioimageio.core", "models"),
    Importer.ONNX: ("onnxruntime", "ONNX Runtime", "cpu"),
}
WITHOUT_TORCH = {Importer.BIOIMAGEIO, Importer.ONNX}
PROMPTABLE = {Importer.SAM, Importer.MEDSAM, Importer.MOBILE_SAM, Importer.MICRO_SAM, Importer.SAM2}
SEMANTIC = {Importer.UNET, Importer.SMP, Importer.BIOIMAGEIO, Importer.ONNX}
# Options of `import_checkpoint` -> the importers that have a use for them
USED_BY = {
    "decoder": {Importer.MICRO_SAM},
    "keep_weights": PROMPTABLE,
    "classes": {Importer.MASK_RCNN, *SEMANTIC},
    "manifest": SEMANTIC,
}


@dataclass(frozen=True)
class About:
    """What a bundle's manifest says of its origin."""

    description: str = ""
    licence: str = ""
    source: str = ""


@dataclass(frozen=True)
class Job:
    """One import. folder: an empty one, to write the bundle into. The rest as `import_checkpoint` takes it."""

    checkpoint: Path
    folder: Path
    name: str
    about: About
    variant: str | None
    decoder: Path | None
    classes: Sequence[str]
    manifest: Path | None
    keep_weights: bool
    on_stage: Callable[[str], None]


def require_libraries(kind: Importer) -> None:
    """Raises MissingDependency unless the model's own library can be imported, and what else the kind needs."""
    torch = () if kind in WITHOUT_TORCH else (("torch", "PyTorch", "models"), ("onnx", "onnx", "models"))
    for module, package, extra in (*torch, LIBRARIES[kind]):
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, extra, f"Importing a {kind} checkpoint")


def known_kind(kind: str) -> Importer:
    try:
        return Importer(kind)
    except ValueError:
        raise BadInput(
            f"There is no importer {kind!r}.", field="kind", remedy=f"Known: {', '.join(Importer)}."
        ) from None


def refuse_unused(kind: Importer, **options: object) -> None:
    """Raises BadInput for an option that was given and means nothing to this importer."""
    for option, value in options.items():
        if value and kind not in USED_BY[option]:
            raise BadInput(
                f"Importing a {kind} checkpoint has no use for {option}.",
                field=option,
                remedy=f"It is for {', '.join(sorted(USED_BY[option]))}: leave it out.",
            )


def import_checkpoint(
    kind: str,
    checkpoint: Path,
    name: str,
    models_dir: Path,
    *,
    variant: str | None = None,
    decoder: Path | None = None,
    classes: Sequence[str] = (),
    replace: bool = False,
    about: About | None = None,
    manifest: Path | None = None,
    keep_weights: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Turn a checkpoint into the bundle `models_dir/name`.

    variant: the architecture's size, for checkpoints whose shapes do not tell. decoder: the file of a micro_sam
    checkpoint's automatic decoder, where it is not in the checkpoint itself. classes: their names, for models that
    have any. manifest: a YAML file of what a semantic checkpoint does not tell. keep_weights: of the promptable
    part, beside the graphs, to train it further. on_stage: called with the name of each stage as it begins. Raises
    BadInput (not such a checkpoint, a name that is taken), BrokenModel (the export does not agree with the
    library), MissingDependency; after any error the folder is as it was.
    """
    importer = known_kind(kind)
    refuse_unused(importer, decoder=decoder, classes=classes, manifest=manifest, keep_weights=keep_weights)
    require_libraries(importer)
    importing = importlib.import_module(f"{__name__}.{importer}")
    with new_bundle(models_dir, name, replace=replace) as folder:
        importing.write(
            Job(
                checkpoint,
                folder,
                name,
                about or About(),
                variant,
                decoder,
                classes,
                manifest,
                keep_weights,
                on_stage,
            )
        )
        on_stage("putting it in place")
    return Bundle(models_dir / name)
