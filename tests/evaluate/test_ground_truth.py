"""Files of two folders are paired by name, and label maps are read, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from segserve.errors import BadInput
from segserve.evaluate.cli_choices import MapKind
from segserve.evaluate.ground_truth import (
    FilePair,
    check_pair,
    pair_files,
    read_label_map,
    read_map_pair,
    read_rgb,
)
from segserve.files.local_pictures import LocalPictures
from segserve.masks.label_map import encode_npy, encode_png, encode_tiff
from tests.evaluate.drawn_labels import draw_scene

Save = Callable[[Path], None]


def write_folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(b"x")
    return path


def test_files_are_paired_by_name_without_the_suffix(tmp_path: Path) -> None:
    prediction = write_folder(tmp_path / "prediction", "b.png", "a.tif", ".hidden.png", "notes.txt")
    truth = write_folder(tmp_path / "truth", "a.npy", "b.TIFF", "index.json")
    assert [
        (each.name, each.path.name, each.truth.name) for each in pair_files(prediction, truth, images=False)
    ] == [
        ("a", "a.tif", "a.npy"),
        ("b", "b.png", "b.TIFF"),
    ]


def test_images_may_be_jpeg_where_truths_may_not(tmp_path: Path) -> None:
    images, truth = write_folder(tmp_path / "images", "a.jpg"), write_folder(tmp_path / "truth", "a.png")
    assert len(pair_files(images, truth, images=True)) == 1
    with pytest.raises(BadInput, match="images holds no file"):
        pair_files(images, truth, images=False)


def test_images_are_of_any_format_that_the_service_reads(tmp_path: Path) -> None:
    images, truths = write_folder(tmp_path / "images"), write_folder(tmp_path / "truth")
    drawn = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(drawn).save(images / "a.ppm")
    Image.fromarray(drawn).save(images / "b.png")
    for name, height in (("a", 9), ("b", 8)):
        (truths / f"{name}.npy").write_bytes(encode_npy(np.zeros((height, 7), np.uint8)))
    first, second = pair_files(images, truths, images=True)
    with LocalPictures(1 << 20) as pictures:
        assert np.array_equal(read_rgb(first.path, pictures), drawn)
        check_pair(first, pictures)
        with pytest.raises(BadInput, match="7 x 9 pixels"):
            check_pair(second, pictures)


def test_what_has_no_truth_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = write_folder(tmp_path / "prediction", "a.png", "extra.png")
    truths = write_folder(tmp_path / "truth", "a.png")
    assert [pair.name for pair in pair_files(predictions, truths, images=False)] == ["a"]
    assert "extra.png has no truth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (["a.png", "b.png"], ["c.png"], r"c\.png have no partner in .*prediction"),
        (["a.png"], ["a.png", "c.tif"], r"c\.tif have no partner in .*prediction"),
        (["a.png", "a.tif"], ["a.png"], r"a\.png and a\.tif in .*prediction have the same name"),
        ([], ["a.png"], r"prediction holds no file ending in \.png"),
        (["a.txt"], ["a.png"], "prediction holds no file"),
        (["x.png"], [f"{i}.png" for i in range(9)] + ["x.png"], r"4\.png and 4 more have no partner"),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    tmp_path: Path, prediction: list[str], truth: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        pair_files(
            write_folder(tmp_path / "prediction", *prediction),
            write_folder(tmp_path / "truth", *truth),
            images=False,
        )


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a folder"):
        pair_files(tmp_path / "none", tmp_path, images=False)


@pytest.mark.parametrize(
    ("suffix", "encode"),
    [(".png", encode_png), (".tif", encode_tiff), (".tiff", encode_tiff), (".npy", encode_npy)],
)
def test_every_format_that_the_service_writes_can_be_read(
    tmp_path: Path, suffix: str, encode: Callable[[NDArray[np.uint16]], bytes]
) -> None:
    labels = draw_scene(0)[0] + np.uint16(1000)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode(labels))
    assert (read_label_map(path) == labels).all()


def test_the_indices_of_a_palette_are_the_classes(tmp_path: Path) -> None:
    """PASCAL VOC stores its class maps so."""
    indices = (draw_scene(0)[0] % 5).astype(np.uint8)
    picture = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    picture.putpalette([7, 7, 7, 200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    picture.save(tmp_path / "a.png", transparency=0)
    assert (read_label_map(tmp_path / "a.png") == indices).all()


@pytest.mark.parametrize("bits", ["1", "L"])
def test_masks_of_one_bit_and_of_eight_bits_are_read(tmp_path: Path, bits: str) -> None:
    mask = draw_scene(0)[0] > 0
    Image.fromarray(mask).convert(bits).save(tmp_path / "a.png")
    assert ((read_label_map(tmp_path / "a.png") > 0) == mask).all()


def colour(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path)


def array(values: NDArray[np.generic]) -> Save:
    def save(path: Path) -> None:
        if path.suffix == ".npy":
            np.save(path, values)
        else:
            tifffile.imwrite(path, values, photometric="minisblack")

    return save


def text(path: Path) -> None:
    path.write_bytes(b"no map at all")


def cut_short(path: Path) -> None:
    path.write_bytes(encode_png(draw_scene(0)[0])[:200])


def objects(path: Path) -> None:
    np.save(path, np.array([{}, "x"], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "save", "message"),
    [
        ("a.png", colour, "mode RGB"),
        ("a.png", text, "damaged"),
        ("a.png", cut_short, "damaged"),
        ("a.tif", text, "damaged"),
        ("a.npy", text, "damaged"),
        ("a.npy", objects, "damaged"),
        ("a.npy", array(np.zeros((4, 4, 3), np.uint8)), "not \\[height, width\\]"),
        ("a.npy", array(np.zeros((0, 4), np.uint8)), "not \\[height, width\\]"),
        ("a.npy", array(np.zeros((4, 4))), "not integers"),
        ("a.npy", array(np.full((4, 4), -1)), "below 0"),
        ("a.tif", array(np.zeros((3, 40, 40), np.uint8)), "pages"),
        ("a.tif", array(np.zeros((40, 40), np.float32)), "not integers"),
    ],
)
def test_a_file_that_is_not_a_map_is_refused_by_name(
    tmp_path: Path, name: str, save: Save, message: str
) -> None:
    path = tmp_path / name
    save(path)
    with pytest.raises(BadInput, match=message) as error:
        read_label_map(path)
    assert error.value.field == str(path)
    assert name in error.value.message


def test_maps_of_different_sizes_are_refused_by_name(tmp_path: Path) -> None:
    np.save(tmp_path / "prediction.npy", np.zeros((4, 6), int))
    np.save(tmp_path / "truth.npy", np.zeros((6, 4), int))
    with pytest.raises(BadInput, match=r"prediction\.npy is 6 x 4 pixels and .*truth\.npy is 4 x 6"):
        read_map_pair(FilePair("a", tmp_path / "prediction.npy", tmp_path / "truth.npy"), MapKind.LABELS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.npy"):
        read_label_map(tmp_path / "gone.npy")
