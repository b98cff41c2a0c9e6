"""`segserve evaluate volumes`: drawn cells followed through a volume, and a study continued where it was stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from segserve.commands.evaluate_volumes import create_objects, read_masks
from segserve.evaluate.volume_protocol import choose_settings
from tests import moving_cells
from tests.commands.run_command import run_segserve
from tests.serving import Server

VALUES, LABELS = moving_cells.draw_volume(depth=8, height=96, width=120, cells=(
    moving_cells.Cell(30, 30, 1.0, 0.5, 13, 0.2, 0, 7),
    moving_cells.Cell(85, 60, -1.0, 0.5, 17, -0.3, 2, 6),
))  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scans/ and labels/: one volume of two cells."""
    folder = tmp_path_factory.mktemp("study")
    for name, values in (("scans", VALUES.astype(np.int16)), ("labels", LABELS)):
        (folder / name).mkdir()
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.5, 0.5, 2.0))
        sitk.WriteImage(image, folder / name / "cells.nii.gz")
    return folder


def evaluate(study: Path, server: Server, *options: str | Path) -> dict[str, Any]:
    done = run_segserve(
        "evaluate", "volumes", study / "scans", study / "labels", "--results", study / "results",
        "--json", study / "s.json", "--page", study / "p.html", "--window", "0,255", "--server", server.url,
        "--direction", "both", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "HD95 mm" in done.stdout
    return dict(json.loads((study / "s.json").read_text()))


def count_jobs(server: Server) -> int:
    return len(server.client.get("/v1/jobs").json()["jobs"])


def test_objects_are_followed_and_a_study_goes_on_where_it_stopped(study: Path, server: Server) -> None:
    before = count_jobs(server)
    content = evaluate(study, server, "--slices", "largest", "--select", "best")
    assert [each["name"] for each in content["settings"]] == [
        "point-largest-both-best",
        "box-largest-both-best",
    ]
    box = content["settings"][1]
    assert content["distances_in"] == "mm"
    assert (box["objects"], box["slices"], box["lost"]) == (2, 13, 0)
    assert box["iou"] > 0.75
    assert box["hausdorff_95"] < min(5, box["hausdorff"])
    assert box["labels"].keys() == {"1", "2"}
    assert count_jobs(server) == before + 2

    again = evaluate(study, server, "--slices", "largest", "--select", "best")
    assert again == content
    assert count_jobs(server) == before + 2
    more = evaluate(study, server, "--slices", "largest", "--slices", "first", "--select", "best")
    assert len(more["settings"]) == 4
    assert count_jobs(server) == before + 4

    page = (study / "p.html").read_text()
    assert page.count("data:image/png;base64,") >= 13
    assert "lowest IoU first" in page
    assert "highest IoU first" in page


def test_other_labels_are_another_study(study: Path, server: Server) -> None:
    content = evaluate(
        study, server, "--label", "2", "--slices", "centre", "--prompt", "box", "--select", "first"
    )
    assert content["settings"][0]["labels"].keys() == {"2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--label", "9"], "has none of the labels"),
        (["--spacing", "1,2"], "not 3 numbers"),
        (["--param", "axis=1"], "not free"),
        (["--page", "nowhere/p.html"], "cannot be written"),
    ],
)
def test_mistakes_are_one_clear_line(study: Path, options: list[str], message: str) -> None:
    done = run_segserve(
        "evaluate", "volumes", study / "scans", study / "labels", "--results", study / "none", *options,
        "--data-dir", study / "data",
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (study / "none").exists()


def test_each_setting_prompts_its_slice() -> None:
    found = {}
    for setting in choose_settings():
        objects = create_objects(LABELS, [1, 2], setting, "0" * 64)
        assert [each["object_id"] for each in objects] == [1, 2]
        (prompt,) = objects[1]["prompts"]
        found[setting.slices] = prompt["frame"]
        if setting.prompt == "box":
            rows, columns = np.nonzero(LABELS[prompt["frame"]] == 2)
            assert prompt["box"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        else:
            ((x, y),) = prompt["points"]
            assert LABELS[prompt["frame"], int(y), int(x)] == 2
    assert found == {"first": 2, "centre": 4, "largest": 2}


def test_the_later_of_two_lines_of_a_slice_counts() -> None:
    def line(index: int, counts: str) -> str:
        item = {"object_id": 1, "mask": {"size": [2, 2], "counts": counts}}
        return json.dumps({"slice": index, "objects": [item]})

    lines = "\n".join([line(0, "a"), line(1, "b"), line(0, "c"), json.dumps({"slice": 2, "objects": []})])
    assert read_masks(lines.encode(), [1, 4]) == {1: {0: "c", 1: "b"}, 4: {}}
