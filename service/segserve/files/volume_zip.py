"""Read volumes in a zip: whole files, or a header and its voxels (.hdr and .img, .nhdr and .raw, .mhd and .raw).

A header's name for its file of voxels is looked up in the zip only. No name in the zip becomes a path.
"""

import posixpath
import tempfile
import zipfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from segserve.errors import BadInput
from segserve.files.file_contents import choose_series, list_contents, list_left_out
from segserve.files.volume_file import VolumeFile, describe_content, parse_volume_header
from segserve.files.volume_format import MAX_HEADER_BYTES, detect_volume_format
from segserve.files.volume_headers.nifti import PAIR_DATA_FILE, parse_nifti
from segserve.files.volume_headers.volume_header import VolumeHeader
from segserve.files.voxel_data import GZIP_MAGIC, read_head
from segserve.files.zip_archive import (
    ZIP_ERRORS,
    BoundedZip,
    check_entries,
    has_picture_suffix,
    is_hidden,
    wrap_zip_errors,
)
from segserve.files.zip_names import natural_sort_key
from segserve.temporary_files import translate_disk_full
from segserve.types import FileLimits, FileOptions, LeftOutFile

PAIR_HEADER_SUFFIXES = (".hdr", ".hdr.gz")
PAIR_DATA_SUFFIXES = (".img", ".img.gz")
VOLUME_SUFFIXES = (*PAIR_HEADER_SUFFIXES, ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgh", ".mgz")
# Volumes in a zip whose headers are read; what comes after them is left out.
MAX_VOLUMES = 1000
COPY_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class ZippedVolume:
    """`ZippedVolume` is a volume in a zip. entry: of the file with its voxels."""

    name: str
    header: VolumeHeader
    entry: zipfile.ZipInfo


def holds_volumes(path: Path) -> bool:
    """Return whether a zip has files that are volumes by their names, and no pictures. Raises TooLarge."""
    try:
        with BoundedZip(path) as archive:
            infos = archive.infolist()
    except ZIP_ERRORS:
        return False
    has_pictures = any(has_picture_suffix(info.filename) and not is_hidden(info.filename) for info in infos)
    return any(map(is_volume, infos)) and not has_pictures


def is_volume(info: zipfile.ZipInfo) -> bool:
    return not is_hidden(info.filename) and info.filename.lower().endswith(VOLUME_SUFFIXES)


def open_zipped_volume(path: Path, limits: FileLimits, options: FileOptions) -> VolumeFile:
    """Open the volume that `options.series` names, else the largest one.

    Raises BadInput, TooLarge, MissingDependency.
    """
    with wrap_zip_errors("The zip"), translate_disk_full(), BoundedZip(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir() and not is_hidden(info.filename)]
        check_entries(infos, limits.max_mb)
        volumes, left_out = read_headers(archive, infos)
        if not volumes:
            raise no_volume_error(left_out)
        sizes = [volume.header.values_per_time for volume in volumes]
        taken = choose_series([volume.name for volume in volumes], options.series, sizes.index(max(sizes)))
        volume = volumes[taken]
        folder = tempfile.TemporaryDirectory()
        try:
            data_path = Path(folder.name) / "voxels"
            with archive.open(volume.entry) as entry, data_path.open("wb") as out:
                while chunk := entry.read(COPY_CHUNK_BYTES):
                    out.write(chunk)
            opened = VolumeFile(volume.header, data_path, limits.max_voxels, options.time, folder)
        except BaseException:
            folder.cleanup()
            raise
    opened.contents = list_contents(
        [
            describe_content(each.name, each.header, opened.taken_time if each is volume else None)
            for each in volumes
        ]
    )
    opened.left_out = list_left_out(left_out)
    return opened


def read_headers(
    archive: BoundedZip, infos: list[zipfile.ZipInfo]
) -> tuple[list[ZippedVolume], list[LeftOutFile]]:
    """Return the volumes in natural order of their names, and the files that are no part of one.

    Raises MissingDependency.
    """
    entries = {info.filename.replace("\\", "/").lower(): info for info in infos}
    candidates = sorted(filter(is_volume, infos), key=lambda info: natural_sort_key(info.filename))
    volumes, reasons, used = list[ZippedVolume](), dict[str, str](), set[str]()
    for info in candidates[:MAX_VOLUMES]:
        try:
            with wrap_zip_errors(f"{info.filename[:100]!r} in the zip"):
                volume = read_header(archive, info, entries)
        except BadInput as error:
            reasons[info.filename] = error.message
            continue
        volumes.append(volume)
        used |= {info.filename, volume.entry.filename}
        if info.filename.lower().endswith(PAIR_HEADER_SUFFIXES):
            used.add(pair_stem(info.filename) + ".mat")
    left_out = [
        LeftOutFile(info.filename, reasons.get(info.filename, "It is no volume, and belongs to none."))
        for info in infos
        if info.filename not in used
    ]
    return volumes, left_out


def read_header(
    archive: BoundedZip, info: zipfile.ZipInfo, entries: dict[str, zipfile.ZipInfo]
) -> ZippedVolume:
    """Return the volume whose header is an entry. entries: of the zip, by names in lower case. Raises BadInput."""
    with archive.open(info) as entry:
        beginning = BytesIO(entry.read(MAX_HEADER_BYTES))
    if info.filename.lower().endswith(PAIR_HEADER_SUFFIXES):
        encoding = "gzip" if beginning.getvalue().startswith(GZIP_MAGIC) else "raw"
        matrix_file = read_matrix_file(archive, info.filename, entries)
        header = parse_nifti(read_head(beginning, encoding, MAX_HEADER_BYTES), "raw", matrix_file)
    elif (file_format := detect_volume_format(beginning)) is not None:
        header = parse_volume_header(beginning, file_format)
    else:
        raise BadInput("It is not what its name says.")
    if header.data_file is None:
        return ZippedVolume(info.filename, header, info)
    data_entry = find_data_entry(info.filename, header.data_file, entries)
    with archive.open(data_entry) as entry:
        is_gzip = entry.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    if is_gzip and header.data.encoding == "raw" and header.data_file == PAIR_DATA_FILE:
        header = replace(header, data=replace(header.data, encoding="gzip"))
    return ZippedVolume(info.filename, header, data_entry)


def read_matrix_file(archive: BoundedZip, name: str, entries: dict[str, zipfile.ZipInfo]) -> bytes | None:
    """Return SPM's .mat beside the header of a pair, None where there is none."""
    entry = entries.get(pair_stem(name).lower() + ".mat")
    if entry is None:
        return None
    with archive.open(entry) as file:
        return file.read(MAX_HEADER_BYTES)


def pair_stem(name: str) -> str:
    """Return the name of a pair's header without its suffix."""
    name = name.replace("\\", "/")
    return next(name[: -len(suffix)] for suffix in PAIR_HEADER_SUFFIXES if name.lower().endswith(suffix))


def find_data_entry(name: str, data_file: str, entries: dict[str, zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the entry with the voxels of a header. name: of the header. data_file: as the header says it.

    Raises BadInput.
    """
    if data_file == PAIR_DATA_FILE:
        wanted = [pair_stem(name) + suffix for suffix in PAIR_DATA_SUFFIXES]
    else:
        name = name.replace("\\", "/")
        relative = data_file.replace("\\", "/").removeprefix("./")
        wanted = [posixpath.normpath(posixpath.join(posixpath.dirname(name), relative))]
    for each in wanted:
        if (entry := entries.get(each.lower())) is not None:
            return entry
    raise BadInput(f"Its voxels, {posixpath.basename(wanted[0])[:60]!r}, are not in the zip beside it.")


def no_volume_error(left_out: list[LeftOutFile]) -> BadInput:
    """Return the refusal of a zip of which no volume can be read: with the reason of the first one."""
    first = next((file for file in left_out if file.name.lower().endswith(VOLUME_SUFFIXES)), left_out[0])
    return BadInput(
        f"No volume in the zip can be read. {first.name[-100:]!r}: {first.reason}",
        field="file",
        remedy="Put a volume into the zip, or a header and its file of voxels side by side.",
    )
