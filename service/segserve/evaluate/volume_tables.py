"""The tables of `segserve evaluate volumes`: the 24 settings, what each choice is worth, and the labels."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segserve.evaluate.report_tables import Rows, format_number
from segserve.evaluate.volume_protocol import VolumeSetting
from segserve.evaluate.volume_results import SettingResult
from segserve.evaluate.volume_scores import (
    MeanScores,
    ObjectScores,
    average_by_label,
    average_scores,
    means_to_json,
)

CHOICES = ("prompt", "slices", "direction", "select")
CHOICE_TITLES = {"prompt": "prompt", "slices": "slice", "direction": "direction", "select": "mask"}
MAX_LABELS_SHOWN = 30  # those of the lowest IoU; the JSON file has all


class SettingTable:
    """`SettingTable` averages the results of all volumes by setting.

    unit: of the distances.
    """

    def __init__(self, results: Sequence[SettingResult], unit: str) -> None:
        self._results, self._unit = results, unit
        self.settings = list(dict.fromkeys(each.setting for each in results))
        self._means = {setting: average_scores(self._scores(setting)) for setting in self.settings}

    def _scores(self, setting: VolumeSetting) -> list[ObjectScores]:
        return [scores for each in self._results if each.setting == setting for scores in each.scores]

    @property
    def best(self) -> VolumeSetting:
        """The setting of the highest IoU; the first one of equals."""
        return max(self.settings, key=lambda setting: self._means[setting].iou)

    def _heads(self) -> list[str]:
        return ["IoU", "3D Dice", f"HD {self._unit}", f"HD95 {self._unit}", "lost"]

    def setting_rows(self) -> Rows:
        """Return a row for each setting."""
        rows = [[*CHOICE_TITLES.values(), *self._heads()]]
        for setting in self.settings:
            choices = [str(getattr(setting, choice)) for choice in CHOICES]
            rows.append([*choices, *format_means(self._means[setting])])
        return rows

    def choice_rows(self) -> Rows:
        """Return a row for each value of each choice: the means over the settings that have it."""
        rows = [["mean of the settings with", "settings", *self._heads()[:-1]]]
        for choice in CHOICES:
            for value in dict.fromkeys(getattr(setting, choice) for setting in self.settings):
                means = [self._means[each] for each in self.settings if getattr(each, choice) == value]
                average = replace(
                    means[0],
                    iou=mean_finite(each.iou for each in means),
                    dice=mean_finite(each.dice for each in means),
                    hausdorff=mean_finite(each.hausdorff for each in means),
                    hausdorff_95=mean_finite(each.hausdorff_95 for each in means),
                )
                rows.append(
                    [f"{CHOICE_TITLES[choice]}: {value}", str(len(means)), *format_means(average)[:-1]]
                )
        return rows

    def label_rows(self) -> Rows:
        """Return rows of the best setting: all labels, then each label, the lowest IoU first."""
        scores = self._scores(self.best)
        lowest = sorted(average_by_label(scores).items(), key=lambda item: item[1].iou)[:MAX_LABELS_SHOWN]
        named = [(f"all, {self.best.name}", average_scores(scores))]
        named += [(f"label {label}", means) for label, means in lowest]
        rows = [["best setting", "slices", *self._heads()]]
        return rows + [[name, str(means.slices), *format_means(means)] for name, means in named]

    def to_json(self) -> dict[str, Any]:
        """Return all settings with all labels."""
        return {
            "distances_in": self._unit,
            "best": self.best.name,
            "settings": [
                {
                    "name": setting.name,
                    "choices": {CHOICE_TITLES[choice]: getattr(setting, choice) for choice in CHOICES},
                    **means_to_json(self._means[setting]),
                    "labels": {
                        str(label): means_to_json(means)
                        for label, means in average_by_label(self._scores(setting)).items()
                    },
                }
                for setting in self.settings
            ],
        }


def format_means(means: MeanScores) -> list[str]:
    """Return the cells of `SettingTable._heads`."""
    return [
        format_number("iou", means.iou),
        format_number("dice", means.dice),
        format_number("hausdorff_boundaries", means.hausdorff),
        format_number("hausdorff_boundaries_95", means.hausdorff_95),
        str(means.lost),
    ]


def mean_finite(values: Iterable[float]) -> float:
    """Return the mean of the finite values, infinity without one."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.inf
