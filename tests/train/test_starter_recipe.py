"""The starter's own recipe in training/: what it draws, shows and leaves aside."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
pytest.importorskip("albumentations")

from segserve.train.dataset_folder import LabelledImage
from segserve.train.random_window import cut_window
from segserve.train.scenes import Scene, build_scene
from tests.train.drawn_discs import draw_discs

TRAINING = Path(__file__).parents[2] / "training"
WINDOW = 128


@pytest.fixture(autouse=True)
def training_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TRAINING))


def recipe(name: str) -> Any:
    """A module of training/."""
    return importlib.import_module(name)


def discs(size: int = 96) -> Scene:
    return build_scene(draw_discs(0, size), recipe("nuclei").SCENE_PREPROCESS)


def same_colours(image: Any, labels: Any, rng: Any) -> Any:
    return image


def cut(scene: Scene, view: Any, rng: np.random.Generator, size: int = WINDOW) -> tuple[Any, Any, Any]:
    return cut_window(scene, size, recipe("nuclei").SCENE_PREPROCESS, same_colours, view, rng)


def test_drawn_scenes_are_the_same_for_the_same_seed_and_have_objects() -> None:
    draw_scene = recipe("scenes").draw_scene
    first, again = draw_scene(3, 128), draw_scene(3, 128)
    assert (first.image == again.image).all()
    assert (first.labels == again.labels).all()
    scenes = [draw_scene(seed, 128) for seed in range(12)]
    assert sum(bool(scene.labels.any()) for scene in scenes) > 9
    for scene in scenes:
        assert (scene.distances[scene.labels == 0] == 255).all()
        assert len(np.unique(scene.image)) > 10


def test_every_kind_of_shape_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, rng = recipe("scenes"), np.random.default_rng(0)
    holes = {}
    for kind in scenes.KINDS:
        monkeypatch.setattr(scenes, "KINDS", {kind: 1.0})
        mask = scenes.draw_shape(rng, 20)
        assert mask.any()
        contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        holes[kind] = int((hierarchy[0, :, 3] >= 0).sum()) if len(contours) else 0
    assert holes["ring"] == 1
    assert holes["ellipse"] == 0


@pytest.mark.parametrize("look", ["stain", "dim_some"])
def test_looks_show_the_objects_that_are_there(look: str) -> None:
    looks, scene, rng = recipe("looks"), discs(), np.random.default_rng(0)
    shown = getattr(looks, look)(scene.image.astype(np.float32), scene.labels, rng)
    assert shown.shape == scene.image.shape
    inside, outside = (shown[part].mean() for part in (scene.labels > 0, scene.labels == 0))
    assert abs(inside - outside) > 10


def test_stained_nuclei_are_blue_on_pink() -> None:
    looks, scene = recipe("looks"), discs()
    for seed in range(5):
        shown = looks.stain(scene.image.astype(np.float32), scene.labels, np.random.default_rng(seed))
        inside, outside = (np.median(shown[part], axis=0) for part in (scene.labels > 0, scene.labels == 0))
        assert inside[0] < outside[0], "haematoxylin takes red away"
        assert outside[1] < outside[0], "eosin takes green away"


@pytest.mark.parametrize("look", ["show_phase_contrast", "show_bright_field"])
def test_drawn_microscopes_show_outlines(look: str) -> None:
    looks, scene = recipe("looks"), discs()
    shown = getattr(looks, look)(scene.labels, np.random.default_rng(0))[..., 0]
    mask = (scene.labels > 0).astype(np.uint8)
    edge = cv2.dilate(mask, np.ones((3, 3), np.uint8)) != cv2.erode(mask, np.ones((3, 3), np.uint8))
    far = cv2.dilate(mask, np.ones((25, 25), np.uint8)) == 0
    assert abs(shown[edge].mean() - shown[far].mean()) > shown[far].std()


def test_every_look_stays_in_range_and_repeats() -> None:
    looks, scene = recipe("looks"), discs()
    image = scene.image.astype(np.float32)
    for seed in range(60):
        first, again = (looks.change_look(image, scene.labels, np.random.default_rng(seed)) for _ in range(2))
        assert np.isfinite(first).all()
        assert (first == again).all()
        assert first.min() >= 0
        assert first.max() <= 255


def test_views_show_objects_of_every_size() -> None:
    scene, rng, views = discs(), np.random.default_rng(0), recipe("views")
    areas = []
    for _ in range(40):
        _, labels, _ = cut(scene, views.object_view, rng)
        counts = np.bincount(labels.ravel())[1:]
        assert counts.any(), "the object that was chosen is in the window"
        areas.append(counts.max())
    diameters = np.sqrt(areas)
    assert diameters.min() < 14
    assert diameters.max() > 0.5 * WINDOW


def test_a_whole_view_begins_at_the_corner_and_is_padded() -> None:
    nuclei, views = recipe("nuclei"), recipe("views")
    flat = Scene(
        "flat",
        np.full((60, 100, 3), 200, np.uint8),
        np.ones((60, 100), np.int32),
        np.zeros((60, 100, 2), np.uint8),
    )
    size = nuclei.SCENE_PREPROCESS.input_size
    for seed in range(8):
        image, labels, _ = cut(flat, views.whole_view, np.random.default_rng(seed), size)
        shown = (image != 0).any(-1)
        rows, columns = shown.any(1).sum(), shown.any(0).sum()
        assert max(rows, columns) == pytest.approx(size, abs=8)
        assert min(rows, columns) == pytest.approx(0.6 * size, abs=8)
        assert shown[4:-4, 4:-4][: rows - 8, : columns - 8].all()
        assert labels[shown].mean() > 0.95


def test_crops_hold_an_object_and_have_all_its_contrast() -> None:
    views, scene, rng = recipe("views"), discs(), np.random.default_rng(0)
    sizes = set()
    for _ in range(30):
        crop = views.crop_scene(scene, rng)
        assert crop.labels.any()
        assert crop.image.shape[:2] == crop.labels.shape == crop.distances.shape[:2]
        assert crop.image.max() == 255
        sizes.add(crop.labels.shape)
    assert len(sizes) > 15


def test_images_for_tuning_and_judging_are_in_no_other_part(tmp_path: Path) -> None:
    nuclei = recipe("nuclei")
    (judged,) = nuclei.JUDGED_BY_ELSEWHERE
    names = [f"{number:012x}" for number in range(60)] + [judged]
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "labels" / f"{name}.png"), np.ones((8, 8), np.uint16))
    index = [{"id": name, "shape": [8, 8], "kind": "grey-dark"} for name in names]
    (tmp_path / "index.json").write_text(json.dumps(index))
    everything, validation = nuclei.read_nuclei(tmp_path)
    training, tuning = nuclei.split_tuning(everything)
    parts = [{each.name for each in part} for part in (training, tuning, validation)]
    assert all(isinstance(each, LabelledImage) for each in training)
    assert judged not in parts[0] | parts[1]
    assert sum(map(len, parts)) == len(set.union(*parts)) >= 60
    assert [len(part) for part in parts[1:]] == [3, 6]
