"""Which models there are, and which of them are loaded."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from segserve.errors import BrokenModel, ModelNotFound, WrongModel
from segserve.models.bundle import FP16_ENCODER_FILE, MANIFEST_FILE, MODEL_NAME_PATTERN, WEIGHTS_FILE, Bundle
from segserve.models.instances_model import InstancesModel
from segserve.models.manifest import InstancesManifest, SemanticManifest
from segserve.models.onnx_pair_model import open_promptable_model
from segserve.models.onnx_runtime import RuntimeOptions
from segserve.models.promptable_model import LoadedModel
from segserve.models.semantic_model import SemanticModel

log = structlog.get_logger(__name__)

BUILT_IN_MODELS = Path(__file__).parent / "built_in"

L = TypeVar("L", bound=LoadedModel)


@dataclass(frozen=True)
class RuntimeOptionsByGraph:
    """How this process runs each sort of graph; None where it does not run it.

    encoder, decoder: of promptable models. whole_image: what looks at a whole image without prompts.
    """

    encoder: RuntimeOptions | None = None
    decoder: RuntimeOptions | None = None
    whole_image: RuntimeOptions | None = None


def open_bundle(bundle: Bundle, runtimes: RuntimeOptionsByGraph) -> LoadedModel:
    """The model that can run this bundle, its graphs open. Raises BrokenModel."""
    if isinstance(bundle.manifest, SemanticManifest):
        assert runtimes.whole_image is not None, "only what segments whole images asks for such a model"
        return SemanticModel(bundle, runtimes.whole_image)
    if isinstance(bundle.manifest, InstancesManifest):
        return InstancesModel(bundle, runtimes.whole_image)
    return open_promptable_model(bundle, runtimes.encoder, runtimes.decoder, runtimes.whole_image)


class ModelRegistry:
    """Bundles by name, loaded when first asked for; the least recently used goes when memory runs short.

    folders: searched in order; each holds bundles as sub-folders. budget_bytes: of the loaded bundles' files,
    which is what their weights take. At least one model always stays.
    """

    def __init__(
        self,
        folders: list[Path],
        runtimes: RuntimeOptionsByGraph,
        budget_bytes: int,
        on_loaded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._folders = folders
        self._runtimes = runtimes
        self._budget, self._on_loaded = budget_bytes, on_loaded
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def bundles(self) -> dict[str, Bundle]:
        """Every readable bundle by name; the first folder that has a name wins."""
        found: dict[str, Bundle] = {}
        for folder in self._folders:
            for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
                if MODEL_NAME_PATTERN.fullmatch(path.parent.name) and path.parent.name not in found:
                    try:
                        found[path.parent.name] = Bundle(path.parent)
                    except BrokenModel as error:  # one broken bundle must not hide the others
                        log.warning("bundle skipped", name=path.parent.name, reason=str(error))
        return found

    def bundle(self, name: str) -> Bundle:
        """Raises ModelNotFound, or BrokenModel where the manifest cannot be read."""
        if MODEL_NAME_PATTERN.fullmatch(name):
            for folder in self._folders:
                if (folder / name / MANIFEST_FILE).is_file():
                    return Bundle(folder / name)
        raise ModelNotFound(name, self.names())

    def names(self) -> list[str]:
        found = {p.parent.name for folder in self._folders for p in folder.glob(f"*/{MANIFEST_FILE}")}
        return sorted(found)

    def get_loaded(self, name: str, kind: type[L]) -> L | None:
        """The model if it is loaded; never waits. Raises WrongModel."""
        model = self._loaded.get(name)
        if model is None:
            return None
        with suppress(KeyError):  # evicted by another thread meanwhile; the model itself still works
            self._loaded.move_to_end(name)
        return expect_model_kind(model, kind)

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    def load(self, name: str, kind: type[L]) -> L:
        """The model, loaded and verified if it was not yet. Blocks: call it in a thread. Raises ModelNotFound,
        BrokenModel, WrongModel."""
        with self._lock:
            if (model := self.get_loaded(name, kind)) is not None:
                return model
            bundle = self.bundle(name)
            bundle.expect(kind.MANIFEST_TYPE)
            bundle.verify()
            self._make_room(bundle)
            opened = expect_model_kind(open_bundle(bundle, self._runtimes), kind)
            self._loaded[name] = opened
            self._on_loaded(len(self._loaded))
            return opened

    async def get(self, name: str, kind: type[L]) -> L:
        """As `load`, from an event loop: at once where the model is loaded, in a thread where it is not."""
        if (loaded := self.get_loaded(name, kind)) is not None:
            return loaded
        return await asyncio.to_thread(self.load, name, kind)

    def _make_room(self, bundle: Bundle) -> None:
        needed = weight_bytes(bundle)
        while (
            self._loaded
            and sum(weight_bytes(m.bundle) for m in self._loaded.values()) + needed > self._budget
        ):
            self._loaded.popitem(last=False)


def weight_bytes(bundle: Bundle) -> int:
    """Of what is loaded at once, at most: of the two encoders it is one, and weights to train on are not loaded."""
    unloaded = (FP16_ENCODER_FILE, WEIGHTS_FILE)
    return sum(entry.bytes for file, entry in bundle.manifest.files.items() if file not in unloaded)


def expect_model_kind(model: LoadedModel, kind: type[L]) -> L:
    if not isinstance(model, kind):
        raise WrongModel(model.bundle.name, kind.MANIFEST_TYPE.TASK, model.MANIFEST_TYPE.TASK)
    return model
