"""The data folder of one command: new, and deleted when the command ends. A picture that a command stores is the user's
already, and nothing else will ask for it."""

from collections.abc import Iterator
from contextlib import contextmanager

from segserve.app.storage import create_data_dir
from segserve.settings import Settings
from segserve.temporary_files import held_folder


@contextmanager
def use_scratch_data(settings: Settings) -> Iterator[Settings]:
    """Yield settings with a data folder of their own, inside the real one, for the time of the block.

    The models are those of the real one. Nothing is shared with a service on the same data folder: neither would know
    what the other one stores.

    Raises BadInput for a data folder that cannot be used.
    """
    create_data_dir(settings.data_dir)
    with held_folder(settings.data_dir / "tmp") as folder:
        yield settings.model_copy(
            update={
                "data_dir": folder,
                "models_dir": settings.models_folder,
                "object_store": None,
                "quota_mb": 0,
                "retention_days": 0,
            }
        )
