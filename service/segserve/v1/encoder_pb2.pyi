from segserve.v1 import segmentation_pb2 as _segmentation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_INTERACTIVE: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]
PRIORITY_UNSPECIFIED: Priority
PRIORITY_INTERACTIVE: Priority
PRIORITY_BATCH: Priority

class ImageBytes(_message.Message):
    __slots__ = ("data", "options")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    options: _segmentation_pb2.ReadOptions
    def __init__(self, data: _Optional[bytes] = ..., options: _Optional[_Union[_segmentation_pb2.ReadOptions, _Mapping]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("x", "y", "width", "height")
    X_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    x: int
    y: int
    width: int
    height: int
    def __init__(self, x: _Optional[int] = ..., y: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("tenant", "image_id", "model", "digest", "priority", "image", "region", "client", "shown_width", "shown_height")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    SHOWN_WIDTH_FIELD_NUMBER: _ClassVar[int]
    SHOWN_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    image_id: str
    model: str
    digest: str
    priority: Priority
    image: ImageBytes
    region: Region
    client: str
    shown_width: int
    shown_height: int
    def __init__(self, tenant: _Optional[str] = ..., image_id: _Optional[str] = ..., model: _Optional[str] = ..., digest: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., image: _Optional[_Union[ImageBytes, _Mapping]] = ..., region: _Optional[_Union[Region, _Mapping]] = ..., client: _Optional[str] = ..., shown_width: _Optional[int] = ..., shown_height: _Optional[int] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("embedding", "encoder_seconds", "stage_seconds")
    class StageSecondsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ENCODER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    STAGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    embedding: bytes
    encoder_seconds: float
    stage_seconds: _containers.ScalarMap[str, float]
    def __init__(self, embedding: _Optional[bytes] = ..., encoder_seconds: _Optional[float] = ..., stage_seconds: _Optional[_Mapping[str, float]] = ...) -> None: ...
