"""`segserve evaluate compare`: semantic and promptable models side by side, with the starters and drawn images."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from segserve.errors import BadInput, ModelNotFound, SegserveError
from segserve.evaluate.cli import app
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.compare_models import find_boxes
from segserve.masks.label_map import encode_png
from segserve.models.bundle import Bundle
from segserve.models.parameter_count import count_parameters
from segserve.models.registry import BUILT_IN_MODELS
from segserve.types import Box
from tests.evaluate.drawn_labels import draw_disc, draw_image

BOTH = ("--model", "starter-unet", "--model", "starter")


def run_compare(*arguments: str | Path) -> None:
    app(["compare", *(str(each) for each in arguments)], standalone_mode=False)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of discs: small ones are class 1, large ones class 2."""
    folder = tmp_path_factory.mktemp("compared")
    for name in ("images", "truth"):
        (folder / name).mkdir()
    for index, name in enumerate(("one", "two")):
        truth = np.zeros((128, 160), np.uint16)
        for y, x, radius, value in ((30, 30, 12, 1), (30, 95, 18, 2), (90, 50, 18, 2), (95, 120, 12, 1)):
            draw_disc(truth, y, x + index, radius, value)
        Image.fromarray(draw_image(truth, index)).save(folder / "images" / f"{name}.png")
        (folder / "truth" / f"{name}.png").write_bytes(encode_png(truth))
    return folder


def test_models_are_compared_in_a_table(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output, table = tmp_path / "c.json", tmp_path / "c.csv"
    run_compare(drawn / "images", drawn / "truth", *BOTH, "--spacing", "0.5", "--json", output, "--csv", table,
        "--data-dir", tmp_path / "data")  # fmt: skip
    content: dict[str, Any] = json.loads(output.read_text())
    unet, starter = content["models"]
    assert (content["images"], unet["model"], starter["model"]) == (2, "starter-unet", "starter")
    assert (unet["given"], starter["given"]) == ("nothing", "boxes of the truth")
    for each in (unet, starter):
        assert [image["name"] for image in each["images"]] == ["one", "two"]
        assert each["mean"]["dice"] > 0.8
        assert each["ms_per_image"] > 0
        assert (each["kind"], each["distances_in"]) == ("binary", "mm")
    assert starter["mean"]["iou"] > 0.85
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["model"] for row in rows] == ["starter-unet", "starter"]
    assert float(rows[1]["dice"]) == pytest.approx(starter["mean"]["dice"], rel=1e-5)
    assert float(rows[0]["hausdorff_95_mm"]) == pytest.approx(
        unet["mean"]["hausdorff_boundaries_95"], rel=1e-5
    )
    printed = capsys.readouterr().out
    assert f"{starter['mean']['dice']:.3f}" in printed
    assert f"{starter['parameters'] / 1e6:.2f} M" in printed
    assert "Hausdorff 95% (mm)" in printed


def test_a_promptable_model_gets_the_classes_of_its_boxes(drawn: Path, tmp_path: Path) -> None:
    output = tmp_path / "c.json"
    run_compare(drawn / "images", drawn / "truth", "--model", "starter", "--kind", "classes", "--json", output,
        "--data-dir", tmp_path / "data")  # fmt: skip
    [starter] = json.loads(output.read_text())["models"]
    assert set(starter["class_iou"]) == {"0", "1", "2"}
    assert min(starter["class_iou"].values()) > 0.75


def test_every_connected_region_of_every_value_is_a_box() -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[2:5, 3:9], truth[10:12, 1:3], truth[5:8, 9:12] = 4, 4, 4  # the last touches the first by a corner
    truth[2:5, 9:11] = 7
    assert find_boxes(truth, MapKind.CLASSES) == (
        [4, 4, 7],
        [Box(3, 2, 12, 8), Box(1, 10, 3, 12), Box(9, 2, 11, 5)],
    )
    assert find_boxes(truth, MapKind.BINARY)[0] == [1, 1, 1]
    assert find_boxes(np.zeros((4, 4), np.uint8), MapKind.BINARY) == ([], [])


def test_parameters_are_the_numbers_in_encoder_and_decoder() -> None:
    bundle = Bundle(BUILT_IN_MODELS / "starter")
    counted = 0
    for name in ("encoder", "decoder"):
        for tensor in onnx.load(str(bundle.folder / f"{name}.onnx")).graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            counted += values.size if values.dtype.kind == "f" else 0
    assert count_parameters(bundle) == counted
    assert 1e6 < count_parameters(Bundle(BUILT_IN_MODELS / "starter-unet")) < 3e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "nobody"), "no model 'nobody'"),
        (("--model", "starter", "--kind", "labels"), "by regions, not by objects"),
        (("--model", "starter", "--csv", "nowhere/c.csv"), "cannot be written"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(
    drawn: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SegserveError, match=message) as caught:
        run_compare(drawn / "images", drawn / "truth", *arguments, "--data-dir", tmp_path / "data")
    assert isinstance(caught.value, BadInput | ModelNotFound)
