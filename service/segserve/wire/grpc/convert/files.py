"""Files and labels as messages, and options of files from messages."""

from typing import Any

from segserve.errors import BadInput
from segserve.files.fetch_dicomweb import DicomwebSource
from segserve.files.file_contents import MAX_NAME_CHARS
from segserve.types import FileContent, FileOptions, FileRecord, LeftOut
from segserve.v1 import files_pb2, segmentation_pb2


def file_to_message(record: FileRecord) -> files_pb2.File:
    message = files_pb2.File(
        file_id=record.file_id,
        kind=f"FILE_KIND_{record.kind.name}",
        format=record.format,
        frames=record.count,
        width=record.size.width,
        height=record.size.height,
        fps=record.fps,
        contents=map(content_to_message, record.contents),
        left_out=left_out_to_message(record.left_out),
    )
    if record.spacing is not None:
        z, y, x = record.spacing
        message.spacing.MergeFrom(files_pb2.Spacing(slice=z, row=y, column=x))
    return message


def content_to_message(content: FileContent) -> files_pb2.FileContent:
    return files_pb2.FileContent(
        series=content.series,
        description=content.description,
        times=content.times,
        frames=content.count,
        width=content.size.width,
        height=content.size.height,
        taken_time=content.taken_time,
        notes=content.notes,
    )


def left_out_to_message(left_out: LeftOut) -> files_pb2.LeftOut:
    files = [files_pb2.LeftOutFile(name=file.name, reason=file.reason) for file in left_out.files]
    return files_pb2.LeftOut(count=left_out.count, files=files)


def dicomweb_source_from_message(message: files_pb2.DicomwebSource) -> DicomwebSource:
    return DicomwebSource(message.url, message.study, message.series if message.HasField("series") else None)


def file_options_from_message(message: files_pb2.FileOptions) -> FileOptions:
    """Raises BadInput naming the field at fault."""
    series = message.series if message.HasField("series") else None
    if series is not None and not 0 < len(series) <= MAX_NAME_CHARS:
        raise BadInput(
            f"The name of the series has {len(series)} characters.",
            field="options.series",
            remedy=f"Send 1 to {MAX_NAME_CHARS}, or its number.",
        )
    return FileOptions(series, message.time if message.HasField("time") else None)


def labels_to_messages(labels: dict[str, Any]) -> list[bytes]:
    """Return the bytes of a ReadLabelsResponse for each slice. labels: the JSON of `LabelsOut`. Blocks."""
    return [
        files_pb2.ReadLabelsResponse(
            slice=one["slice"], objects=map(label_to_message, one["objects"])
        ).SerializeToString()
        for one in labels["slices"]
    ]


def label_to_message(label: dict[str, Any]) -> files_pb2.Label:
    """label: the JSON of `LabelOut`."""
    height, width = label["mask"]["size"]
    x0, y0, x1, y1 = label["box"]
    return files_pb2.Label(
        object_id=label["object_id"],
        name=label["name"],
        mask=segmentation_pb2.Rle(height=height, width=width, counts=label["mask"]["counts"]),
        box=segmentation_pb2.Box(x0=x0, y0=y0, x1=x1, y1=y1),
        area=label["area"],
    )
