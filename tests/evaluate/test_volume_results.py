"""Results are kept by volume and setting, and found again only for the same inputs."""

from pathlib import Path

from segserve.evaluate.volume_protocol import choose_settings
from segserve.evaluate.volume_results import ResultFolder, SettingResult, SliceCase
from segserve.evaluate.volume_scores import ObjectScores
from segserve.evaluate.volume_tables import SettingTable

SETTINGS = choose_settings()
SCORES = ObjectScores(3, {4: 0.5, 5: 1.0}, 0.8, 2.5, float("inf"))
INPUTS = {"scan": "a", "window": (1.0, 2.0), "label": ()}


def result(iou: float, setting: int = 0, volume: str = "brain") -> SettingResult:
    scores = ObjectScores(3, {0: iou}, iou, 10 * (1 - iou), 5 * (1 - iou))
    return SettingResult(volume, SETTINGS[setting], [scores], [])


def test_a_result_is_found_again(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    made = SettingResult("brain", SETTINGS[3], [SCORES], [SliceCase(3, 4, 0.5, "abc")])
    folder.save(made, INPUTS)
    assert folder.load("brain", SETTINGS[3], INPUTS) == made
    assert [path.name for path in tmp_path.rglob("*.*")] == [f"{SETTINGS[3].name}.json"]


def test_a_result_of_other_inputs_or_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    folder = ResultFolder(tmp_path)
    folder.save(SettingResult("brain", SETTINGS[3], [SCORES], []), INPUTS)
    assert folder.load("brain", SETTINGS[3], {**INPUTS, "scan": "b"}) is None
    assert folder.load("brain", SETTINGS[4], INPUTS) is None
    assert folder.load("heart", SETTINGS[3], INPUTS) is None
    path = tmp_path / "brain" / f"{SETTINGS[3].name}.json"
    path.write_text(path.read_text()[:40])
    assert folder.load("brain", SETTINGS[3], INPUTS) is None


def test_the_table_has_a_row_for_each_setting_and_for_each_choice() -> None:
    table = SettingTable([result(at / 30, at) for at in range(24)], "mm")
    rows = table.setting_rows()
    assert len(rows) == 25
    assert rows[0][:4] == ["prompt", "slice", "direction", "mask"]
    assert table.best == SETTINGS[23]
    choices = {row[0]: row for row in table.choice_rows()[1:]}
    assert choices["mask: first"][1] == choices["prompt: box"][1] == "12"
    assert choices["slice: centre"][1] == "8"
    assert float(choices["prompt: box"][2]) > float(choices["prompt: point"][2])
    labels = table.label_rows()
    assert [row[0] for row in labels[1:]] == [f"all, {SETTINGS[23].name}", "label 3"]
    assert "HD mm" in labels[0]


def test_volumes_are_averaged() -> None:
    table = SettingTable([result(0.2), result(0.6, volume="heart")], "mm")
    assert table.setting_rows()[1][4:] == ["0.400", "0.400", "6.0", "3.0", "0"]
    setting = table.to_json()["settings"][0]
    assert setting["labels"]["3"]["objects"] == 2
    assert setting["slices"] == 2
    assert setting["choices"] == {
        "prompt": "point",
        "slice": "first",
        "direction": "forward",
        "mask": "first",
    }
