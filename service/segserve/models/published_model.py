"""A published model: the files to download, and how they are imported."""

from dataclasses import dataclass

from segserve.models.importers.import_request import CheckpointKind
from segserve.models.importers.onnx_pair import OnnxPairKind


@dataclass(frozen=True)
class RemoteFile:
    """digest: "sha256:<hex>" or "xxh128:<hex>"; None where none is published. bytes: the size, if known."""

    url: str
    digest: str | None
    bytes: int | None = None


@dataclass(frozen=True)
class PublishedModel:
    """files: one checkpoint, with its automatic decoder where that is another file; or an encoder and a decoder."""

    name: str
    kind: CheckpointKind | OnnxPairKind
    files: tuple[RemoteFile, ...]
    description: str
    licence: str
    source: str

    @property
    def bytes(self) -> int | None:
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def needs_torch(self) -> bool:
        return isinstance(self.kind, CheckpointKind)
