from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadUsageRequest(_message.Message):
    __slots__ = ("first_day", "last_day", "tenant")
    FIRST_DAY_FIELD_NUMBER: _ClassVar[int]
    LAST_DAY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    first_day: str
    last_day: str
    tenant: str
    def __init__(self, first_day: _Optional[str] = ..., last_day: _Optional[str] = ..., tenant: _Optional[str] = ...) -> None: ...

class UsageAmounts(_message.Message):
    __slots__ = ("encoded_images", "encode_seconds", "clicks", "automatic_images", "similar_images", "semantic_images", "instances_images", "job_seconds")
    ENCODED_IMAGES_FIELD_NUMBER: _ClassVar[int]
    ENCODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CLICKS_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SIMILAR_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEMANTIC_IMAGES_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_IMAGES_FIELD_NUMBER: _ClassVar[int]
    JOB_SECONDS_FIELD_NUMBER: _ClassVar[int]
    encoded_images: int
    encode_seconds: float
    clicks: int
    automatic_images: int
    similar_images: int
    semantic_images: int
    instances_images: int
    job_seconds: float
    def __init__(self, encoded_images: _Optional[int] = ..., encode_seconds: _Optional[float] = ..., clicks: _Optional[int] = ..., automatic_images: _Optional[int] = ..., similar_images: _Optional[int] = ..., semantic_images: _Optional[int] = ..., instances_images: _Optional[int] = ..., job_seconds: _Optional[float] = ...) -> None: ...

class UsageDay(_message.Message):
    __slots__ = ("day", "amounts", "stored_bytes")
    DAY_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    day: str
    amounts: UsageAmounts
    stored_bytes: int
    def __init__(self, day: _Optional[str] = ..., amounts: _Optional[_Union[UsageAmounts, _Mapping]] = ..., stored_bytes: _Optional[int] = ...) -> None: ...

class TenantUsage(_message.Message):
    __slots__ = ("tenant", "total", "days")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    total: UsageAmounts
    days: _containers.RepeatedCompositeFieldContainer[UsageDay]
    def __init__(self, tenant: _Optional[str] = ..., total: _Optional[_Union[UsageAmounts, _Mapping]] = ..., days: _Optional[_Iterable[_Union[UsageDay, _Mapping]]] = ...) -> None: ...

class ReadUsageResponse(_message.Message):
    __slots__ = ("first_day", "last_day", "tenants")
    FIRST_DAY_FIELD_NUMBER: _ClassVar[int]
    LAST_DAY_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    first_day: str
    last_day: str
    tenants: _containers.RepeatedCompositeFieldContainer[TenantUsage]
    def __init__(self, first_day: _Optional[str] = ..., last_day: _Optional[str] = ..., tenants: _Optional[_Iterable[_Union[TenantUsage, _Mapping]]] = ...) -> None: ...
