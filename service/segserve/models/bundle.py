"""A model bundle: a folder with `model.yaml` and the files it names.

    model.yaml          name, kind, what the kind needs to know, licence, source, a digest per file

Promptable (sam, sam2):
    encoder.onnx        image [1, 3, S, S] -> embedding (SAM 2: and two high-resolution features)
    encoder.fp16.onnx   the same computed in fp16, for GPUs; where that agrees
    prepare.onnx        embedding and prior mask -> prepared embedding, once per image
    fast_decoder.onnx   prompt and prepared embedding -> masks; few points
    fast_decoder_many.onnx                               the same for many points
    decoder.onnx        the stock interface, for browsers and other runtimes
    ais.onnx            embedding -> foreground, centre and boundary distances; where the model has such a decoder
    weights.safetensors where what needs torch can be done with the model: training it further, video

Semantic, instances:
    model.onnx          see `SemanticManifest`, `InstancesManifest`
    masks.onnx          instances alone: the masks of the boxes that were chosen

The digest of the manifest's bytes stands for the whole bundle: it covers every file's digest, and is part
of every cache key.
"""

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from segserve.errors import BadInput, BrokenModel, WrongModel
from segserve.models.manifest import AnyManifest, FileEntry, Manifest

MANIFEST_FILE = "model.yaml"
FP16_ENCODER_FILE = "encoder.fp16.onnx"
WEIGHTS_FILE = "weights.safetensors"
MODEL_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
READ_CHUNK_BYTES = 1 << 20

M = TypeVar("M", bound=Manifest)


def check_model_name(name: str) -> str:
    """A model's name is a folder's name: nothing that could leave the models' folder gets through."""
    if not MODEL_NAME_PATTERN.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot name a model.",
            field="name",
            remedy="Use up to 63 small letters, digits, dots, dashes and underscores.",
        )
    return name


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class Bundle:
    """A bundle on disk, its manifest read. `digest`: sha256 of the manifest's bytes, hexadecimal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            text = (folder / MANIFEST_FILE).read_bytes()
            self.manifest: Manifest = AnyManifest.validate_python(yaml.safe_load(text))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise BrokenModel(
                f"The manifest of bundle {folder.name!r} cannot be read: {error}.",
                remedy="Import or pull the model again.",
            ) from error
        self.digest = hashlib.sha256(text).hexdigest()

    @property
    def name(self) -> str:
        return self.manifest.name

    def expect(self, kind: type[M]) -> M:
        """The manifest as one of `kind`. Raises WrongModel."""
        if not isinstance(self.manifest, kind):
            raise WrongModel(self.name, kind.TASK, self.manifest.TASK)
        return self.manifest

    def has(self, file: str) -> bool:
        return file in self.manifest.files

    def path(self, file: str) -> Path:
        """Where a file of the manifest lies. Raises BrokenModel if the manifest does not name it."""
        if file not in self.manifest.files or Path(file).name != file:
            raise BrokenModel(f"Bundle {self.name!r} has no file {file!r}.", remedy="Import the model again.")
        return self.folder / file

    def verify(self) -> None:
        """Compare every file with its digest. Raises BrokenModel naming the first that differs."""
        for file, entry in self.manifest.files.items():
            path = self.path(file)
            if not path.is_file() or file_sha256(path) != entry.digest:
                raise BrokenModel(
                    f"File {file!r} of bundle {self.name!r} does not match its {entry.algorithm} digest.",
                    remedy="Import or pull the model again.",
                )


def write_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Write `model.yaml` for the files that lie in `folder`, digests computed here."""
    files = {
        path.name: FileEntry(digest=file_sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE and path.suffix in (".onnx", ".data", ".safetensors")
    }
    data = manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST_FILE).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return Bundle(folder)
