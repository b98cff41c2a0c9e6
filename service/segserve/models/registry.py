"""The registry of models: which bundles there are, and which of them are loaded.

Models are loaded lazily. When memory runs short, the least recently used one is evicted (LRU).
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from segserve.errors import BrokenModel, ModelNotFound, WrongModel
from segserve.models.agreement import may_take_bf16
from segserve.models.bundle import (
    FP16_ENCODER_FILE,
    MANIFEST_FILE,
    MODEL_NAME_PATTERN,
    WEIGHTS_FILE,
    Bundle,
)
from segserve.models.instances_model import InstancesModel
from segserve.models.manifest import InstancesManifest, SemanticManifest
from segserve.models.onnx_pair_model import open_promptable_model
from segserve.models.promptable_model import LoadedModel
from segserve.models.runtime.runtime_options import RuntimeOptions
from segserve.models.semantic_model import SemanticModel
from segserve.types import Precision

log = structlog.get_logger(__name__)

BUILT_IN_MODELS = Path(__file__).parent / "built_in"
# Files that loading a model leaves on disk: one of the two encoders, and the weights for training.
UNLOADED_FILES = (FP16_ENCODER_FILE, WEIGHTS_FILE)

L = TypeVar("L", bound=LoadedModel)


@dataclass(frozen=True)
class RuntimeOptionsByGraph:
    """How this process runs each sort of graph; None where it does not run it.

    encoder, decoder: the graphs of promptable models.
    whole_image: the graphs that segment a whole image without prompts.
    embedding_precision: of the embeddings that this process makes or takes from the cache; None is bf16 for models
        whose masks agree with fp32's.
    """

    encoder: RuntimeOptions | None = None
    decoder: RuntimeOptions | None = None
    whole_image: RuntimeOptions | None = None
    embedding_precision: Precision | None = Precision.FP32

    def choose_embedding_precision(self, bundle: Bundle) -> Precision:
        """Return the precision of this bundle's embeddings."""
        if self.embedding_precision is not None:
            return self.embedding_precision
        return Precision.BF16 if may_take_bf16(bundle) else Precision.FP32


def open_bundle(bundle: Bundle, runtimes: RuntimeOptionsByGraph) -> LoadedModel:
    """Open the bundle's graphs and return the model that runs them. Raises BrokenModel."""
    if isinstance(bundle.manifest, SemanticManifest):
        assert runtimes.whole_image is not None, "only processes that segment whole images load such a model"
        return SemanticModel(bundle, runtimes.whole_image)
    if isinstance(bundle.manifest, InstancesManifest):
        return InstancesModel(bundle, runtimes.whole_image)
    precision = runtimes.choose_embedding_precision(bundle)
    encoder = runtimes.encoder and replace(runtimes.encoder, precision=precision)
    return open_promptable_model(bundle, encoder, runtimes.decoder, runtimes.whole_image, precision)


class ModelRegistry:
    """`ModelRegistry` finds bundles by name and keeps loaded models in memory. It is safe to use from threads.

    folders: each holds bundles as sub-folders; the first folder that has a name wins.
    budget_bytes: limit on the files of all loaded bundles, which is what their weights take. At least one model
        always stays.
    on_loaded: called with the number of loaded models after each load.
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
        self._budget_bytes, self._on_loaded = budget_bytes, on_loaded
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def bundles(self) -> dict[str, Bundle]:
        """Return every readable bundle by name."""
        bundles: dict[str, Bundle] = {}
        for folder in self._folders:
            for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
                name = path.parent.name
                if MODEL_NAME_PATTERN.fullmatch(name) and name not in bundles:
                    try:
                        bundles[name] = Bundle(path.parent)
                    except BrokenModel as error:  # one broken bundle must not hide the others
                        log.warning("bundle skipped", name=name, reason=str(error))
        return bundles

    def bundle(self, name: str) -> Bundle:
        """Return the bundle of that name. Raises ModelNotFound, or BrokenModel where the manifest is unreadable."""
        if MODEL_NAME_PATTERN.fullmatch(name):
            for folder in self._folders:
                if (folder / name / MANIFEST_FILE).is_file():
                    return Bundle(folder / name)
        raise ModelNotFound(name, self.names())

    def names(self) -> list[str]:
        """Return the names of all bundles, unreadable ones too, in order."""
        return sorted({p.parent.name for folder in self._folders for p in folder.glob(f"*/{MANIFEST_FILE}")})

    def get_loaded(self, name: str, kind: type[L]) -> L | None:
        """Return the model if it is loaded. Never waits. Raises WrongModel."""
        model = self._loaded.get(name)
        if model is None:
            return None
        with suppress(KeyError):  # another thread may have evicted it; the model itself still works
            self._loaded.move_to_end(name)
        return expect_model_kind(model, kind)

    async def get_bundle(self, name: str) -> Bundle:
        """Return the bundle of a model of any kind: of a loaded one at once, else as `bundle` does, in a thread."""
        if (model := self._loaded.get(name)) is not None:
            return model.bundle
        return await asyncio.to_thread(self.bundle, name)

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    def load(self, name: str, kind: type[L]) -> L:
        """Return the model; verify and load it first if it is not loaded.

        Blocks: call it in a thread. Raises ModelNotFound, BrokenModel, WrongModel.
        """
        with self._lock:
            if (model := self.get_loaded(name, kind)) is not None:
                return model
            bundle = self.bundle(name)
            bundle.expect(kind.MANIFEST_TYPE)
            bundle.verify()
            self._evict_for(bundle)
            opened = expect_model_kind(open_bundle(bundle, self._runtimes), kind)
            self._loaded[name] = opened
            self._on_loaded(len(self._loaded))
            return opened

    async def get(self, name: str, kind: type[L]) -> L:
        """Return the model, as `load` does, from an event loop. A model that is not loaded is loaded in a thread."""
        if (loaded := self.get_loaded(name, kind)) is not None:
            return loaded
        return await asyncio.to_thread(self.load, name, kind)

    def _evict_for(self, bundle: Bundle) -> None:
        needed = weight_bytes(bundle)
        while (
            self._loaded
            and sum(weight_bytes(m.bundle) for m in self._loaded.values()) + needed > self._budget_bytes
        ):
            self._loaded.popitem(last=False)


def weight_bytes(bundle: Bundle) -> int:
    """Return the size of the files that loading the bundle reads, at most."""
    return sum(entry.bytes for file, entry in bundle.manifest.files.items() if file not in UNLOADED_FILES)


def expect_model_kind(model: LoadedModel, kind: type[L]) -> L:
    """Return the model as one of `kind`. Raises WrongModel."""
    if not isinstance(model, kind):
        raise WrongModel(model.bundle.name, kind.MANIFEST_TYPE.TASK, model.MANIFEST_TYPE.TASK)
    return model
