"""The requests of images, files and models. Every function is pure: it sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segserve_client import answers, safetensors
from segserve_client.job_answers import JobInfo, parse_job
from segserve_client.prompts import Json, Prompt
from segserve_client.requests import Answer, Call, Request
from segserve_client.uploads import Upload

_ACCEPTED = 202
_BYTES = {"content-type": "application/octet-stream"}


@dataclass(frozen=True)
class ReadOptions:
    """How a picture is read. None leaves it to the service.

    page: of a file with several, from 0. channels: to take, in order. normalise: auto, none, minmax or percentile.
    stain: read as grey how much of a stain there is. invert: make dark bright.
    """

    page: int | None = None
    channels: Sequence[int] | None = None
    normalise: str | None = None
    stain: str | None = None
    invert: bool = False

    def to_query(self) -> dict[str, str]:
        query = {"page": self.page, "normalise": self.normalise, "stain": self.stain}
        result = {name: str(value) for name, value in query.items() if value is not None}
        if self.channels is not None:
            result["channels"] = ",".join(str(number) for number in self.channels)
        return {**result, "invert": "true"} if self.invert else result


def drop_none(**fields: Any) -> Json:
    """Return the fields that are not None: the service has its own defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def upload_image(upload: Upload, options: ReadOptions, model: str | None) -> Call[answers.StoredImage]:
    """model: which the image is encoded for at once."""
    query = {**options.to_query(), **({} if model is None else {"model": model})}
    request = Request("POST", "/v1/images", query, upload=upload, headers=_BYTES)
    return Call(request, lambda answer: answers.parse_image(answer.json()))


def get_image(image_id: str) -> Call[answers.StoredImage]:
    return Call(Request("GET", f"/v1/images/{image_id}"), lambda answer: answers.parse_image(answer.json()))


def delete_image(image_id: str) -> Call[None]:
    return Call(Request("DELETE", f"/v1/images/{image_id}"), lambda _: None)


def get_preview(image_id: str, max_side: int) -> Call[bytes]:
    request = Request(
        "GET", f"/v1/images/{image_id}/preview", {"max": str(max_side)}, headers={"accept": "image/png"}
    )
    return Call(request, lambda answer: answer.content)


def get_embedding(image_id: str, model: str | None) -> Call[dict[str, NDArray[Any]]]:
    request = Request("GET", f"/v1/images/{image_id}/embedding", drop_none(model=model))
    return Call(request, lambda answer: safetensors.parse(answer.content))


def segment(
    image_id: str, model: str | None, prompts: Sequence[Prompt], select: str, raw: bool
) -> Call[answers.SegmentAnswer]:
    body = drop_none(
        model=model, prompts=[prompt.to_json() for prompt in prompts], select=select, raw=raw or None
    )
    return Call(post_to_image(image_id, "segment", body), lambda a: answers.parse_segment(a.json()))


def automatic(
    image_id: str, model: str | None, options: Mapping[str, Any]
) -> Call[answers.ImageObjects | JobInfo]:
    """A large image becomes a job."""

    def parse(answer: Answer) -> answers.ImageObjects | JobInfo:
        content = answer.json()
        return parse_job(content) if answer.status == _ACCEPTED else answers.parse_objects(content)

    return Call(post_to_image(image_id, "automatic", {**drop_none(model=model), **options}), parse)


def instances(image_id: str, model: str | None, options: Mapping[str, Any]) -> Call[answers.ImageObjects]:
    request = post_to_image(image_id, "instances", {**drop_none(model=model), **options})
    return Call(request, lambda answer: answers.parse_objects(answer.json()))


def similar(
    image_id: str, model: str | None, examples: Sequence[Prompt], options: Mapping[str, Any]
) -> Call[answers.SimilarObjects]:
    body = {**drop_none(model=model), "examples": [prompt.to_json() for prompt in examples], **options}
    request = post_to_image(image_id, "similar", body)
    return Call(request, lambda answer: answers.parse_similar(answer.json()))


def semantic(image_id: str, model: str | None, options: Mapping[str, Any]) -> Call[answers.ClassMap]:
    request = post_to_image(image_id, "semantic", {**drop_none(model=model), **options})
    return Call(request, lambda answer: answers.parse_class_map(answer.json()))


def post_to_image(image_id: str, operation: str, body: Mapping[str, Any]) -> Request:
    """The image_id is in the path, so that a load balancer can send all requests on an image to one replica."""
    return Request("POST", f"/v1/images/{image_id}/{operation}", body={**body, "format": "rle"})


def upload_file(upload: Upload, series: str | None, time: int | None) -> Call[answers.StoredFile]:
    query = {name: str(value) for name, value in drop_none(series=series, time=time).items()}
    request = Request("POST", "/v1/files", query, upload=upload, headers=_BYTES)
    return Call(request, lambda answer: answers.parse_file(answer.json()))


def get_file(file_id: str) -> Call[answers.StoredFile]:
    return Call(Request("GET", f"/v1/files/{file_id}"), lambda answer: answers.parse_file(answer.json()))


def read_labels(upload: Upload, file_id: str, axis: int) -> Call[answers.LabelVolume]:
    request = Request(
        "POST", f"/v1/files/{file_id}/labels", {"axis": str(axis)}, upload=upload, headers=_BYTES
    )
    return Call(request, lambda answer: answers.parse_labels(answer.json()))


def delete_file(file_id: str) -> Call[None]:
    return Call(Request("DELETE", f"/v1/files/{file_id}"), lambda _: None)


def list_models() -> Call[tuple[answers.Model, ...]]:
    def parse(answer: Answer) -> tuple[answers.Model, ...]:
        return tuple(answers.parse_model(model) for model in answer.json()["models"])

    return Call(Request("GET", "/v1/models"), parse)


def get_version() -> Call[str]:
    return Call(Request("GET", "/version"), lambda answer: str(answer.json()["version"]))
