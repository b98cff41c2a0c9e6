"""Pull a published model: download its files, check their digests, import them."""

from collections.abc import Callable
from pathlib import Path

from segserve.errors import BadInput
from segserve.models.bundle import Bundle
from segserve.models.download import Digest, OnBytes
from segserve.models.fetch_file import fetch_file
from segserve.models.importers.import_checkpoint import import_checkpoint, require_import_libraries
from segserve.models.importers.import_request import CheckpointKind, ModelCard, OnnxPairKind
from segserve.models.install import resolve_install_folder
from segserve.models.published_model import PublishedModel, RemoteFile

# Inside the models' folder.
DOWNLOADS_FOLDER = ".downloads"


def pull_model(
    model: PublishedModel,
    models_dir: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    accept_no_digest: bool = False,
    keep_weights: bool = False,
    on_file: Callable[[RemoteFile], OnBytes] = lambda file: lambda done, total: None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Download a published model's files, check them and turn them into the bundle `models_dir/name`.

    name: the bundle's name; None takes the published one.
    accept_no_digest: take files whose digest nobody publishes.
    keep_weights: see `import_checkpoint`.
    on_file: called as each download begins; returns the callback for its bytes.

    Downloaded files are kept until the import has succeeded. Raises as `download` and the importers do, and
    BadInput for weights of a model that is published as ONNX graphs.
    """
    name = name or model.name
    resolve_install_folder(models_dir, name, replace=replace)
    check_can_pull(model, accept_no_digest=accept_no_digest, keep_weights=keep_weights)
    files = [download_or_reuse(model, file, models_dir / DOWNLOADS_FOLDER, on_file) for file in model.files]
    card = ModelCard(model.description, model.licence, model.source, model.suits)
    is_pair = isinstance(model.kind, OnnxPairKind)
    bundle = import_checkpoint(
        CheckpointKind.ONNX_PAIR if is_pair else model.kind,
        files[0],
        name,
        models_dir,
        variant=model.kind if is_pair else None,
        decoder=files[1] if len(files) > 1 else None,
        replace=replace,
        card=card,
        keep_weights=keep_weights,
        fields=model.fields,
        on_stage=on_stage,
    )
    for path in files:
        path.unlink(missing_ok=True)
    return bundle


def check_can_pull(model: PublishedModel, *, accept_no_digest: bool, keep_weights: bool) -> None:
    """Check, before gigabytes are downloaded, that the import can succeed. Raises BadInput, MissingDependency."""
    if keep_weights and isinstance(model.kind, OnnxPairKind):
        raise BadInput(
            f"{model.name} is published as ONNX graphs, without weights.",
            field="keep_weights",
            remedy="Leave --keep-weights out, or pull a model that is published as a checkpoint.",
        )
    kind = model.kind if isinstance(model.kind, CheckpointKind) else CheckpointKind.ONNX_PAIR
    require_import_libraries(kind, keep_weights=keep_weights)
    for file in model.files:
        if file.digest is None and not accept_no_digest:
            raise BadInput(
                f"No digest is published for {file.name}, so nothing shows that what arrives is what was published.",
                field="name",
                remedy="Give --no-digest to take it all the same.",
            )


def download_or_reuse(
    model: PublishedModel, file: RemoteFile, folder: Path, on_file: Callable[[RemoteFile], OnBytes]
) -> Path:
    """Return the file in `folder`. Download it unless an earlier pull left it there complete."""
    target = folder / f"{model.name}-{model.files.index(file)}{Path(file.name).suffix or '.pt'}"
    digest = Digest.parse(file.digest) if file.digest else None
    if not (target.exists() and digest is not None and digest.matches(target)):
        fetch_file(file, target, digest, on_file(file))
    return target
