"""Where a training run's files go, and its bundle."""

from dataclasses import dataclass
from pathlib import Path

from segserve.models.install import resolve_install_folder


@dataclass(frozen=True)
class OutputTarget:
    """run: the folder of checkpoints and scores. The bundle becomes `models_dir/name`."""

    models_dir: Path
    name: str
    run: Path
    replace: bool = False

    def check(self) -> None:
        """Raises BadInput now rather than after hours of training."""
        resolve_install_folder(self.models_dir, self.name, replace=self.replace)
