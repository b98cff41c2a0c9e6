"""Files as messages."""

from segserve.types import FileRecord
from segserve.v1 import files_pb2


def file_to_message(record: FileRecord) -> files_pb2.File:
    message = files_pb2.File(
        file_id=record.file_id,
        kind=f"FILE_KIND_{record.kind.name}",
        format=record.format,
        frames=record.count,
        width=record.size.width,
        height=record.size.height,
        fps=record.fps,
    )
    if record.spacing is not None:
        z, y, x = record.spacing
        message.spacing.MergeFrom(files_pb2.Spacing(slice=z, row=y, column=x))
    return message
