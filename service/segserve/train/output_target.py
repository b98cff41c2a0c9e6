"""The folders that a training run writes to: its run folder, and the bundle."""

from dataclasses import dataclass
from pathlib import Path

from segserve.models.install import resolve_install_folder


@dataclass(frozen=True)
class OutputTarget:
    """The folders of a run. run: checkpoints and scores. The bundle becomes `models_dir/name`.

    replace: the bundle may replace one of the same name.
    """

    models_dir: Path
    name: str
    run: Path
    replace: bool = False

    def check(self) -> None:
        """Raise BadInput for a name that is taken or not allowed: before hours of training, not after them."""
        resolve_install_folder(self.models_dir, self.name, replace=self.replace)
