"""Results of `segserve evaluate volumes`, kept in a folder by volume and setting, so that a study can be continued.

FOLDER/VOLUME/SETTING.json    the scores of each label, its best and worst slices, and what they were made from
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from segserve.evaluate.volume_protocol import VolumeSetting
from segserve.evaluate.volume_scores import ObjectScores, object_from_json, object_to_json

# Part of what a result was made from: a result of another version is made again.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SliceCase:
    """One label on one slice, for the page. counts: the predicted mask as COCO run lengths, "" for none."""

    label: int
    slice: int
    iou: float
    counts: str


@dataclass(frozen=True)
class SettingResult:
    """What one setting made of one volume.

    scores: of each label. cases: the slices of the lowest and of the highest IoU.
    """

    volume: str
    setting: VolumeSetting
    scores: Sequence[ObjectScores]
    cases: Sequence[SliceCase]


class ResultFolder:
    """`ResultFolder` reads and writes results. Raises BadInput where the folder cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, volume: str, setting: VolumeSetting) -> Path:
        return self._folder / volume / f"{setting.name}.json"

    def load(self, volume: str, setting: VolumeSetting, inputs: Mapping[str, Any]) -> SettingResult | None:
        """Return a result that was made from the same `inputs`, None without one. A damaged file counts as none."""
        try:
            stored = orjson.loads(self._path(volume, setting).read_bytes())
            if stored["inputs"] != describe_inputs(inputs):
                return None
            scores = [object_from_json(each) for each in stored["objects"]]
            return SettingResult(volume, setting, scores, [SliceCase(**each) for each in stored["cases"]])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, result: SettingResult, inputs: Mapping[str, Any]) -> None:
        """Write a result, whole or not at all."""
        path = self._path(result.volume, result.setting)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "inputs": describe_inputs(inputs),
            "setting": asdict(result.setting),
            "objects": [object_to_json(each) for each in result.scores],
            "cases": [asdict(each) for each in result.cases],
        }
        part = path.with_suffix(".part")
        part.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        part.replace(path)


def describe_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a result was made from, as JSON has it."""
    described: dict[str, Any] = orjson.loads(orjson.dumps({**inputs, "version": FORMAT_VERSION}))
    return described
