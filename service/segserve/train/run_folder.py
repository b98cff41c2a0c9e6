"""A run's folder: what was asked for, the checkpoint to go on from, the scores so far and their picture.

run.json        the settings; a run is resumed only with the same ones
checkpoint.pt   written whole or not at all
scores.jsonl    a line for each time the networks were judged
curves.png      the same, to look at
"""

import json
from pathlib import Path
from typing import Any

from segserve.errors import BadInput

SETTINGS_FILE, CHECKPOINT_FILE, SCORES_FILE, CURVES_FILE = (
    "run.json",
    "checkpoint.pt",
    "scores.jsonl",
    "curves.png",
)
PARTIAL_SUFFIX = ".partial"  # the ending of what is not written to its end
PARTIAL_FILES = {
    str(Path(name).with_suffix(PARTIAL_SUFFIX)) for name in (SETTINGS_FILE, CHECKPOINT_FILE, SCORES_FILE)
}


class RunFolder:
    """settings: anything JSON. Raises BadInput for a folder that holds another run, or one that was not to be
    resumed, or none that could be."""

    def __init__(self, folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
        self.folder, self.settings = folder, settings
        self._check(resume)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / SETTINGS_FILE, json.dumps(settings, indent=2) + "\n")
        if not resume:
            (folder / SCORES_FILE).unlink(missing_ok=True)

    def _check(self, resume: bool) -> None:
        begun = (self.folder / SETTINGS_FILE).is_file() and self.checkpoint.is_file()
        if self.folder.exists() and not (self.folder.is_dir() and (begun or self._holds_nothing())):
            raise BadInput(
                f"{self.folder} is not a run's folder.", field="run", remedy="Give another folder with --run."
            )
        if begun and not resume:
            raise BadInput(
                f"There is already a run in {self.folder}.",
                field="run",
                remedy="Go on with it by --resume, give another --run, or delete the folder.",
            )
        if resume and not begun:
            raise BadInput(
                f"There is no run to resume in {self.folder}.", field="run", remedy="Begin without --resume."
            )
        if resume:
            before = json.loads((self.folder / SETTINGS_FILE).read_text())
            keys = [k for k in {**before, **self.settings} if before.get(k) != self.settings.get(k)]
            if keys:
                changed = ", ".join(f"{k}: {before.get(k)} then, {self.settings.get(k)} now" for k in keys)
                raise BadInput(
                    f"The run in {self.folder} is another one ({changed}).",
                    field=keys[0],
                    remedy="Resume with the settings it began with, or give another --run.",
                )

    def _holds_nothing(self) -> bool:
        """Or only what a run leaves that ended before its first checkpoint."""
        return {path.name for path in self.folder.iterdir()} <= {
            SETTINGS_FILE,
            SCORES_FILE,
            CURVES_FILE,
        } | PARTIAL_FILES

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT_FILE

    def scores(self) -> list[dict[str, float]]:
        path = self.folder / SCORES_FILE
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self, line: dict[str, float]) -> None:
        """line: numbers by name, "step" among them. Lines from that step on, of a run that was interrupted after
        its last checkpoint, are replaced."""
        lines = [each for each in self.scores() if each["step"] < line["step"]] + [line]
        write_atomically(self.folder / SCORES_FILE, "".join(json.dumps(each) + "\n" for each in lines))


def write_atomically(path: Path, text: str) -> None:
    """Or not at all."""
    unfinished = path.with_suffix(PARTIAL_SUFFIX)
    unfinished.write_text(text)
    unfinished.replace(path)
