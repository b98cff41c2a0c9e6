"""Several annotators' masks become one truth: SimpleITK's STAPLE is the published one, in both folders that use it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("SimpleITK")

from segserve.errors import BadInput
from segserve.evaluate.annotators import merge_classes, merge_masks
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import pair_files, read_truth
from segserve.train.dataset_folder import read_folders
from tests.evaluate.drawn_labels import draw_disc

SIZE = (60, 80)


def draw_truth(value: int = 1) -> Any:
    truth = np.zeros(SIZE, np.uint16)
    draw_disc(truth, 30, 35, 18, value)
    return truth


def draw_masks(count: int, seed: int = 0) -> list[Any]:
    """Return masks of annotators who are wrong in more and more pixels, the last one in a fifth."""
    rng, truth = np.random.default_rng(seed), draw_truth()
    shares = np.linspace(0.02, 0.2, count)
    return [np.where(rng.random(SIZE) < share, 1 - truth, truth).astype(np.uint8) for share in shares]


def staple(masks: list[Any]) -> Any:
    """Return the probabilities of equations 14 to 18 of Warfield et al. (2004), in float64 with its prior."""
    d = np.stack([each.ravel() for each in masks]).astype(np.float64)
    p = q = np.full(len(d), 0.99999)
    prior = d.mean()
    for _ in range(200):
        a = prior * np.prod(np.where(d == 1, p[:, None], 1 - p[:, None]), 0)
        b = (1 - prior) * np.prod(np.where(d == 0, q[:, None], 1 - q[:, None]), 0)
        weights = a / (a + b)
        p, q = (d * weights).sum(1) / weights.sum(), ((1 - d) * (1 - weights)).sum(1) / (1 - weights).sum()
    return weights.reshape(SIZE)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_regions_are_merged_by_the_published_formula(count: int) -> None:
    masks = draw_masks(count)
    assert np.array_equal(merge_masks(masks), staple(masks) >= 0.5)


def test_the_consensus_is_nearer_to_the_truth_than_a_vote() -> None:
    """Two careful annotators against three careless ones, who would outvote them."""
    masks, truth = draw_masks(2) + [draw_masks(9, seed)[-1] for seed in (1, 2, 3)], draw_truth()
    vote = np.sum(masks, 0) > 2
    assert (merge_masks(masks) != truth).sum() < (vote != truth).sum()


def test_what_all_agree_on_is_the_truth() -> None:
    truth = draw_truth(7)
    assert np.array_equal(merge_classes([truth, truth]), truth)
    assert np.array_equal(merge_masks([truth, truth]), truth > 0)
    empty = np.zeros(SIZE, np.uint8)
    assert not merge_masks([empty, empty, empty]).any()


def test_one_of_two_saw_nothing() -> None:
    merged = merge_masks([draw_truth(), np.zeros(SIZE, np.uint8)])
    assert not np.any(merged[draw_truth() == 0])


def test_classes_are_merged_with_their_values() -> None:
    truth = draw_truth(40)
    draw_disc(truth, 45, 60, 10, 3)
    rng, maps = np.random.default_rng(0), []
    for share in (0.05, 0.1, 0.15):
        wrong = rng.choice(np.array([0, 3, 40], np.uint16), SIZE)
        maps.append(np.where(rng.random(SIZE) < share, wrong, truth))
    merged = merge_classes(maps)
    assert set(np.unique(merged)) == {0, 3, 40}
    assert (merged != truth).mean() < 0.01
    assert merged.dtype == np.uint16


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """images/, and truth/ with a folder for each of three annotators; only one of them drew "two"."""
    (tmp_path / "images").mkdir()
    for name in ("one", "two"):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
    for annotator, mask in zip(("anna", "ben", "cleo"), draw_masks(3), strict=True):
        (tmp_path / "truth" / annotator).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "truth" / annotator / "one.png")
    Image.fromarray(draw_masks(3)[1]).save(tmp_path / "truth/ben/two.png")
    (tmp_path / "truth/.hidden").mkdir()
    (tmp_path / "truth/notes.txt").write_text("three annotators")
    return tmp_path


def test_evaluation_and_training_read_the_same_truth(folders: Path) -> None:
    masks = draw_masks(3)
    pairs = pair_files(folders / "images", folders / "truth", images=True, kind=MapKind.BINARY)
    assert [len(each.truths) for each in pairs] == [3, 1]
    expected = [merge_masks(masks), masks[1]]
    for pair, truth in zip(pairs, expected, strict=True):
        assert np.array_equal(read_truth(pair, MapKind.BINARY), truth)
    for class_count in (1, 2):
        labelled = read_folders(folders / "images", folders / "truth", 1 << 20, class_count)
        assert np.array_equal(labelled[0].mask, (merge_masks if class_count == 1 else merge_classes)(masks))
        assert np.array_equal(labelled[1].mask, masks[1])
        assert labelled[0].mask.dtype == np.int32


def test_objects_of_several_annotators_are_refused(folders: Path) -> None:
    for refused in (
        lambda: pair_files(folders / "images", folders / "truth", images=True, kind=MapKind.LABELS),
        lambda: read_folders(folders / "images", folders / "truth", 1 << 20),
    ):
        with pytest.raises(BadInput, match=r"anna, ben, cleo.*number the objects") as caught:
            refused()
        assert "truth/anna" in str(caught.value.remedy)


def test_an_image_that_nobody_drew_is_named(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders / "truth/ben/two.png").unlink()
    pairs = pair_files(folders / "images", folders / "truth", images=True, kind=MapKind.CLASSES)
    assert [pair.name for pair in pairs] == ["one"]
    assert "two.png has no truth" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no mask for the image of two"):
        read_folders(folders / "images", folders / "truth", 1 << 20, 1)


def test_a_mask_of_another_size_is_named(folders: Path) -> None:
    Image.fromarray(np.ones((9, 9), np.uint8)).save(folders / "truth/cleo/one.png")
    [one, _] = pair_files(folders / "images", folders / "truth", images=True, kind=MapKind.CLASSES)
    with pytest.raises(BadInput, match=r"cleo/one\.png is 9 x 9"):
        read_truth(one, MapKind.CLASSES)
    with pytest.raises(BadInput, match=r"one\.png has 9 x 9"):
        read_folders(folders / "images", folders / "truth", 1 << 20, 1)
