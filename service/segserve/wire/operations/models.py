"""Models: found by name or by default, and described for clients."""

from pathlib import Path
from typing import Any

from segserve.app import Service
from segserve.errors import BadInput, ModelNotFound, NoAutomaticDecoder, NotFound, WrongModel, quote
from segserve.jobs.kinds.job_requests import EngineName
from segserve.models.bundle import WEIGHTS_FILE, Bundle
from segserve.models.manifest import (
    BundleRuntime,
    InstancesManifest,
    Manifest,
    ModelKind,
    PromptableManifest,
    SemanticManifest,
)
from segserve.models.promptable_model import (
    AIS_DECODER_FILE,
    FOLD_BELOW_TOKENS,
    MAX_OUTPUT_TOKENS,
    PromptableModel,
)
from segserve.semantic.class_map import list_foreground_classes


def describe_model(service: Service, bundle: Bundle) -> dict[str, Any]:
    """The JSON of `ModelOut`, which is the fields of gRPC's `Model` too."""
    manifest = bundle.manifest
    promptable = manifest if isinstance(manifest, PromptableManifest) else None
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "architecture": manifest.architecture,
        "input_size": promptable and promptable.preprocess.input_size,
        "low_res": promptable and promptable.dims.low,
        "automatic": list_automatic_methods(bundle),
        "prompts": list(promptable.prompts) if promptable else [],
        "engines": list_engines(bundle),
        "classes": list_classes(manifest),
        "suits": list(manifest.suits),
        "description": manifest.description,
        "licence": manifest.licence,
        "source": manifest.source,
        "digest": bundle.digest,
        "loaded": service.registry.is_loaded(manifest.name),
        "default": manifest.name == service.settings.default_model,
    }


def describe_decoder(bundle: Bundle) -> dict[str, Any]:
    """The JSON of `DecoderOut`. Raises WrongModel, and NotFound for a model without the graphs."""
    manifest = expect_fast_decoder(bundle)
    names = PromptableModel.list_decoder_graphs(manifest)
    graphs = [manifest.files[name] for name in names]
    return {
        "model": manifest.name,
        "digest": bundle.digest,
        "kind": manifest.kind,
        "input_size": manifest.preprocess.input_size,
        "resize": manifest.preprocess.resize,
        "low_res": manifest.dims.low,
        "masks": list(manifest.dims.masks),
        "mask_threshold": manifest.mask_threshold,
        "fold_below_points": FOLD_BELOW_TOKENS - MAX_OUTPUT_TOKENS,
        "graphs": [
            {"name": name, "bytes": entry.bytes, "sha256": entry.digest}
            for name, entry in zip(names, graphs, strict=True)
        ],
    }


def get_decoder_graph(bundle: Bundle, graph: str) -> tuple[Path, str]:
    """Return the path of a graph of the fast decoder, and its sha256. Raises WrongModel, NotFound."""
    manifest = expect_fast_decoder(bundle)
    names = PromptableModel.list_decoder_graphs(manifest)
    if graph not in names:
        raise NotFound(
            f"The decoder has no graph {quote(graph)}.",
            field="graph",
            remedy=f"Name one of: {', '.join(names)}.",
        )
    return bundle.path(graph), manifest.files[graph].digest


def expect_fast_decoder(bundle: Bundle) -> PromptableManifest:
    """Return the manifest of a model that has the graphs of the fast decoder. Raises WrongModel, NotFound."""
    manifest = bundle.expect(PromptableManifest)
    if manifest.runtime is not BundleRuntime.FAST:
        raise NotFound(
            f"Model {bundle.name!r} has no fast decoder.",
            field="model",
            remedy="Let the service decode: POST /v1/segment.",
        )
    return manifest


def list_automatic_methods(bundle: Bundle) -> list[str]:
    """The methods by which the model finds all objects of an image."""
    if not isinstance(bundle.manifest, PromptableManifest):
        return []
    return ["ais", "amg"] if bundle.has(AIS_DECODER_FILE) else ["amg"]


def list_engines(bundle: Bundle) -> list[EngineName]:
    """How the model can follow objects through videos and volumes, the best first."""
    manifest = bundle.manifest
    if not isinstance(manifest, PromptableManifest):
        return []
    has_memory = manifest.kind == ModelKind.SAM2 and bundle.has(WEIGHTS_FILE)
    return [EngineName.MEMORY, EngineName.PROJECTION] if has_memory else [EngineName.PROJECTION]


def list_classes(manifest: Manifest) -> list[str] | None:
    """The classes of a model without background; the n-th, from 1, has the value n in class maps. None: the model
    knows no classes."""
    match manifest:
        case SemanticManifest():
            return list(list_foreground_classes(manifest))
        case InstancesManifest():
            return list(manifest.classes[1:])
    return None


def find_promptable(service: Service, name: str | None) -> Bundle:
    """Find the promptable model of this name, or the default one. Blocks. Raises ModelNotFound, WrongModel."""
    name, bundles = name or service.settings.default_model, service.registry.bundles()
    if name not in bundles:
        raise ModelNotFound(name, sorted(bundles))
    if not isinstance(bundles[name].manifest, PromptableManifest):
        raise WrongModel(name, "prompts", bundles[name].manifest.kind)
    return bundles[name]


def find_own_method(service: Service, name: str | None) -> str:
    """Return how a model finds all objects where no method is named: ais where it has an automatic decoder, else amg.

    Blocks. Raises as `find_promptable` does.
    """
    return list_automatic_methods(find_promptable(service, name))[0]


def default_instances_model(service: Service) -> str:
    """The name of the default model. Blocks. Raises BadInput where it is not of kind instances."""
    name, bundles = service.settings.default_model, service.registry.bundles()
    usable = [b.name for b in bundles.values() if isinstance(b.manifest, InstancesManifest)]
    if name in usable:
        return name
    raise BadInput(
        f"No model is named, and the service's default, {name!r}, finds no objects of known classes.",
        field="model",
        remedy=f"Name one of: {', '.join(usable)}."
        if usable
        else "There is none here yet: segserve models pull mask-rcnn-resnet50-fpn",
    )


def find_ais_model(service: Service, name: str | None) -> Bundle:
    """As `find_promptable`. Raises NoAutomaticDecoder where the model cannot do `ais`."""
    bundle = find_promptable(service, name)
    if not bundle.has(AIS_DECODER_FILE):
        raise NoAutomaticDecoder(bundle.name)
    return bundle
