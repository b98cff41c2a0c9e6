"""Putting a bundle into the models' folder: whole and checked, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.errors import BadInput, ModelNotFound
from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name

STAGING_FOLDER = ".incoming"  # inside the models' folder, so that a rename moves a bundle into place


@contextmanager
def new_bundle(models_dir: Path, name: str, *, replace: bool) -> Iterator[Path]:
    """An empty folder to write a bundle into; it becomes `models_dir/name` when the block ends without error.

    Raises BadInput as `resolve_install_folder` does. Whatever fails inside the block, or in the check of the digests
    after it, leaves the models' folder as it was.
    """
    target = resolve_install_folder(models_dir, name, replace=replace)
    incoming = models_dir / STAGING_FOLDER
    incoming.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=incoming))
    try:
        yield staging
        Bundle(staging).verify()
        staging.chmod(0o755)  # mkdtemp keeps others out
        move_into_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def resolve_install_folder(models_dir: Path, name: str, *, replace: bool) -> Path:
    """Where a bundle of that name goes. Raises BadInput for a name that cannot be, or that is taken and not to be
    replaced."""
    target = models_dir / check_model_name(name)
    if target.exists() and not replace:
        raise BadInput(
            f"There is already a model {name!r}.",
            field="name",
            remedy="Take another --name, or give --replace.",
        )
    return target


def move_into_place(staging: Path, target: Path) -> None:
    """Rename, with what was there before put back if that fails."""
    if not target.exists():
        staging.rename(target)
        return
    old = staging.with_name(f"{staging.name}-old")
    target.rename(old)
    try:
        staging.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_bundle(models_dir: Path, name: str) -> None:
    """Raises ModelNotFound where the models' folder has no such bundle."""
    target = models_dir / check_model_name(name)
    if not (target / MANIFEST_FILE).is_file():
        raise ModelNotFound(name, sorted(p.parent.name for p in models_dir.glob(f"[!.]*/{MANIFEST_FILE}")))
    incoming = models_dir / STAGING_FOLDER
    incoming.mkdir(exist_ok=True)
    gone = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=incoming)) / name
    target.rename(gone)  # at once for everyone who looks, however long deleting takes
    shutil.rmtree(gone.parent, ignore_errors=True)
