"""Install a bundle into the models' folder, complete and checked, or leave the folder as it was.

A bundle is written into a staging folder first; an atomic rename then moves it into place.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from segserve.errors import BadInput, ModelNotFound
from segserve.models.bundle import MANIFEST_FILE, Bundle, check_model_name

# Inside the models' folder, so that staging and target share a file system and a rename is enough.
STAGING_FOLDER = ".incoming"


@contextmanager
def new_bundle(models_dir: Path, name: str, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder to write a bundle into. It becomes `models_dir/name` when the block ends without error.

    replace: whether an existing model of that name may be replaced.

    Raises BadInput as `resolve_install_folder` does. If the block fails, or the check of the digests after it, the
    models' folder is left as it was.
    """
    target = resolve_install_folder(models_dir, name, replace=replace)
    incoming = models_dir / STAGING_FOLDER
    incoming.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=incoming))
    try:
        yield staging
        Bundle(staging).verify()
        staging.chmod(0o755)  # mkdtemp makes it readable for its owner alone
        move_into_place(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def resolve_install_folder(models_dir: Path, name: str, *, replace: bool) -> Path:
    """Return the folder that a bundle of that name goes to.

    Raises BadInput for a name that cannot name a model, or that is taken and may not be replaced.
    """
    target = models_dir / check_model_name(name)
    if target.exists() and not replace:
        raise BadInput(
            f"There is already a model {name!r}.",
            field="name",
            remedy="Take another --name, or give --replace.",
        )
    return target


def move_into_place(staging: Path, target: Path) -> None:
    """Rename `staging` to `target`. If that fails, the folder that was there before is put back."""
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
    """Delete a bundle. Raises ModelNotFound where the models' folder has no such bundle."""
    target = models_dir / check_model_name(name)
    if not (target / MANIFEST_FILE).is_file():
        raise ModelNotFound(name, sorted(p.parent.name for p in models_dir.glob(f"[!.]*/{MANIFEST_FILE}")))
    incoming = models_dir / STAGING_FOLDER
    incoming.mkdir(exist_ok=True)
    removed = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=incoming)) / name
    target.rename(removed)  # the model disappears at once for all readers, however long deleting takes
    shutil.rmtree(removed.parent, ignore_errors=True)
