"""The output file of a command: its format by its suffix, and writing it whole or not at all."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import typer

from segserve.errors import BadInput
from segserve.wire.schemas.objects import ResultFormat

F = TypeVar("F")

LABEL_MAPS = {"png", "tiff"}
IMAGE_FORMATS = {".png": "png", ".tif": "tiff", ".tiff": "tiff", ".npy": "npy"}


def choose_format_by_suffix(output: Path, formats: Mapping[str, F], *, hint: str = "") -> F:
    """Return the format that the suffix of the output names.

    formats: formats by suffix, such as ".nii.gz"; case does not matter.
    hint: what else the user can do, as the end of a sentence.

    Raises BadInput for another suffix, and where the output's folder does not exist.
    """
    for suffix, format in formats.items():
        if output.name.lower().endswith(suffix):
            check_folder(output)
            return format
    raise BadInput(
        f"{output.name!r} does not say what to write.",
        field="--output",
        remedy=f"End it with one of {', '.join(formats)}{hint}.",
    )


def choose_image_format(output: Path, explicit: str | None, *, json: str) -> str:
    """Return the format of a result on one image: the explicit one, or the one of the output's suffix.

    explicit: what `--format` says. json: the format that .json stands for.

    Raises BadInput as `choose_format_by_suffix` does.
    """
    if explicit is not None:
        check_folder(output)
        return explicit
    return choose_format_by_suffix(output, {**IMAGE_FORMATS, ".json": json}, hint=", or give --format")


def choose_map_outputs(
    output: Path, explicit: str | None, overlay: Path | None, *, json: str
) -> dict[Path, ResultFormat]:
    """Return the format of each file to write: of the output, and of the overlay if there is one.

    explicit, json: as `choose_image_format` takes them. Raises BadInput.
    """
    outputs = {output: ResultFormat(choose_image_format(output, explicit, json=json))}
    if overlay is not None:
        check_png(overlay, "--overlay")
        outputs[overlay] = ResultFormat.OVERLAY
    return outputs


def check_png(output: Path, option: str) -> None:
    """Check that an output that is written as PNG is named so, and that its folder exists. Raises BadInput."""
    if output.suffix.lower() != ".png":
        raise BadInput(f"{output.name!r} would be a PNG.", field=option, remedy="End it with .png.")
    check_folder(output)


def explain_label_map(output: Path, result_format: str, meaning: str, overlay: str) -> None:
    """Say why a picture of labels looks black, where that is what was written.

    meaning: what its values are. overlay: the option that makes a picture to look at.
    """
    if result_format in LABEL_MAPS:
        typer.echo(
            f"{output.name} holds numbers, 0 for the background and {meaning}: viewers show it nearly black."
            f" {overlay} makes a picture to look at."
        )


def check_folder(output: Path) -> None:
    """Raises BadInput where the folder of the output does not exist."""
    if not output.absolute().parent.is_dir():
        raise BadInput(
            f"There is no folder {str(output.parent)!r}.", field="--output", remedy="Create it first."
        )


@contextmanager
def write_atomically(output: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the output's name when the block ends without an error.

    A failed command leaves no half-written output.
    """
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as out:
            yield out
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
