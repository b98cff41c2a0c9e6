"""A client of segserve: masks for clicks, whole images, videos and volumes, with numpy arrays in and out.

    from segserve_client import Client

    with Client("http://127.0.0.1:8000") as client, client.image("nuclei.png") as image:
        mask = image.segment(points=[[413, 190]])
        print(mask.score, mask.array.sum())

`Client` blocks; `AsyncClient` has the same methods to await. `Image` is a picture, `Job` is long work.
"""

from segserve_client.answers import (
    ClassArea,
    ClassMap,
    FileContent,
    ImageObjects,
    Label,
    LabelSlice,
    LabelVolume,
    MaskAnswer,
    Model,
    Object,
    SegmentAnswer,
    SimilarObject,
    SimilarObjects,
    StoredFile,
    StoredImage,
)
from segserve_client.async_client import AsyncClient
from segserve_client.async_image import AsyncImage, AsyncMask
from segserve_client.async_job import AsyncJob
from segserve_client.client import Client
from segserve_client.errors import (
    BadRequest,
    ClientError,
    FileNotFound,
    ImageNotFound,
    JobNotFound,
    MaskNotFound,
    ModelNotFound,
    NotAllowed,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from segserve_client.image import Image, Mask
from segserve_client.job import Job
from segserve_client.job_answers import (
    Frame,
    FrameObject,
    Item,
    JobFailed,
    JobInfo,
    JobStillRunning,
    ObjectEnd,
)
from segserve_client.prompts import FramePrompt, Prompt
from segserve_client.retry import NO_RETRIES, RetryPolicy
from segserve_client.rle import Rle
from segserve_client.usage import Link, TenantUsage, Usage, UsageAmounts, UsageDay

__version__ = "0.2.0"

__all__ = [
    "NO_RETRIES",
    "AsyncClient",
    "AsyncImage",
    "AsyncJob",
    "AsyncMask",
    "BadRequest",
    "ClassArea",
    "ClassMap",
    "Client",
    "ClientError",
    "FileContent",
    "FileNotFound",
    "Frame",
    "FrameObject",
    "FramePrompt",
    "Image",
    "ImageNotFound",
    "ImageObjects",
    "Item",
    "Job",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobStillRunning",
    "Label",
    "LabelSlice",
    "LabelVolume",
    "Link",
    "Mask",
    "MaskAnswer",
    "MaskNotFound",
    "Model",
    "ModelNotFound",
    "NotAllowed",
    "NotFound",
    "Object",
    "ObjectEnd",
    "Problem",
    "Prompt",
    "RetryPolicy",
    "Rle",
    "SegmentAnswer",
    "SimilarObject",
    "SimilarObjects",
    "StoredFile",
    "StoredImage",
    "TenantUsage",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Usage",
    "UsageAmounts",
    "UsageDay",
]
