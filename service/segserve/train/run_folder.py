"""The folder of a training run: its settings, its checkpoint to resume from, its scores and curves.

run.json        the settings; a run is resumed only with the same ones
checkpoint.pt   written completely or not at all
scores.jsonl    a line for each validation
curves.png      the same as a picture
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from segserve.errors import BadInput

SETTINGS_FILE = "run.json"
CHECKPOINT_FILE = "checkpoint.pt"
SCORES_FILE = "scores.jsonl"
CURVES_FILE = "curves.png"
PARTIAL_SUFFIX = ".partial"  # of a file that is not complete yet
PARTIAL_FILES = {
    str(Path(name).with_suffix(PARTIAL_SUFFIX)) for name in (SETTINGS_FILE, CHECKPOINT_FILE, SCORES_FILE)
}


class RunFolder:
    """`RunFolder` creates or resumes the folder of a run.

    settings: JSON values that identify the run.
    resume: continue the run that the folder holds.
    older_defaults: settings that an older version did not have, with the values that it worked by.
    Raises BadInput for a folder that holds other files, a run that was not to be resumed, another run than the one to
    resume, or none.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        *,
        resume: bool,
        older_defaults: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.folder, self.settings, self._older_defaults = folder, settings, older_defaults
        self._check(resume)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
        if not resume:
            (folder / SCORES_FILE).unlink(missing_ok=True)

    def _check(self, resume: bool) -> None:
        has_run = (self.folder / SETTINGS_FILE).is_file() and self.checkpoint.is_file()
        if self.folder.exists() and not (self.folder.is_dir() and (has_run or self._has_only_leftovers())):
            raise BadInput(
                f"{self.folder} is not a run's folder.", field="run", remedy="Give another folder with --run."
            )
        if has_run and not resume:
            raise BadInput(
                f"There is already a run in {self.folder}.",
                field="run",
                remedy="Continue it with --resume, give another --run, or delete the folder.",
            )
        if resume and not has_run:
            raise BadInput(
                f"There is no run to resume in {self.folder}.", field="run", remedy="Begin without --resume."
            )
        if resume:
            self._check_same_settings()

    def _check_same_settings(self) -> None:
        before = {**self._older_defaults, **json.loads((self.folder / SETTINGS_FILE).read_text())}
        keys = [k for k in {**before, **self.settings} if before.get(k) != self.settings.get(k)]
        if keys:
            changes = ", ".join(f"{k}: {before.get(k)} then, {self.settings.get(k)} now" for k in keys)
            raise BadInput(
                f"The run in {self.folder} has other settings ({changes}).",
                field=keys[0],
                remedy="Resume with the settings it began with, or give another --run.",
            )

    def _has_only_leftovers(self) -> bool:
        """Whether the folder is empty, or holds only files of a run that ended before its first checkpoint."""
        leftovers = {SETTINGS_FILE, SCORES_FILE, CURVES_FILE} | PARTIAL_FILES
        return {path.name for path in self.folder.iterdir()} <= leftovers

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT_FILE

    def read_scores(self) -> list[dict[str, float]]:
        """Return the lines of all validations so far."""
        path = self.folder / SCORES_FILE
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def append_scores(self, line: dict[str, float]) -> None:
        """Append a line of numbers by name, with "step" among them.

        It replaces lines of the same and later steps: a run that was interrupted after its last checkpoint has such.
        """
        lines = [each for each in self.read_scores() if each["step"] < line["step"]] + [line]
        write_atomically(self.folder / SCORES_FILE, "".join(json.dumps(each) + "\n" for each in lines))


def write_atomically(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    partial = path.with_suffix(PARTIAL_SUFFIX)
    partial.write_text(text)
    partial.replace(path)
