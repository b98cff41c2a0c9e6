"""Published checkpoints to bundles: read, export, compare with the model's own library, put in place.

Only this file is free of torch; the modules beside it are imported when an import begins.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from segserve.errors import BadInput, MissingDependency
from segserve.models.bundle import Bundle
from segserve.models.install import new_bundle


class Importer(StrEnum):
    """What a checkpoint is, by whose library reads it."""

    SAM = "sam"  # segment-anything: vit_b, vit_l, vit_h, and fine-tunes of them such as micro-sam's
    MEDSAM = "medsam"  # the same network, with MedSAM's way of preparing images
    MOBILE_SAM = "mobile_sam"  # vit_t
    SAM2 = "sam2"  # 2.0 and 2.1: tiny, small, base_plus, large
    UNET = "unet"  # as commonly written: inc, down1.. or downs, ups
    SMP = "smp"  # segmentation-models-pytorch: unet:resnet34 and the like
    BIOIMAGEIO = "bioimageio"  # a package of the BioImage Model Zoo with ONNX weights
    ONNX = "onnx"  # any graph with [N, C, H, W] in and [N, K, H, W] out


SEMANTIC = (Importer.UNET, Importer.SMP, Importer.BIOIMAGEIO, Importer.ONNX)


# Importer -> the module to find, the package that brings it
LIBRARIES = {
    Importer.SAM: ("segment_anything", "segment-anything"),
    Importer.MEDSAM: ("segment_anything", "segment-anything"),
    Importer.MOBILE_SAM: ("mobile_sam", "mobilesam-mirror"),
    Importer.SAM2: ("sam2", "sam2"),
    Importer.UNET: ("torch", "PyTorch"),
    Importer.SMP: ("segmentation_models_pytorch", "segmentation-models-pytorch"),
    Importer.BIOIMAGEIO: ("bioimageio", "bioimageio.core"),
    Importer.ONNX: ("onnxruntime", "ONNX Runtime"),
}
WITHOUT_TORCH = (Importer.BIOIMAGEIO, Importer.ONNX)


@dataclass(frozen=True)
class About:
    """What a bundle's manifest says of its origin."""

    description: str = ""
    licence: str = ""
    source: str = ""


def require_libraries(kind: Importer) -> None:
    """Raises MissingDependency unless the model's own library can be imported, and what else the kind needs."""
    others = () if kind in WITHOUT_TORCH else (("torch", "PyTorch"), ("onnx", "onnx"))
    for found, name in (*others, LIBRARIES[kind]):
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
    replace: bool = False,
    about: About | None = None,
    given: Mapping[str, Any] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Turn a checkpoint into the bundle `models_dir/name`.

    variant: the architecture's size, for checkpoints whose shapes do not tell. given: fields of a semantic model's
    manifest that win over what the importer finds. on_stage: called with the name
    of each stage as it begins. Raises BadInput (not such a checkpoint, a name that is taken), BrokenModel (the
    export does not agree with the library), MissingDependency; after any error the folder is as it was.
    """
    importer = known_kind(kind)
    require_libraries(importer)
    if importer in SEMANTIC:
        from segserve.models.importers.semantic import Wanted

        module = importlib.import_module(f"{__name__}.{importer}")
        with new_bundle(models_dir, name, replace=replace) as folder:
            module.write(checkpoint, folder, Wanted(name, variant, about or About(), given or {}), on_stage)
        return Bundle(models_dir / name)
    if given:
        raise BadInput(
            f"A {importer} checkpoint tells all of this by itself.",
            field="manifest",
            remedy="Leave --classes and --manifest out.",
        )
    from segserve.models.importers.compare import compare
    from segserve.models.importers.state import read_checkpoint

    family = importlib.import_module(f"{__name__}.{importer}").FAMILY
    with new_bundle(models_dir, name, replace=replace) as folder:
        on_stage("reading the checkpoint")
        network, architecture = family.build(read_checkpoint(checkpoint), variant)
        on_stage("writing ONNX graphs")
        bundle = family.export(network, folder, name=name, architecture=architecture, about=about or About())
        on_stage("comparing with the library")
        compare(bundle, family, network)
        on_stage("putting it in place")
    return Bundle(models_dir / name)
