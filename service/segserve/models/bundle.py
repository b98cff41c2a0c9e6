"""A model bundle on disk: a folder with a manifest, `model.yaml`, and the files that it names.

    model.yaml          name, kind, parameters of the kind, licence, source, a digest per file

Promptable (sam, sam2):
    encoder.onnx        image [1, 3, S, S] -> embedding (some: and two high-resolution features)
    encoder.fp16.onnx   the same in fp16, for GPUs; only where fp16 agrees with float32
    prepare.onnx        embedding and prior mask -> prepared embedding, once per image and prior mask
    prepare_fine.onnx   high-resolution features -> the same, ready for the fast decoders, once per image
    fast_decoder.onnx   prompt and prepared embedding -> masks, for few points
    fast_decoder_many.onnx                               the same for many points
    decoder.onnx        the stock interface, for browsers and other runtimes
    ais.onnx            embedding -> foreground, centre and boundary distances; only for models with such a decoder
    weights.safetensors the torch weights, for training the model further and for video

Semantic, instances:
    model.onnx          see `SemanticManifest`, `InstancesManifest`
    masks.onnx          only for instances: the masks of the selected boxes

The digest of the manifest's bytes identifies the whole bundle, because the manifest holds the digest of every file.
It is part of every cache key.
"""

import hashlib
import re
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from segserve.errors import BadInput, BrokenModel, WrongModel, describe_invalid, quote
from segserve.models.manifest import MANIFEST_ADAPTER, FileEntry, Manifest

MANIFEST_FILE = "model.yaml"
FP16_ENCODER_FILE = "encoder.fp16.onnx"
WEIGHTS_FILE = "weights.safetensors"
# The networks in WEIGHTS_FILE; the names of their tensors begin so.
PROMPTABLE_NETWORK = "sam"  # under its library's own names
AUTOMATIC_NETWORK = "automatic"  # a `networks.starter.AutomaticDecoder`
# The suffixes of the files that the manifest lists.
LISTED_SUFFIXES = (".onnx", ".data", ".safetensors")
MODEL_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
READ_CHUNK_BYTES = 1 << 20

M = TypeVar("M", bound=Manifest)


def check_model_name(name: str) -> str:
    """Return `name` if it can name a model. Raises BadInput.

    A model's name is also a folder's name, so a name that could leave the models' folder is refused.
    """
    if not MODEL_NAME_PATTERN.fullmatch(name):
        raise BadInput(
            f"{quote(name)} cannot name a model.",
            field="name",
            remedy="Use up to 63 small letters, digits, dots, dashes and underscores.",
        )
    return name


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def describe_problem(error: Exception) -> str:
    """Return the first field of a manifest that is wrong, and why, as the end of a sentence; else nothing."""
    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False)[0]
    return f": {'.'.join(map(str, first['loc']))}: {describe_invalid(first)}"


class Bundle:
    """`Bundle` is a bundle on disk, its manifest read.

    digest: sha256 of the manifest's bytes, hexadecimal.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            text = (folder / MANIFEST_FILE).read_bytes()
            self.manifest: Manifest = MANIFEST_ADAPTER.validate_python(yaml.safe_load(text))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise BrokenModel(
                f"The manifest of bundle {folder.name!r} cannot be read{describe_problem(error)}.",
                remedy="Import or pull the model again.",
            ) from error
        self.digest = hashlib.sha256(text).hexdigest()

    @property
    def name(self) -> str:
        return self.manifest.name

    def expect(self, kind: type[M]) -> M:
        """Return the manifest as one of `kind`. Raises WrongModel."""
        if not isinstance(self.manifest, kind):
            raise WrongModel(self.name, kind.TASK, self.manifest.TASK)
        return self.manifest

    def has(self, file: str) -> bool:
        """Whether the manifest names the file."""
        return file in self.manifest.files

    def path(self, file: str) -> Path:
        """Return the path of a file. Raises BrokenModel if the manifest does not name it."""
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
    """Write `model.yaml` for the files in `folder`, with their digests."""
    files = {
        path.name: FileEntry(digest=file_sha256(path), bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE and path.suffix in LISTED_SUFFIXES
    }
    data = manifest.model_copy(update={"files": files}).model_dump(mode="json")
    (folder / MANIFEST_FILE).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return Bundle(folder)
