"""`segserve evaluate`, in this process, with the starter and images that the test draws."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from segserve.errors import BadInput, ModelNotFound, SegserveError
from segserve.evaluate.cli import app
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.scores import score_image
from segserve.masks.label_map import encode_png
from segserve.models.registry import BUILT_IN_MODELS
from tests.evaluate.drawn_labels import draw_disc, draw_image, draw_scene


def run_evaluate(*arguments: str | Path) -> None:
    app([str(each) for each in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images/, truth/ and prediction/: two images of bright discs, and a poor prediction of each."""
    folder = tmp_path_factory.mktemp("drawn")
    for name in ("images", "truth", "prediction"):
        (folder / name).mkdir()
    for index, name in enumerate(("one", "two")):
        truth = np.zeros((128, 160), np.uint16)
        for number, (y, x) in enumerate([(30, 30), (30, 90), (90, 50), (95, 120)], start=1):
            draw_disc(truth, y, x, 12 + 2 * number + index, number)
        Image.fromarray(draw_image(truth, index)).save(folder / "images" / f"{name}.png")
        (folder / "truth" / f"{name}.png").write_bytes(encode_png(truth))
        prediction = np.roll(truth, 4 + 3 * index, axis=1)
        (folder / "prediction" / f"{name}.png").write_bytes(encode_png(prediction))
    return folder


def read_scores(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_two_folders_of_maps_are_compared(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = tmp_path / "s.json", tmp_path / "p.html"
    run_evaluate(
        "masks",
        drawn / "prediction",
        drawn / "truth",
        "--json",
        output,
        "--page",
        page,
        "--images",
        drawn / "images",
    )
    content = read_scores(output)
    assert [each["name"] for each in content["images"]] == ["one", "two"]
    assert content["mean"]["sa50"] == 1
    assert 0.3 < content["mean"]["msa"] < 1
    table = capsys.readouterr().out
    assert f"{content['mean']['msa']:.3f}" in table
    assert "Hausdorff 95%, boundaries (px)" in table
    html = page.read_text()
    assert html.index("<b>two</b>") < html.index("<b>one</b>")  # its objects moved farther
    assert html.count("data:image/png;base64,") == 2


@pytest.mark.parametrize("kind", MapKind)
def test_masks_of_one_region_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: MapKind
) -> None:
    for value, is_noticed in ((255, kind is not MapKind.BINARY), (2, False)):
        truth = np.zeros((2, 20, 30), np.uint8)
        truth[0, 4:9, 5:12] = value  # nothing is on the other one
        for name in ("prediction", "truth"):
            (tmp_path / name).mkdir(exist_ok=True)
            for number, labels in enumerate(truth):
                Image.fromarray(labels).save(tmp_path / name / f"{number}.png")
        run_evaluate("masks", tmp_path / "prediction", tmp_path / "truth", "--kind", kind)
        assert ("--kind binary" in capsys.readouterr().err) == is_noticed


@pytest.mark.parametrize("kind", MapKind)
def test_maps_of_every_kind_are_scored(drawn: Path, tmp_path: Path, kind: MapKind) -> None:
    output = tmp_path / "s.json"
    run_evaluate("masks", drawn / "prediction", drawn / "truth", "--kind", kind, "--ignore", "3",
        "--spacing", "0.5,0.25", "--json", output)  # fmt: skip
    content = read_scores(output)
    truth, prediction = (
        np.asarray(Image.open(drawn / name / "one.png")).astype(int) for name in ("truth", "prediction")
    )
    expected = score_image("one", kind, truth, prediction, ignore=3, spacing=(0.5, 0.25)).values
    finite = {name: value if np.isfinite(value) else None for name, value in expected.items()}
    assert {name: content["images"][0][name] for name in expected} == pytest.approx(finite)
    assert (content["kind"], content["distances_in"]) == (kind, "mm")


@pytest.mark.parametrize(
    ("method", "measure"),
    [
        (("ais",), "sa50"),
        (("amg", "--param", "pred_iou_thresh=0.6", "--param", "stability_score_thresh=0.7"), "recall50"),
        (("semantic", "--model", "starter-unet", "--kind", "binary"), "dice"),
    ],
)
def test_a_model_that_segments_all_objects(
    drawn: Path, tmp_path: Path, method: tuple[str, ...], measure: str
) -> None:
    output, page = tmp_path / "s.json", tmp_path / "p.html"
    run_evaluate("model", drawn / "images", drawn / "truth", "--method", *method, "--json", output, "--page", page,
        "--data-dir", tmp_path / "data")  # fmt: skip
    assert read_scores(output)["mean"][measure] > 0.7
    assert page.read_text().count("<figure>") == 2
    assert not list((tmp_path / "data" / "objects").glob("**/*"))  # the images are not kept


def test_parameters_reach_the_method(drawn: Path, tmp_path: Path) -> None:
    run_evaluate("model", drawn / "images", drawn / "truth", "--method", "ais", "--param", "min_size=100000",
        "--json", tmp_path / "s.json", "--data-dir", tmp_path / "data")  # fmt: skip
    content = read_scores(tmp_path / "s.json")
    assert content["mean"]["recall50"] == 0
    assert content["not_finite"]["hausdorff_regions"] == 2


def test_a_model_is_scored_by_prompts(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = tmp_path / "s.json", tmp_path / "p.html"
    run_evaluate("prompts", drawn / "images", drawn / "truth", "--steps", "3", "--json", output, "--page", page,
        "--data-dir", tmp_path / "data")  # fmt: skip
    courses = read_scores(output)["courses"]
    assert [(each["protocol"]["start"], each["protocol"]["with_mask"]) for each in courses] == [
        ("point", False), ("point", True), ("box", False), ("box", True),
    ]  # fmt: skip
    for each in courses:
        assert each["objects"] == 8
        assert len(each["iou"]) == len(each["msa"]) == len(each["sa50"]) == len(each["sa75"]) == 3
        assert each["iou"][0] > 0.7
    assert courses[0]["iou"][0] == courses[1]["iou"][0]  # the first step has no mask prompt
    assert courses[0]["iou"][1:] != courses[1]["iou"][1:]
    assert "point, without mask" in capsys.readouterr().out
    assert page.read_text().count("<figure>") == 2


def test_first_prompt_and_correction_can_be_chosen(drawn: Path, tmp_path: Path) -> None:
    run_evaluate("prompts", drawn / "images", drawn / "truth", "--start", "box", "--steps", "1",
        "--correction", "deepest", "--min-size", "900", "--json", tmp_path / "s.json",
        "--data-dir", tmp_path / "data")  # fmt: skip
    courses = read_scores(tmp_path / "s.json")["courses"]
    assert {each["protocol"]["start"] for each in courses} == {"box"}
    assert courses[0]["objects"] == 5  # radii of 17 and more


def test_the_best_thresholds_become_the_models_defaults(drawn: Path, tmp_path: Path) -> None:
    grid = ["--grid", "center_distance_threshold=0.1,0.5", "--grid", "boundary_distance_threshold=0.5",
            "--grid", "distance_smoothing=1,2", "--grid", "min_size=0,100000"]  # fmt: skip
    data = tmp_path / "data"
    run_evaluate("search", drawn / "images", drawn / "truth", "--method", "ais", *grid, "--write",
        "--json", tmp_path / "s.json", "--data-dir", data)  # fmt: skip
    trials = read_scores(tmp_path / "s.json")["trials"]
    assert len(trials) == 8
    assert [each["msa"] for each in trials] == sorted((each["msa"] for each in trials), reverse=True)
    assert trials[0]["params"]["min_size"] == 0
    assert trials[-1]["msa"] == 0
    written = yaml.safe_load((data / "models" / "starter" / "model.yaml").read_text())
    assert written["ais"].items() >= trials[0]["params"].items()
    run_evaluate("model", drawn / "images", drawn / "truth", "--method", "ais", "--json", tmp_path / "m.json",
        "--data-dir", data)  # fmt: skip
    assert read_scores(tmp_path / "m.json")["mean"]["msa"] == pytest.approx(trials[0]["msa"])


def test_a_search_without_write_changes_nothing(drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(BUILT_IN_MODELS / "starter", data / "models" / "starter")
    before = (data / "models" / "starter" / "model.yaml").read_bytes()
    names = ("center_distance_threshold", "boundary_distance_threshold", "distance_smoothing", "min_size")
    run_evaluate("search", drawn / "images", drawn / "truth", "--method", "ais",
        *(f"--grid={name}=1" for name in names), "--data-dir", data)  # fmt: skip
    assert (data / "models" / "starter" / "model.yaml").read_bytes() == before


MODEL = ("model", "images", "truth", "--method", "ais")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("masks", "none", "truth"), "none is not a folder"),
        (("masks", "prediction", "truth", "--spacing", "0,1"), "not a spacing"),
        (("masks", "prediction", "truth", "--spacing", "wide"), "not a spacing"),
        (("masks", "prediction", "truth", "--json", "nowhere/s.json"), "cannot be written"),
        (("masks", "prediction", "truth", "--page", "truth"), "cannot be written"),
        (("model", "images", "truth", "--method", "magic"), "There is no method 'magic'"),
        ((*MODEL, "--param", "min_size"), "has no value"),
        ((*MODEL, "--param", "min_size=-1"), "'min_size' of ais cannot be -1"),
        ((*MODEL, "--param", "center_distance_threshold=2"), "cannot be 2"),
        ((*MODEL, "--param", "speed=1"), "'speed' of ais"),
        ((*MODEL, "--model", "nobody"), "no model 'nobody'"),
        (("search", "images", "truth", "--method", "ais", "--grid", "min_size=1,x"), "cannot be 'x'"),
        (("search", "images", "truth", "--method", "magic"), "There is no method 'magic'"),
        (("prompts", "images", "truth", "--min-size", "100000"), "has an object of 100000 pixels"),
    ],
)
def test_mistakes_are_reported_with_their_cause(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(drawn)
    monkeypatch.setenv("SEGSERVE_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(SegserveError, match=message) as error:
        run_evaluate(*arguments)
    assert isinstance(error.value, BadInput | ModelNotFound)


@pytest.mark.parametrize("command", ["model", "prompts", "search"])
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("images/one.png", b"no picture", r"one\.png.*no image format"),
     ("truth/two.png", encode_png(draw_scene(0)[0]), r"two\.png is 160 x 128 pixels and .*truth/two\.png is 200 x 160"),
     ("truth/three.png", b"", r"three\.png have no partner")],
)  # fmt: skip
def test_files_that_do_not_fit_are_named(
    drawn: Path, tmp_path: Path, command: str, name: str, content: bytes, message: str
) -> None:
    shutil.copytree(drawn, tmp_path / "drawn")
    (tmp_path / "drawn" / name).write_bytes(content)
    how = [] if command == "prompts" else ["--method", "ais"]
    output = tmp_path / "s.json"
    with pytest.raises(BadInput, match=message):
        run_evaluate(command, tmp_path / "drawn" / "images", tmp_path / "drawn" / "truth", *how, "--json", output,
            "--data-dir", tmp_path / "data")  # fmt: skip
    assert not output.exists()
