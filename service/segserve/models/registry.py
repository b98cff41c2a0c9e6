"""Which models there are, and which of them are loaded."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import structlog

from segserve.errors import BrokenModel, ModelNotFound
from segserve.models.bundle import MANIFEST, NAME_PATTERN, Bundle
from segserve.models.model import Model
from segserve.models.runtime import RuntimeOptions
from segserve.models.stock import open_model

log = structlog.get_logger(__name__)

BUILT_IN = Path(__file__).parent / "built_in"


class Registry:
    """Bundles by name, loaded when first asked for; the least recently used goes when memory runs short.

    folders: searched in order; each holds bundles as sub-folders. budget_bytes: of the loaded bundles' files,
    which is what their weights take. At least one model always stays. encoder, decoder: as `Model` takes them.
    """

    def __init__(
        self,
        folders: list[Path],
        encoder: RuntimeOptions | None,
        decoder: RuntimeOptions | None,
        budget_bytes: int,
        on_loaded: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._folders = folders
        self._encoder, self._decoder = encoder, decoder
        self._budget, self._on_loaded = budget_bytes, on_loaded
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def bundles(self) -> dict[str, Bundle]:
        """Every readable bundle by name; the first folder that has a name wins."""
        found: dict[str, Bundle] = {}
        for folder in self._folders:
            for path in sorted(folder.glob(f"*/{MANIFEST}")):
                if NAME_PATTERN.fullmatch(path.parent.name) and path.parent.name not in found:
                    try:
                        found[path.parent.name] = Bundle(path.parent)
                    except BrokenModel as error:  # one broken bundle must not hide the others
                        log.warning("bundle skipped", name=path.parent.name, reason=str(error))
        return found

    def bundle(self, name: str) -> Bundle:
        """Raises ModelNotFound, or BrokenModel where the manifest cannot be read."""
        if NAME_PATTERN.fullmatch(name):
            for folder in self._folders:
                if (folder / name / MANIFEST).is_file():
                    return Bundle(folder / name)
        raise ModelNotFound(name, self.names())

    def names(self) -> list[str]:
        found = {p.parent.name for folder in self._folders for p in folder.glob(f"*/{MANIFEST}")}
        return sorted(found)

    def peek(self, name: str) -> Model | None:
        """The model if it is loaded; never waits."""
        model = self._loaded.get(name)
        if model is not None:
            try:
                self._loaded.move_to_end(name)
            except KeyError:  # evicted by another thread meanwhile; the model itself still works
                return model
        return model

    def load(self, name: str) -> Model:
        """The model, loaded and verified if it was not yet. Blocks: call it in a thread."""
        with self._lock:
            if (model := self.peek(name)) is not None:
                return model
            bundle = self.bundle(name)
            bundle.verify()
            self._make_room(bundle)
            model = open_model(bundle, self._encoder, self._decoder)
            self._loaded[name] = model
            self._on_loaded(len(self._loaded))
            return model

    def _make_room(self, bundle: Bundle) -> None:
        needed = weight_bytes(bundle)
        while (
            self._loaded
            and sum(weight_bytes(m.bundle) for m in self._loaded.values()) + needed > self._budget
        ):
            self._loaded.popitem(last=False)


def weight_bytes(bundle: Bundle) -> int:
    return sum(entry.bytes for entry in bundle.manifest.files.values())
