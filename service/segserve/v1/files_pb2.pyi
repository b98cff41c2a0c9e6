from segserve.v1 import segmentation_pb2 as _segmentation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_KIND_UNSPECIFIED: _ClassVar[FileKind]
    FILE_KIND_VIDEO: _ClassVar[FileKind]
    FILE_KIND_FRAMES: _ClassVar[FileKind]
    FILE_KIND_PICTURES: _ClassVar[FileKind]
    FILE_KIND_VOLUME: _ClassVar[FileKind]
FILE_KIND_UNSPECIFIED: FileKind
FILE_KIND_VIDEO: FileKind
FILE_KIND_FRAMES: FileKind
FILE_KIND_PICTURES: FileKind
FILE_KIND_VOLUME: FileKind

class Spacing(_message.Message):
    __slots__ = ("slice", "row", "column")
    SLICE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    slice: float
    row: float
    column: float
    def __init__(self, slice: _Optional[float] = ..., row: _Optional[float] = ..., column: _Optional[float] = ...) -> None: ...

class FileContent(_message.Message):
    __slots__ = ("series", "description", "times", "frames", "width", "height", "taken_time", "notes")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_TIME_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    series: str
    description: str
    times: int
    frames: int
    width: int
    height: int
    taken_time: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, series: _Optional[str] = ..., description: _Optional[str] = ..., times: _Optional[int] = ..., frames: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., taken_time: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class LeftOutFile(_message.Message):
    __slots__ = ("name", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class LeftOut(_message.Message):
    __slots__ = ("count", "files")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    count: int
    files: _containers.RepeatedCompositeFieldContainer[LeftOutFile]
    def __init__(self, count: _Optional[int] = ..., files: _Optional[_Iterable[_Union[LeftOutFile, _Mapping]]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("file_id", "kind", "format", "frames", "width", "height", "fps", "spacing", "contents", "left_out")
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FPS_FIELD_NUMBER: _ClassVar[int]
    SPACING_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    kind: FileKind
    format: str
    frames: int
    width: int
    height: int
    fps: float
    spacing: Spacing
    contents: _containers.RepeatedCompositeFieldContainer[FileContent]
    left_out: LeftOut
    def __init__(self, file_id: _Optional[str] = ..., kind: _Optional[_Union[FileKind, str]] = ..., format: _Optional[str] = ..., frames: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., fps: _Optional[float] = ..., spacing: _Optional[_Union[Spacing, _Mapping]] = ..., contents: _Optional[_Iterable[_Union[FileContent, _Mapping]]] = ..., left_out: _Optional[_Union[LeftOut, _Mapping]] = ...) -> None: ...

class FileOptions(_message.Message):
    __slots__ = ("series", "time")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    series: str
    time: int
    def __init__(self, series: _Optional[str] = ..., time: _Optional[int] = ...) -> None: ...

class DicomwebSource(_message.Message):
    __slots__ = ("url", "study", "series")
    URL_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    url: str
    study: str
    series: str
    def __init__(self, url: _Optional[str] = ..., study: _Optional[str] = ..., series: _Optional[str] = ...) -> None: ...

class UploadFileRequest(_message.Message):
    __slots__ = ("chunk", "options", "dicomweb")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DICOMWEB_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    options: FileOptions
    dicomweb: DicomwebSource
    def __init__(self, chunk: _Optional[bytes] = ..., options: _Optional[_Union[FileOptions, _Mapping]] = ..., dicomweb: _Optional[_Union[DicomwebSource, _Mapping]] = ...) -> None: ...

class UploadFileResponse(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: File
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class ReadLabelsRequest(_message.Message):
    __slots__ = ("file_id", "axis", "chunk")
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    AXIS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    axis: int
    chunk: bytes
    def __init__(self, file_id: _Optional[str] = ..., axis: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("object_id", "name", "mask", "box", "area")
    OBJECT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    object_id: int
    name: str
    mask: _segmentation_pb2.Rle
    box: _segmentation_pb2.Box
    area: int
    def __init__(self, object_id: _Optional[int] = ..., name: _Optional[str] = ..., mask: _Optional[_Union[_segmentation_pb2.Rle, _Mapping]] = ..., box: _Optional[_Union[_segmentation_pb2.Box, _Mapping]] = ..., area: _Optional[int] = ...) -> None: ...

class ReadLabelsResponse(_message.Message):
    __slots__ = ("slice", "objects")
    SLICE_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    slice: int
    objects: _containers.RepeatedCompositeFieldContainer[Label]
    def __init__(self, slice: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[Label, _Mapping]]] = ...) -> None: ...

class GetFileRequest(_message.Message):
    __slots__ = ("file_id",)
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    def __init__(self, file_id: _Optional[str] = ...) -> None: ...

class GetFileResponse(_message.Message):
    __slots__ = ("file",)
    FILE_FIELD_NUMBER: _ClassVar[int]
    file: File
    def __init__(self, file: _Optional[_Union[File, _Mapping]] = ...) -> None: ...

class DeleteFileRequest(_message.Message):
    __slots__ = ("file_id",)
    FILE_ID_FIELD_NUMBER: _ClassVar[int]
    file_id: str
    def __init__(self, file_id: _Optional[str] = ...) -> None: ...

class DeleteFileResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
