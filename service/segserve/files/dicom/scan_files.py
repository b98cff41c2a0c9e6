"""Read the headers of all files of an upload, each once."""

import io
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from segserve.errors import BadInput
from segserve.files.dicom.detect_dicom import is_dicom
from segserve.files.dicom.dicom_entries import DicomEntries
from segserve.files.dicom.image_file import Frame
from segserve.files.dicom.read_header import Header, HeaderCutShort, NotAnImage, read_header
from segserve.sandbox.confine import allow_memory
from segserve.types import LeftOutFile

# Frames of all files together.
MAX_FRAMES = 500_000
# What one takes, with what its header says.
FRAME_BYTES = 4000


@dataclass(frozen=True)
class DamagedFile:
    """A file that is DICOM, and cannot be read. series_uid: empty where that is not known."""

    name: str
    subject: str
    series_uid: str
    reason: str

    def lies_beside(self, names: list[str]) -> bool:
        """Return whether the file is in the folder of one of these, and has the same suffix."""
        return any(
            PurePosixPath(self.name).parent == PurePosixPath(name).parent
            and PurePosixPath(self.name).suffix == PurePosixPath(name).suffix
            for name in names
        )


@dataclass
class ScannedFiles:
    """What is in an upload: frames of images, files that hold none, and damaged ones."""

    frames: list[Frame] = field(default_factory=list)
    left_out: list[LeftOutFile] = field(default_factory=list)
    damaged: list[DamagedFile] = field(default_factory=list)


def scan_files(entries: DicomEntries) -> ScannedFiles:
    """Return what the headers of all files say. Raises BadInput, MemoryError."""
    scanned = ScannedFiles()
    known = set[object]()
    for entry in range(entries.count):
        name = entries.name(entry)
        try:
            header = read_entry(entries, entry)
        except NotAnImage as no_image:
            scanned.left_out.append(LeftOutFile(name, str(no_image)))
            continue
        except HeaderCutShort as cut:
            reason = f"{entries.describe(entry)} ends before its pixels, after {cut.at} bytes."
            scanned.damaged.append(DamagedFile(name, entries.describe(entry), cut.series_uid, reason))
            continue
        except BadInput as damage:
            scanned.damaged.append(DamagedFile(name, entries.describe(entry), "", damage.message))
            continue
        file, first = header.file, header.frames[0]
        identity = (file.sop_instance_uid, file.instance_number, len(header.frames), first.position, first.keys,
                    entries.size(entry))  # fmt: skip
        if file.sop_instance_uid and identity in known:
            scanned.left_out.append(LeftOutFile(name, "It is there twice."))
            continue
        known.add(identity)
        scanned.frames += header.frames
        allow_memory(FRAME_BYTES * len(scanned.frames))
        if len(scanned.frames) > MAX_FRAMES:
            raise BadInput(
                f"The files hold over {MAX_FRAMES} frames.", field="file", remedy="Send one series at a time."
            )
    return scanned


def read_entry(entries: DicomEntries, entry: int) -> Header:
    """Raises NotAnImage, HeaderCutShort, BadInput."""
    head = entries.head(entry)
    name = entries.name(entry)
    if not is_dicom(head):
        raise NotAnImage("It is not DICOM.")
    size = entries.size(entry)
    try:
        return read_header(io.BytesIO(head), entry, name)
    except (HeaderCutShort, NotAnImage):
        if len(head) >= size:
            raise
    with entries.open(entry) as stream:
        return read_header(stream, entry, name)
